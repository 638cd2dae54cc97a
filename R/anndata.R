#' Turn an object into AnnData
#'
#' Counts travel without a transpose: a genes x cells `dgCMatrix` *is* the row-compressed matrix of cells x genes.
#' Metadata keep their types and what is missing; dates become text.
#'
#' @param object A Seurat object (any version; split layers are joined), a SingleCellExperiment, a matrix of genes x
#'   cells, an AnnData, or the path of an h5ad file.
#' @param assay Seurat: the assay, by default the object's own. Bioconductor: the same as `layer`.
#' @param layer Where the counts are: a layer, slot or assay of that name.
#' @param features Names of the features to keep, in their order; `NULL` keeps all.
#' @param protein_assay,protein_layer Counts of proteins to bring along, see [totalvi()]: they become a data frame in
#'   `obsm`, of that name. `NULL`: none.
#' @return A Python AnnData, cells x genes, with all metadata and reductions. It is not converted further: use
#'   [write_h5ad()] or Python's own methods.
#' @section Errors: `scelbo_setup_error` where the assay, layer or a feature is not there, with the nearest match.
#' @examples
#' \dontrun{
#' adata <- as_anndata(seurat_object)
#' write_h5ad(seurat_object, "cells.h5ad")
#' }
#' @export
as_anndata <- function(object, assay = NULL, layer = "counts", features = NULL, protein_assay = NULL,
                       protein_layer = "counts") {
  if (is_anndata(object)) return(python_anndata(object, features))
  cells <- read_cells(object, assay, layer)
  cells$counts <- as_sparse(cells$counts)
  beside <- beside_of(list(protein_assay = protein_assay, protein_layer = protein_layer))
  tables <- read_tables(object, list(beside = beside), cells)
  send_cells(cells, features, names(cells$obs), obsm = cells$obsm, var = cells$var, tables = tables)
}

#' @rdname as_anndata
#' @param path Where to write.
#' @export
write_h5ad <- function(object, path, assay = NULL, layer = "counts", features = NULL, protein_assay = NULL,
                       protein_layer = "counts") {
  adata <- as_anndata(object, assay, layer, features, protein_assay, protein_layer)
  with_python(adata$write_h5ad(path.expand(path)))
  invisible(path)
}

is_anndata <- function(object) {
  inherits(object, "python.builtin.object") || (is.character(object) && length(object) == 1)
}

python_anndata <- function(object, features = NULL, call = caller_env()) {
  if (is.character(object)) {
    check_file(object, call)
    object <- path.expand(object)
  }
  adata <- with_python(bridge(call)$as_anndata(object), call = call)
  if (is.character(object) && reticulate::py_to_r(bridge(call)$stays_on_disk(adata))) {
    rlang::inform(c(paste0("The counts stay in '", object, "': they would take more than a quarter of the memory."),
                    i = "They are read as they are needed, see ?read_backed."),
                  class = "scelbo_on_disk", .frequency = "once", .frequency_id = object)
  }
  if (is.null(features)) return(adata)
  features <- check_names(features, names_of(adata$var_names), "feature", call)
  with_python(bridge(call)$as_anndata(adata, as.list(features)), call = call)
}

# What read_cells() read -> AnnData of the chosen features and columns.
send_cells <- function(cells, features = NULL, columns = character(), obsm = list(), var = NULL, tables = list(),
                       call = caller_env()) {
  counts <- cells$counts
  if (!is.null(features)) {
    at <- match(check_names(features, rownames(counts), "feature", call), rownames(counts))
    counts <- counts[at, , drop = FALSE]
    if (!is.null(var)) var <- var[at, , drop = FALSE]
  }
  obs <- if (is.null(cells$obs)) bare_frame(colnames(counts)) else cells$obs[, columns, drop = FALSE]
  var <- if (is.null(var)) bare_frame(rownames(counts)) else var
  py <- bridge(call)
  with_python(py$anndata(
    if (stays_on_disk(counts)) disk_matrix(counts, call) else python_counts(counts, call),
    to_pandas(obs, colnames(counts)), to_pandas(var, rownames(counts)),
    if (length(obsm)) setNames(lapply(obsm, unname), paste0("X_", names(obsm))),
    as_dict(lapply(tables, function(table) reticulate::tuple(unname(table), as.list(colnames(table)))))
  ), call = call)
}

python_counts <- function(counts, call = caller_env()) {
  bridge(call)$counts(as.array(counts@i), as.array(counts@p), as.array(counts@x), ncol(counts), nrow(counts))
}

check_file <- function(path, call = caller_env()) {
  if (!file.exists(path)) abort_scelbo("setup", paste0("There is no file '", path.expand(path), "'."), call = call)
}

bare_frame <- function(names) data.frame(row.names = make.unique(names %||% character()))

# Every wanted name must be there; all that are not come in one error, each with its nearest match. Who only looks
# (check_data()) goes on with those that are there.
check_names <- function(wanted, known, what, call = caller_env()) {
  there <- wanted[wanted %in% known]
  absent <- setdiff(wanted, known)
  if (!length(absent)) return(invisible(there))
  describe <- function(name) paste(c(paste0("'", name, "'."), did_you_mean(name, known)), collapse = " ")
  problems <- vapply(head(absent, 8), describe, "")
  withRestarts(
    abort_scelbo(
      "setup", paste0("There is no such ", what, if (length(absent) > 8) paste0(" (", length(absent), " in all)"), ":"),
      if (length(known)) paste0("There are ", some_of(known), "."), unname(problems), call = call
    ),
    scelbo_go_on = function() there
  )
}
