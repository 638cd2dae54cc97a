#' Turn AnnData into a Seurat object or a SingleCellExperiment
#'
#' Counts, metadata of cells and features (with what is missing), reductions, and what `obsm` holds as data frames of
#' numbers, such as counts of proteins; the inverse of [as_anndata()].
#'
#' @param object A Python AnnData, or the path of an h5ad file.
#' @param layer Where the counts are: a layer of that name where there is one, else `X`.
#' @param assay What to call the assay of the Seurat object, such as `"peaks"`.
#' @return A Seurat object (Seurat writes `-` for `_` in names of features), or a
#'   SingleCellExperiment with the assay `counts`. Reductions lose the `X_` before their name. Data frames in `obsm` are
#'   further assays (`altExps`) of their name, and so are peaks (`"peaks"`) where `var["feature_types"]` tells them from genes.
#' @section Warnings: `scelbo_data_warning` where the values are not whole numbers, and so are no counts.
#' @examples
#' \dontrun{
#' so <- as_seurat("cells.h5ad")
#' sce <- as_sce(backend()$data$readers$pbmc68k())
#' }
#' @name from_anndata
NULL

#' @rdname from_anndata
#' @export
as_seurat <- function(object, layer = "counts", assay = "RNA") {
  rlang::check_installed("SeuratObject", reason = "to make a Seurat object.")
  parts <- with_peaks_apart(anndata_parts(object, layer))
  obs <- if (length(parts$obs)) parts$obs # SeuratObject 4 fails on metadata without columns
  seurat <- SeuratObject::CreateSeuratObject(parts$counts, assay = assay, meta.data = obs)
  if (length(parts$var)) {
    var <- as.data.frame(parts$var, row.names = rownames(seurat)) # Seurat has its own way to write names
    seurat[[assay]] <- SeuratObject::AddMetaData(seurat[[assay]], var)
  }
  for (name in names(parts$obsm)) {
    key <- seurat_key(name)
    if (key == SeuratObject::Key(seurat[[assay]])) key <- sub("_$", "dim_", key) # of the assay "Spatial" beside "spatial"
    values <- parts$obsm[[name]]
    dimnames(values) <- list(colnames(seurat), paste0(key, seq_len(ncol(values))))
    seurat[[name]] <- SeuratObject::CreateDimReducObject(embeddings = values, key = key, assay = assay)
  }
  for (name in names(parts$tables)) {
    beside <- seurat_assay(list(counts = parts$tables[[name]]), FALSE)
    SeuratObject::Key(beside) <- seurat_key(name)
    seurat[[name]] <- beside
  }
  seurat
}

#' @rdname from_anndata
#' @export
as_sce <- function(object, layer = "counts") {
  rlang::check_installed("SingleCellExperiment", reason = "to make a SingleCellExperiment.")
  parts <- with_peaks_apart(anndata_parts(object, layer))
  SingleCellExperiment::SingleCellExperiment(
    list(counts = parts$counts), colData = parts$obs, rowData = parts$var, reducedDims = parts$obsm,
    altExps = lapply(parts$tables, function(counts) SummarizedExperiment::SummarizedExperiment(list(counts = counts)))
  )
}

#' The Python package behind this one
#'
#' For what has no function in R yet. Started on first use, with its libraries in the right order, which
#' `reticulate::import()` would not know of. Nothing is converted: use `reticulate::py_to_r()`.
#'
#' @return The Python module `scelbo`.
#' @examples
#' \dontrun{
#' backend()$data$readers$pbmc68k() # 700 blood cells that the Python package scanpy brings along
#' }
#' @export
backend <- function() core()

anndata_parts <- function(object, layer, call = caller_env()) {
  adata <- python_anndata(object, call = call)
  has_layer <- layer %in% unlist(reticulate::py_to_r(bridge(call)$layers(adata)))
  cells <- names_of(adata$obs_names)
  features <- names_of(adata$var_names)
  counts <- from_csr(if (has_layer) adata$layers[[layer]] else adata$X, features, cells, call)
  if (any(counts@x != round(counts@x))) {
    warn_scelbo("data", c("The values are not whole numbers, so they are no counts.",
                          i = "Counts come back from log values by backend()$data$counts_from_log(adata)."))
  }
  obsm <- reticulate::py_to_r(with_python(bridge()$reductions(adata)))
  beside <- with_python(bridge()$tables(adata))
  tables <- sapply(names(beside), function(key) {
    from_csr(beside[[key]][[0]], as.character(unlist(reticulate::py_to_r(beside[[key]][[1]]))), cells, call)
  }, simplify = FALSE)
  list(counts = counts, obs = from_pandas(adata$obs), var = from_pandas(adata$var), obsm = lapply(obsm, as.matrix),
       tables = tables)
}

# Genes and peaks that stand side by side: the genes, and the peaks among the tables.
with_peaks_apart <- function(parts) {
  is_peak <- as.character(parts$var$feature_types) == "Peaks"
  if (!any(is_peak) || all(is_peak)) return(parts)
  parts$tables$peaks <- parts$counts[is_peak, , drop = FALSE]
  parts$counts <- parts$counts[!is_peak, , drop = FALSE]
  parts$var <- droplevels(parts$var[!is_peak, , drop = FALSE])
  parts
}

# Python's matrix of cells x features -> dgCMatrix of features x cells: by rows the one is by columns the other.
from_csr <- function(matrix, features, cells, call = caller_env()) {
  slots <- lapply(reticulate::py_to_r(with_python(bridge(call)$slots(matrix), call = call)), as.vector)
  methods::new("dgCMatrix", i = slots$i, p = slots$p, x = slots$x, Dim = c(length(features), length(cells)),
               Dimnames = list(features, cells))
}
