#' Read what 10x Genomics' Cell Ranger ATAC and ARC write
#'
#' Peaks of scATAC-seq, or genes and peaks of the same cells, as a folder of text files (also gzipped) or one HDF5 file.
#'
#' @param path Cell Ranger ATAC's `filtered_peak_bc_matrix` (folder, or file with `.h5`); for `read_10x_multiome()`
#'   Cell Ranger ARC's `filtered_feature_bc_matrix`.
#' @param as What to make of it: `"seurat"`, `"sce"` (a SingleCellExperiment), or `"anndata"` (Python's, not converted).
#' @param assay What the peaks are called in the object.
#' @return Counts of features x cells. The column `batch_id` of the metadata is the number of the GEM well behind the
#'   barcode's last `-`. Peaks are named `chr:start-end` as in a BED file: from zero, the end is not part of the peak.
#'
#'   - `"seurat"`: an assay of peaks, of Signac's class ChromatinAssay where that package is installed (it names peaks
#'     `chr-start-end`); after the assay `RNA` in a multiome. `chr`, `start` and `end` are in the assay's meta features.
#'     (Seurat writes `-` for `_` in names of features.)
#'   - `"sce"`: the peaks are the experiment, in a multiome `altExp(sce, assay)`; their `rowRanges()` count from one, as
#'     Bioconductor does. `rowData()` of genes has `ID`, `chr`, `start`, `end`.
#' @section Errors: `scelbo_data_error` where a file is not there or cannot be read, lengths do not fit, or a line is no
#'   peak.
#' @seealso [reads_to_fragments()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' folder <- tempfile() # what Cell Ranger would write
#' dir.create(folder)
#' reads <- Matrix::rsparsematrix(30, 20, 0.3, rand.x = function(n) 2 * rpois(n, 1) + 2)
#' invisible(Matrix::writeMM(reads, file.path(folder, "matrix.mtx")))
#' writeLines(sprintf("chr1\t%d\t%d", 1:30 * 1000, 1:30 * 1000 + 500), file.path(folder, "peaks.bed"))
#' writeLines(sprintf("AAAC%02d-1", 1:20), file.path(folder, "barcodes.tsv"))
#' so <- read_10x_atac(folder)
#' so[["peaks"]]
#' head(rownames(so), 3)
#' @export
read_10x_atac <- function(path, as = c("seurat", "sce", "anndata"), assay = "peaks") {
  read_10x("read_10x_atac", path, as[[1]], assay)
}

#' @rdname read_10x_atac
#' @export
read_10x_multiome <- function(path, as = c("seurat", "sce", "anndata"), assay = "peaks") {
  read_10x("read_10x_multiome", path, as[[1]], assay)
}

read_10x <- function(reader, path, as, assay, call = caller_env()) {
  check_object_kind(as, call)
  adata <- with_python(core(call)$data[[reader]](path.expand(path)), call = call)
  if (as == "anndata") return(adata)
  cells <- anndata_parts(adata, "counts", call)
  modality <- cells$var$modality %||% "Peaks"
  rows <- split(seq_len(nrow(cells$counts)), factor(modality, c("Gene Expression", "Peaks"), c("RNA", assay)), drop = TRUE)
  parts <- lapply(rows, function(at) {
    var <- cells$var[at, setdiff(names(cells$var), "modality"), drop = FALSE]
    list(counts = cells$counts[at, , drop = FALSE], var = droplevels(var))
  })
  if (as == "seurat") seurat_of(parts, cells$obs, assay) else sce_of(parts, cells$obs, assay)
}

# What readers and simulators make of an AnnData.
check_object_kind <- function(as, call = caller_env()) {
  one_of(as, c("seurat", "sce", "anndata"), "as", call)
  if (as == "seurat") rlang::check_installed("SeuratObject", reason = "to make a Seurat object.", call = call)
  if (as == "sce") rlang::check_installed("SingleCellExperiment", reason = "to make a SingleCellExperiment.", call = call)
}

# `parts`: named lists of counts and what is known of their features; those named `peaks` are peaks.
seurat_of <- function(parts, obs, peaks) {
  assays <- lapply(setNames(names(parts), names(parts)), function(name) {
    assay <- seurat_assay(parts[[name]], name == peaks)
    var <- parts[[name]]$var
    rownames(var) <- rownames(assay)
    SeuratObject::Key(assay) <- seurat_key(name)
    SeuratObject::AddMetaData(assay, var)
  })
  object <- SeuratObject::CreateSeuratObject(assays[[1]], assay = names(assays)[[1]], meta.data = obs)
  for (name in names(assays)[-1]) object[[name]] <- assays[[name]]
  object
}

seurat_assay <- function(part, is_peaks) {
  if (is_peaks && has_signac()) {
    ranges <- GenomicRanges::makeGRangesFromDataFrame(part$var) # from zero, as Signac itself reads such names
    return(Signac::CreateChromatinAssay(part$counts, ranges = ranges, min.features = -1)) # 0 drops empty cells
  }
  rownames(part$counts) <- gsub("_", "-", rownames(part$counts), fixed = TRUE) # Seurat would, with a warning
  new_assay(utils::packageVersion("SeuratObject") >= "5.0.0", counts = part$counts)
}

