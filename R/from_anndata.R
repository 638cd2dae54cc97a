#' Turn AnnData into a Seurat object or a SingleCellExperiment
#'
#' The inverse of [as_anndata()], whose table says what becomes what: what was made here comes back as it was, and what scanpy
#' left (layers, embeddings, neighbours, results in `uns`) is where R looks for it, and goes back as it was.
#'
#' @param object A Python AnnData or MuData, or the path of an h5ad or h5mu file.
#' @param layer Where the counts are: a layer of that name where there is one, else `X` (or `raw`) if it holds whole numbers.
#'   `"X"` takes `X` for counts whatever it holds.
#' @param assay What to call the assay of the Seurat object, such as `"peaks"`. `NULL`: as it was called, or `"RNA"`.
#' @return A Seurat object (Seurat writes `-` for `_` in names of features; [as_anndata()] gives the old names back), or a
#'   SingleCellExperiment.
#'
#'   - Counts are `counts`; an `X` that holds none is `data` (`logcounts`). Other layers are assays of their own where the
#'     class has no place for them (Seurat before version 5).
#'   - Reductions lose the `X_` before their name. Data frames of numbers in `obsm` are further assays (`altExps`) of their name, and
#'     so are `raw`, if it has other features than `X`, and peaks (`"peaks"`) where `var["feature_types"]` tells them from genes.
#'   - `obsp` are graphs (pairs of cells), `var["highly_variable"]` are the variable features. What the class cannot hold waits in
#'     `Misc(object, "anndata")` (`metadata(object)$anndata`) for the way back, with the names that AnnData had for things.
#'   - Values are equal; Python's widths are not kept (integers of 64 bits come back with 32).
#' @section Warnings: `scelbo_data_warning` where there are no counts, and of what R has no word for.
#' @seealso [as_anndata()], [as_mudata()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' adata <- simulate_cells(n_cells = 100, n_genes = 50, as = "anndata")
#' as_seurat(adata)
#' path <- write_h5ad(adata, tempfile(fileext = ".h5ad"))
#' read_h5ad(path) # to = "sce": a SingleCellExperiment
#' @name from_anndata
NULL

#' @rdname from_anndata
#' @export
as_seurat <- function(object, layer = "counts", assay = NULL) {
  rlang::check_installed("SeuratObject", reason = "to make a Seurat object.")
  whole_seurat(receive(object, seurat_words, layer, assay, makes_v5()))
}

#' @rdname from_anndata
#' @export
as_sce <- function(object, layer = "counts") {
  rlang::check_installed("SingleCellExperiment", reason = "to make a SingleCellExperiment.")
  whole_sce(receive(object, sce_words, layer))
}

receive <- function(object, words, counts, main = NULL, roomy = TRUE, call = caller_env()) {
  python <- with_python(bridge(call)$opened(existing_file(object, call)), call = call)
  if (length(bridge(call)$modalities(python))) return(receive_modalities(python, words, counts, roomy, call))
  receive_whole(python, words, counts, main, roomy, call)
}

#' @rdname from_anndata
#' @param path Of an h5ad or h5mu file.
#' @param to What to make of it: `"seurat"` or `"sce"`.
#' @param ... `layer` and `assay`.
#' @export
read_h5ad <- function(path, to = c("seurat", "sce"), ...) {
  if (!is.character(path)) abort_scelbo("argument", "`path` must be that of a file.", "For an AnnData: as_seurat(), as_sce().")
  (if (one_of(to[[1]], c("seurat", "sce"), "to") == "seurat") as_seurat else as_sce)(path, ...)
}

#' The Python package behind this one
#'
#' For what has no function in R yet. Started on first use, with its libraries in the right order, which
#' `reticulate::import()` would not know of. Nothing is converted: use `reticulate::py_to_r()`.
#'
#' @return The Python module `scelbo`.
#' @examplesIf backend_available()
#' counts <- matrix(rpois(2000, 2), 100, dimnames = list(paste0("gene", 1:100), paste0("cell", 1:20)))
#' logged <- as_anndata(log1p(1e4 * prop.table(counts, 2)))
#' adata <- backend()$data$counts_from_log(logged)
#' adata$uns # the share of values that came back as whole numbers
#' @export
backend <- function() core()

# Counts of features x cells, and what is known of both.
anndata_parts <- function(object, layer, call = caller_env()) {
  adata <- python_anndata(object, call = call)
  has_layer <- layer %in% unlist(to_r(bridge(call)$layers(adata)))
  counts <- from_csr(if (has_layer) adata$layers[[layer]] else adata$X, names_of(adata$var_names), names_of(adata$obs_names), call)
  list(counts = counts, obs = from_pandas(adata$obs), var = from_pandas(adata$var))
}

# Python's matrix of cells x features -> dgCMatrix of features x cells: by rows the one is by columns the other.
from_csr <- function(matrix, features, cells, call = caller_env()) {
  slots <- lapply(to_r(with_python(bridge(call)$slots(matrix), call = call)), as.vector)
  methods::new("dgCMatrix", i = slots$i, p = slots$p, x = slots$x, Dim = c(length(features), length(cells)),
               Dimnames = list(features, cells))
}
