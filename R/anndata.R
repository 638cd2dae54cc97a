#' Turn an object into AnnData
#'
#' All of a Seurat object or a SingleCellExperiment, so that [from_anndata] makes the same object again, and so that it opens
#' in scanpy or cellxgene:
#'
#' | Seurat | SingleCellExperiment | AnnData |
#' |---|---|---|
#' | counts of the default assay | assay `counts` | `X` |
#' | `data`, `scale.data`, other layers | other assays | `layers` |
#' | metadata of cells, features | `colData`, `rowData`, `rowRanges` | `obs`, `var` |
#' | variable features | | `var["highly_variable"]`, with `highly_variable_rank` if they have an order |
#' | reduction `pca` | reduced dimensions `pca` | `obsm["X_pca"]` |
#' | its loadings; standard deviations | attributes `rotation`; `varExplained` | `varm["PCs"]`; `uns["pca"]["variance"]` |
#' | graphs; neighbours | pairs of cells, of features | `obsp`, `varp` |
#' | other assays; a layer of some features | `altExps` | `obsm`, under their name |
#' | their reductions | their reduced dimensions | `obsm`, under both names |
#' | plain values of `Misc()` | of `metadata()` | `uns` |
#'
#' What AnnData has no place for (keys, which layer is which, orders that a file would sort, dates) is noted in `uns["R"]`.
#' Other assays stand in `obsm` because they are of the same cells, and so stay with these when cells are chosen in Python:
#' a data frame if they have up to 1,000 features, as models of proteins read it, else a sparse matrix whose features the note
#' names. [as_mudata()] makes modalities of them instead.
#'
#' Counts travel without a transpose: a genes x cells `dgCMatrix` *is* the row-compressed matrix of cells x genes. Values are of
#' 32 bits where that loses nothing, else of 64. Factors keep their levels, and all columns what is missing.
#'
#' @param object A Seurat object (any version; split layers are joined), a SingleCellExperiment, a matrix of genes x
#'   cells, an AnnData, or the path of an h5ad file.
#' @param assay Seurat: an assay that alone is wanted; `NULL`: all, of which the default assay is the AnnData's own.
#'   Bioconductor: the same as `layer`.
#' @param layer What is to be `X`: a layer, slot or assay of that name. `NULL`: the counts; of an object that was made
#'   from an AnnData what was `X` there.
#' @param features Names of the features to keep, in their order; `NULL` keeps all.
#' @param protein_assay,protein_layer Counts of proteins for [totalvi()]: checked, and zeros where nothing was measured. They
#'   become a data frame in `obsm`, of that name. `NULL`: as any other assay.
#' @return A Python AnnData, cells x genes. It is not converted further: use [write_h5ad()] or Python's own methods.
#'
#'   Not in it are images, commands and tools of Seurat, models (see [save_model()]), and columns that are no plain vectors.
#' @section Errors: `scelbo_setup_error` where the assay, layer or a feature is not there, with the nearest match;
#'   `scelbo_storage_error` where the file cannot be written.
#' @section Warnings: `scelbo_data_warning` names what is left out, as AnnData cannot hold it.
#' @seealso [from_anndata] for the way back.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' as_anndata(so)
#' path <- write_h5ad(so, tempfile(fileext = ".h5ad")) # layer = "data": for cellxgene, which wants X to be normalised
#' read_h5ad(path)
#' @export
as_anndata <- function(object, assay = NULL, layer = NULL, features = NULL, protein_assay = NULL, protein_layer = "counts") {
  if (is_anndata(object)) return(python_anndata(object, features))
  beside <- beside_of(list(protein_assay = protein_assay, protein_layer = protein_layer))
  if (inherits(object, "SummarizedExperiment")) layer <- assay %||% layer # Bioconductor's assay is Seurat's layer
  if (inherits(object, c("Seurat", "SummarizedExperiment"))) {
    whole <- whole_of(object)
    if (inherits(object, "Seurat")) {
      whole <- with_main_assay(whole, object, assay, layer)
      if (!is.null(layer)) check_layer(layer, names(whole$assays[[whole$main]]$layers), environment())
    } else if (!is.null(layer)) {
      check_assay(layer, names(whole$assays[[whole$main]]$layers), environment())
    }
    cells <- list(counts = matrix(0, 0, length(whole$cells), dimnames = list(NULL, whole$cells)), obs = whole$obs)
    tables <- read_tables(object, list(beside = beside), cells)
    for (name in names(tables)) {
      whole$assays[[name]] <- list(layers = list(counts = as_sparse(t(tables[[name]]))), var = bare_frame(colnames(tables[[name]])))
    }
    return(send_whole(whole, layer, features))
  }
  cells <- read_cells(object, assay, layer %||% "counts")
  cells$counts <- as_sparse(cells$counts)
  tables <- read_tables(object, list(beside = beside), cells)
  send_cells(cells, features, names(cells$obs), obsm = cells$obsm, var = cells$var, tables = tables)
}

