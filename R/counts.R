# Reading what a user holds: read_cells() gives, for every class of object, the same list of
#   counts    genes x cells dgCMatrix, or what stays on disk (see disk.R)
#   obs, var  metadata of cells and genes, as data.frame
#   variable  names of the variable features, if the object knows them
#   obsm      reductions, cells x dimensions

read_cells <- function(object, assay = NULL, layer = "counts", call = caller_env()) UseMethod("read_cells")

#' @exportS3Method
read_cells.default <- function(object, assay = NULL, layer = "counts", call = caller_env()) {
  if (!inherits(object, c("matrix", "DelayedArray", "IterableMatrix"))) {
    abort_scelbo("setup", paste0("Counts cannot be read from an object of class ", class(object)[[1]], "."),
                 paste("Give a Seurat object, a SingleCellExperiment, a matrix of genes x cells, an AnnData,",
                       "or the path of an h5ad file."), call = call)
  }
  read_cells_of(object)
}

#' @exportS3Method
read_cells.Matrix <- function(object, assay = NULL, layer = "counts", call = caller_env()) {
  read_cells_of(object)
}

#' @exportS3Method
read_cells.Seurat <- function(object, assay = NULL, layer = "counts", call = caller_env()) {
  assay <- assay %||% SeuratObject::DefaultAssay(object)
  check_assay(assay, SeuratObject::Assays(object), call)
  from <- object[[assay]]
  warn_corrected(from, assay, layer)
  counts <- if (inherits(from, "StdAssay")) layers_v5(from, layer, call) else slot_v3(from, layer, call)
  reductions <- lapply(object@reductions, SeuratObject::Embeddings)
  read_cells_of(counts,
    obs = object[[]][colnames(counts), , drop = FALSE], # an assay may have part of the cells
    variable = SeuratObject::VariableFeatures(object, assay = assay),
    obsm = reductions[vapply(reductions, nrow, 1L) == ncol(counts)]
  )
}

check_assay <- function(assay, known, call) {
  if (assay %in% known) return(invisible())
  abort_scelbo("setup", paste0("There is no assay '", assay, "'; there are ", some_of(known), "."), did_you_mean(assay, known), call = call)
}

warn_corrected <- function(from, assay, layer) {
  if (!inherits(from, "SCTAssay") || !identical(layer %||% "counts", "counts")) return(invisible())
  warn_scelbo("data", c(paste0("The counts of '", assay, "' were corrected by SCTransform."),
                        i = "Models of counts expect the observed ones: choose them by `assay = \"RNA\"`."))
}

# Assay of Seurat 3 and 4. Its slot is read directly: GetAssayData(layer = "counts") gives log values before
# SeuratObject 5.
slot_v3 <- function(from, layer, call) {
  check_layer(layer, slots_filled(from), call)
  slot(from, layer)
}

slots_filled <- function(from) {
  known <- intersect(c("counts", "data", "scale.data"), slotNames(from))
  known[vapply(known, function(name) length(slot(from, name)) > 0, NA)]
}

check_layer <- function(layer, known, call) {
  if (any(layer == known)) return(invisible())
  hint <- c(did_you_mean(layer, known), "Raw counts may be in another assay: choose it by `assay =`.")
  abort_scelbo("setup", paste0("The assay has no layer '", layer, "'; it has ", some_of(known), "."),
               paste(hint, collapse = " "), call = call)
}

# Assay5 of Seurat 5. A layer may be split ("counts.1", "counts.2"): joined by the order of cells and the union of
# features.
layers_v5 <- function(from, layer, call) {
  parts <- lapply(parts_v5(from, layer, call), function(name) seurat5("LayerData")(from, layer = name, fast = FALSE))
  features <- Reduce(union, lapply(parts, rownames))
  same <- all(vapply(parts, function(part) identical(rownames(part), features), NA))
  if (!same || !all(vapply(parts, stays_on_disk, NA))) parts <- lapply(lapply(parts, as_sparse), with_rows, features)
  joined <- do.call(cbind, parts)
  if (identical(colnames(joined), colnames(from))) joined else joined[, colnames(from), drop = FALSE]
}

parts_v5 <- function(from, layer, call) {
  known <- seurat5("Layers")(from)
  names <- if (layer %in% known) layer else known[startsWith(known, paste0(layer, "."))]
  if (!length(names)) check_layer(layer, known, call)
  names
}

# What only SeuratObject 5 has: where it is not installed, no object asks for it.
seurat5 <- function(name) getExportedValue("SeuratObject", name)

with_rows <- function(x, rows) {
  if (identical(rownames(x), rows)) return(x)
  absent <- setdiff(rows, rownames(x))
  empty <- Matrix::sparseMatrix(i = integer(), j = integer(), x = numeric(), dims = c(length(absent), ncol(x)),
                                dimnames = list(absent, colnames(x)))
  rbind(x, empty)[rows, , drop = FALSE]
}

#' @exportS3Method
read_cells.SummarizedExperiment <- function(object, assay = NULL, layer = "counts", call = caller_env()) {
  if (!is.null(assay)) layer <- assay # Bioconductor's assay is Seurat's layer: either word is understood
  check_assay(layer, SummarizedExperiment::assayNames(object), call)
  reductions <- if (inherits(object, "SingleCellExperiment")) as.list(SingleCellExperiment::reducedDims(object))
  read_cells_of(SummarizedExperiment::assay(object, layer),
    obs = SummarizedExperiment::colData(object),
    var = SummarizedExperiment::rowData(object),
    obsm = lapply(reductions, as.matrix)
  )
}

read_cells_of <- function(counts, obs = NULL, var = NULL, variable = character(), obsm = list()) {
  if (!stays_on_disk(counts)) counts <- as_sparse(counts)
  if (is.null(rownames(counts))) rownames(counts) <- sprintf("gene%d", seq_len(nrow(counts)))
  if (is.null(colnames(counts))) colnames(counts) <- sprintf("cell%d", seq_len(ncol(counts)))
  list(counts = counts, obs = obs, var = var, variable = variable, obsm = obsm)
}

# Any matrix as dgCMatrix: dense, triplets, rows, symmetric, logical, on disk.
as_sparse <- function(x) {
  if (inherits(x, "dgCMatrix")) return(x)
  if (inherits(x, "IterableMatrix")) return(as(x, "dgCMatrix"))
  x <- as(as(x, "CsparseMatrix"), "generalMatrix")
  if (inherits(x, "dgCMatrix")) x else as(x, "dMatrix")
}
