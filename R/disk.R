# Counts on disk stay there: Python reads the rows that it needs, and memory does not grow with the number of cells.
# R holds them as DelayedMatrix (HDF5Array, ...) or BPCells' IterableMatrix, features x cells.

#' Cells whose counts stay on disk
#'
#' Models are trained on them and asked about them as about any others; memory does not grow with the number of cells.
#'
#' @param path An `.h5ad` file or a `.zarr` store. Its counts should be stored by cell (CSR) or dense.
#' @return A Python AnnData whose `X` and layers are read as they are needed; all else is read.
#' @section What else stays on disk:
#' - The path of a file, as in `scvi("atlas.h5ad")`: where its counts would take more than a quarter of this machine's
#'   memory. Smaller ones are read, which trains somewhat faster.
#' - A SingleCellExperiment, Seurat object or matrix whose counts are on disk. 10x files (`HDF5Array::TENxMatrix`) and h5ad
#'   files (`HDF5Array::H5ADMatrix`) are read where they are. All others, among them BPCells' matrices, arrays that are dense
#'   in HDF5, and those with delayed operations (such as a choice of cells), are written once to a file in `tempdir()`, block
#'   by block, of which a message tells. It is removed at the end of the session; the environment variable `TMPDIR`, set
#'   before R starts, says on which disk.
#'
#' Read into memory are counts beside those of genes (regions, proteins), spatial data, and what [as_anndata()] is asked for.
#' @section Errors: `scelbo_setup_error` where there is no such file; `scelbo_data_error`, when a model is made, where counts
#'   are stored by feature.
#' @seealso `docs/disk.md` in the repository: how cells are shuffled, and what it costs.
#' @examplesIf backend_available()
#' path <- write_h5ad(simulate_cells(n_cells = 100, n_genes = 50, as = "anndata"), tempfile(fileext = ".h5ad"))
#' model <- scvi(read_backed(path), batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' get_latent_representation(model)[1:3, 1:4]
#' @export
read_backed <- function(path) {
  with_python(core()$data$read_backed(existing_file(path, environment())))
}

stays_on_disk <- function(x) {
  if (inherits(x, "IterableMatrix")) return(!all(vapply(bpcells_inputs(x), in_memory, NA)))
  inherits(x, "DelayedArray") && !all(unlist(DelayedArray::seedApply(x, in_memory)))
}

# The matrices that one of BPCells is made of; where BPCells is too old to tell, itself.
bpcells_inputs <- function(x) {
  inputs <- tryCatch(getExportedValue("BPCells", "all_matrix_inputs"), error = function(cnd) NULL)
  if (is.null(inputs)) list(x) else inputs(x)
}

in_memory <- function(seed) {
  is.array(seed) || is.data.frame(seed) || inherits(seed, c("Matrix", "SparseArraySeed", "SparseArray", "DataFrame")) ||
    any(grepl("dgCMatrix|MatrixMem", class(seed))) # BPCells'
}

# Where in an HDF5 file the matrix stands as it is, cell after cell; NULL: nowhere.
place_on_disk <- function(x) {
  if (!inherits(x, "DelayedArray") || !DelayedArray::isPristine(x, ignore.dimnames = TRUE)) return(NULL)
  seed <- DelayedArray::seed(x)
  if (!inherits(seed, "CSC_H5SparseMatrixSeed") || !is.character(seed@filepath) || length(seed@subdata)) return(NULL)
  seed
}

# Python's matrix of cells x features, on disk.
disk_matrix <- function(x, call = caller_env()) {
  seed <- place_on_disk(x)
  path <- tempfile("scelbo", fileext = ".h5")
  shape <- as_tuple(ncol(x), nrow(x))
  if (!is.null(seed)) return(with_python(bridge(call)$linked(seed@filepath, seed@group, shape, path), call = call))
  for (cells in cell_blocks(x)) {
    block <- as_sparse(x[, cells, drop = FALSE])
    with_python(bridge(call)$append_rows(path, python_counts(block, call)), call = call)
  }
  rlang::inform(c(
    paste0("The counts were written to a file of ", format(structure(file.size(path), class = "object_size"), units = "auto"),
           ", from which they are read cell by cell: '", path, "'."),
    i = "It is removed when R ends."
  ), class = "scelbo_written")
  with_python(bridge(call)$rows_on_disk(path), call = call)
}

# Cells that are read together.
cell_blocks <- function(x) {
  if (!inherits(x, "DelayedArray")) return(split(seq_len(ncol(x)), (seq_len(ncol(x)) - 1) %/% 1000))
  grid <- DelayedArray::colAutoGrid(x) # goes by how it is stored
  ends <- cumsum(vapply(seq_along(grid), function(i) dim(grid[[i]])[[2]], 1L))
  Map(seq, c(1L, ends[-length(ends)] + 1L), ends)
}