#' @rdname as_anndata
#' @param path Where to write. The file is there whole or not at all: a file of that name stays as it is until the new one is written.
#' @export
write_h5ad <- function(object, path, assay = NULL, layer = NULL, features = NULL, protein_assay = NULL, protein_layer = "counts") {
  adata <- as_anndata(object, assay, layer, features, protein_assay, protein_layer)
  with_python(bridge()$write(adata, path.expand(path), as_it_is = is_anndata(object)))
  invisible(path)
}

is_anndata <- function(object) {
  inherits(object, "python.builtin.object") || (is.character(object) && length(object) == 1)
}

python_anndata <- function(object, features = NULL, call = caller_env()) {
  object <- existing_file(object, call)
  adata <- with_python(bridge(call)$as_anndata(object), call = call)
  if (is.character(object) && to_r(bridge(call)$stays_on_disk(adata))) {
    rlang::inform(c(paste0("The counts stay in '", object, "': they would take more than a quarter of the memory."),
                    i = "They are read as they are needed, see ?read_backed."),
                  class = "scelbo_on_disk", .frequency = "once", .frequency_id = object)
  }
  if (is.null(features)) return(adata)
  features <- check_names(features, names_of(adata$var_names), "feature", call)
  with_python(bridge(call)$as_anndata(adata, as.list(features)), call = call)
}

existing_file <- function(path, call) {
  if (!is.character(path)) return(path)
  path <- path.expand(path)
  if (!file.exists(path)) abort_scelbo("setup", paste0("There is no file '", path, "'."), call = call)
  path
}

# What read_cells() read -> AnnData of the chosen features and columns.
send_cells <- function(cells, features = NULL, columns = character(), obsm = list(), var = NULL, tables = list(),
                       layers = list(), call = caller_env()) {
  counts <- cells$counts
  if (!is.null(features)) {
    at <- match(check_names(features, rownames(counts), "feature", call), rownames(counts))
    counts <- counts[at, , drop = FALSE]
    layers <- lapply(layers, function(layer) layer[at, , drop = FALSE])
    if (!is.null(var)) var <- var[at, , drop = FALSE]
  }
  obs <- if (is.null(cells$obs)) bare_frame(colnames(counts)) else cells$obs[, columns, drop = FALSE]
  var <- if (is.null(var)) bare_frame(rownames(counts)) else var
  py <- bridge(call)
  with_python(py$anndata(
    if (stays_on_disk(counts)) disk_matrix(counts, call) else python_counts(counts, call),
    to_pandas(obs, colnames(counts)), to_pandas(var, rownames(counts)),
    if (length(obsm)) setNames(lapply(obsm, unname), paste0("X_", names(obsm))),
    as_dict(lapply(tables, function(table) as_tuple(unname(table), as.list(colnames(table))))),
    as_dict(lapply(layers, python_counts, call))
  ), call = call)
}

python_counts <- function(counts, call = caller_env()) {
  bridge(call)$counts(as.array(counts@i), as.array(counts@p), as.array(counts@x), ncol(counts), nrow(counts))
}

bare_frame <- function(names) data.frame(row.names = make.unique(names %||% character()))

# Every wanted name must be there; all that are not come in one error, each with its nearest match. Who only looks
# (check_data()) goes on with those that are there.
check_names <- function(wanted, known, what, call = caller_env(), kind = "setup") {
  there <- wanted[wanted %in% known]
  absent <- setdiff(wanted, known)
  if (!length(absent)) return(invisible(there))
  describe <- function(name) paste(c(paste0("'", name, "'."), did_you_mean(name, known)), collapse = " ")
  problems <- vapply(head(absent, 8), describe, "")
  withRestarts(
    abort_scelbo(
      kind, paste0("There is no such ", what, if (length(absent) > 8) paste0(" (", length(absent), " in all)"), ":"),
      if (length(known)) paste0("There are ", some_of(known), "."), unname(problems), call = call
    ),
    scelbo_go_on = function() there
  )
}