has_signac <- function() requireNamespace("Signac", quietly = TRUE)

sce_of <- function(parts, obs, peaks) {
  experiments <- lapply(parts, function(part) SingleCellExperiment::SingleCellExperiment(list(counts = part$counts)))
  for (name in names(parts)) {
    var <- parts[[name]]$var
    if (name == peaks) {
      SummarizedExperiment::rowRanges(experiments[[name]]) <-
        GenomicRanges::makeGRangesFromDataFrame(var, keep.extra.columns = TRUE, starts.in.df.are.0based = TRUE)
    } else {
      SummarizedExperiment::rowData(experiments[[name]]) <- var
    }
  }
  main <- experiments[[1]]
  SingleCellExperiment::mainExpName(main) <- names(experiments)[[1]]
  SummarizedExperiment::colData(main) <- methods::as(obs, "DataFrame")
  SingleCellExperiment::altExps(main) <- experiments[-1]
  main
}

#' Fragments from scATAC counts of reads
#'
#' A fragment has two ends, and both are counted where both lie in the peak: even counts dominate. An odd one has an end
#' outside. With \eqn{r} reads there are \eqn{\lceil r / 2 \rceil} fragments, and these are what a model should explain.
#'
#' @param object A Seurat object, a SingleCellExperiment, an AnnData, or the path of an h5ad file.
#' @param assay,layer Where the reads are, see [as_anndata()]. They stay as they are.
#' @param name Where to write: a layer (Seurat 5, AnnData) or an assay (SingleCellExperiment; Seurat before 5 and
#'   Signac: a copy of the assay, with all that it knows of its peaks).
#' @return The object with the fragments. (An AnnData is changed itself.) Where the features' data tell genes from peaks
#'   (`modality`), genes keep their counts.
#' @section Errors: `scelbo_data_error` where the values are no counts, or there are more ones than twos: such counts are
#'   fragments already, or binary.
#' @references Martens et al., Nature Methods 21:28 (2023), \doi{10.1038/s41592-023-02112-6}.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("multiome", n_cells = 60, n_genes = 50, n_regions = 60)
#' counts <- methods::slot(so[["peaks"]], "counts")
#' so[["reads"]] <- SeuratObject::CreateAssayObject(counts * 2) # both ends of each fragment
#' so <- reads_to_fragments(so, assay = "reads")
#' range(methods::slot(so[["fragments"]], "counts") - counts)
#' @export
reads_to_fragments <- function(object, assay = NULL, layer = "counts", name = "fragments") {
  UseMethod("reads_to_fragments")
}

#' @exportS3Method
reads_to_fragments.default <- function(object, assay = NULL, layer = "counts", name = "fragments") {
  if (!is_anndata(object)) {
    abort_scelbo("setup", paste0("Fragments cannot be written into an object of class ", class(object)[[1]], "."),
                 "Give a Seurat object, a SingleCellExperiment, an AnnData, or the path of an h5ad file.")
  }
  adata <- python_anndata(object)
  has_layer <- layer %in% unlist(to_r(bridge()$layers(adata)))
  check_target(name, if (has_layer) layer)
  with_python(core()$data$reads_to_fragments(adata, if (has_layer) layer, name))
  adata
}

#' @exportS3Method
reads_to_fragments.Seurat <- function(object, assay = NULL, layer = "counts", name = "fragments") {
  assay <- assay %||% SeuratObject::DefaultAssay(object)
  check_target(name, c(assay, layer))
  fragments <- fragments_in(object, assay, layer)
  from <- object[[assay]]
  if (inherits(from, "StdAssay")) {
    object[[assay]] <- seurat5("LayerData<-")(from, layer = name, value = fragments)
    return(object)
  }
  from@counts <- from@data <- fragments
  from@scale.data <- matrix(numeric(), 0, 0)
  SeuratObject::Key(from) <- seurat_key(name)
  object[[name]] <- from
  object
}

#' @exportS3Method
reads_to_fragments.SummarizedExperiment <- function(object, assay = NULL, layer = "counts", name = "fragments") {
  check_target(name, assay %||% layer)
  fragments <- fragments_in(object, assay, layer)
  SummarizedExperiment::assay(object, name, withDimnames = FALSE) <- fragments
  object
}

check_target <- function(name, taken, call = caller_env()) {
  if (name %in% taken) {
    abort_scelbo("argument", paste0("`name`: '", name, "' is where the reads are."), "Choose another name.", call = call)
  }
}

# The one place that knows how is in Python.
fragments_in <- function(object, assay, layer, call = caller_env()) {
  cells <- read_cells(object, assay, layer, call)
  cells$counts <- as_sparse(cells$counts)
  adata <- send_cells(cells, var = cells$var, call = call)
  with_python(core(call)$data$reads_to_fragments(adata), call = call)
  from_csr(adata$layers[["fragments"]], rownames(cells$counts), colnames(cells$counts), call)
}
