# A class of objects says which modalities it holds beside the genes, the layers of each, and gives the counts of one,
# features x cells.
modalities_in <- function(object) UseMethod("modalities_in")
layers_in <- function(object, assay) UseMethod("layers_in")
read_modality <- function(object, assay, layer, call) UseMethod("read_modality")

#' @exportS3Method
modalities_in.default <- function(object) character()

#' @exportS3Method
modalities_in.Seurat <- function(object) SeuratObject::Assays(object)

#' @exportS3Method
layers_in.Seurat <- function(object, assay) {
  from <- object[[assay]]
  if (inherits(from, "StdAssay")) return(seurat5("Layers")(from))
  slots_filled(from)
}

#' @exportS3Method
read_modality.Seurat <- function(object, assay, layer, call) as_sparse(read_cells(object, assay, layer, call)$counts)

#' @exportS3Method
modalities_in.SingleCellExperiment <- function(object) SingleCellExperiment::altExpNames(object)

#' @exportS3Method
layers_in.SingleCellExperiment <- function(object, assay) {
  SummarizedExperiment::assayNames(SingleCellExperiment::altExp(object, assay))
}

#' @exportS3Method
read_modality.SingleCellExperiment <- function(object, assay, layer, call) {
  beside <- SingleCellExperiment::altExp(object, assay)
  colnames(beside) <- colnames(object) # they are the same cells, whether it has their names or not
  as_sparse(read_cells(beside, NULL, layer, call)$counts)
}

# The layers of what is read for the genes.
own_layers <- function(object, assay) {
  if (inherits(object, "Seurat")) layers_in(object, assay %||% default_modality(object)) else
    if (inherits(object, "SummarizedExperiment")) SummarizedExperiment::assayNames(object)
}

# The assay of genes that a recipe names, or that was found where it names none: of objects that have several. (Of a
# SingleCellExperiment `assay` is another word for the layer.)
genes_in <- function(recipe) recipe$assay %||% recipe$genes

# The assay that is read for the genes where none is named.
default_modality <- function(object) {
  if (inherits(object, "Seurat")) return(SeuratObject::DefaultAssay(object))
  if (inherits(object, "MultiAssayExperiment")) names(object)[[1]]
}

variable_in <- function(object, assay) {
  if (inherits(object, "Seurat") && assay %in% modalities_in(object)) SeuratObject::VariableFeatures(object, assay = assay)
}

# Metadata of cells that need not be in every assay.
obs_of_cells <- function(object, cells, assays) {
  if (inherits(object, "Seurat")) return(object[[]][cells, , drop = FALSE])
  if (!inherits(object, "MultiAssayExperiment")) return(NULL)
  primary <- unlist(lapply(assays, function(assay) setNames(primary_of(object, assay), cells_in(object, assay))))
  MultiAssayExperiment::colData(object)[primary[cells], , drop = FALSE]
}
