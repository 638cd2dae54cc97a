#' A model from object to object, in one step
#'
#' Fits a model to the object's counts, trains it by [train()], and writes the latent representation and the model back:
#' `RunSCVI()` in Seurat's words, `runSCVI()` in Bioconductor's, of [scvi()]; `RunPEAKVI()` and `runPEAKVI()` of
#' [peakvi()]. Nothing else in the object changes.
#'
#' @param object A Seurat object of any version (split layers are joined for reading and stay split), or a
#'   SingleCellExperiment.
#' @param batch Column of the batch, or a formula such as `~ batch + donor + percent.mt`: see [scvi()].
#' @param ... Further arguments of [scvi()] or [peakvi()] (`assay`, `features`, `n_latent`, ...) and of [train()]
#'   (`max_epochs`, `seed`, `device`, `verbose`, `batch_size`, ...).
#' @param name Name of the reduction.
#' @return The object with the model (see [get_model()]) and its latent representation, cells x `n_latent`: Seurat's
#'   DimReduc `name` with that key, or `reducedDim(object, name)`.
#' @seealso [FindMarkersSCVI()], [FindMarkersPEAKVI()], [write_back()].
#' @examples
#' \dontrun{
#' so <- RunSCVI(so, batch = "donor")
#' so <- Seurat::RunUMAP(so, reduction = "scvi", dims = 1:10)
#'
#' sce <- runSCVI(sce, batch = "donor")
#' sce <- scater::runUMAP(sce, dimred = "SCVI")
#'
#' so <- RunPEAKVI(so, batch = "donor", assay = "peaks")
#' }
#' @name one_step
NULL

#' @rdname one_step
#' @export
RunSCVI <- function(object, batch = NULL, ..., name = "scvi") run_model("scvi", object, list(batch = batch, ...), name)

#' @rdname one_step
#' @export
RunPEAKVI <- function(object, batch = NULL, ..., name = "peakvi") {
  run_model("peakvi", object, list(batch = batch, ...), name)
}

#' @rdname write_back
#' @exportS3Method
write_back.Seurat <- function(model, object, name = tolower(model$class), features = NULL, ...) {
  source <- own_or(model, object)
  z <- get_latent_representation(model, source)
  key <- seurat_key(name)
  colnames(z) <- paste0(key, seq_len(ncol(z)))
  assay <- model$recipe$assay %||% SeuratObject::DefaultAssay(object)
  object[[name]] <- SeuratObject::CreateDimReducObject(embeddings = z, key = key, assay = assay)
  if (!is.null(features)) {
    values <- as(denoised(model, source, features), "CsparseMatrix")
    is_v5 <- inherits(object[[assay]], "StdAssay")
    make <- if (is_v5) seurat5("CreateAssay5Object") else SeuratObject::CreateAssayObject
    values <- make(data = values)
    SeuratObject::Key(values) <- paste0(sub("_$", "", key), "normalized_")
    suppressWarnings(object[[paste0(name, "_normalized")]] <- values) # Seurat 5 misses a layer of counts in it
  }
  models <- models_in(object)
  models[[name]] <- model
  suppressWarnings(SeuratObject::Misc(object, slot = "scelbo") <- models) # it warns of replacing what was there
  object
}

#' @exportS3Method
models_in.Seurat <- function(object) SeuratObject::Misc(object, slot = "scelbo")

# A key of letters and digits, as Seurat wants it.
seurat_key <- function(name) paste0(gsub("[^A-Za-z0-9]", "", name), "_")
