#' scVI for a SingleCellExperiment, in one step
#'
#' Fits [scvi()] to the assay `"counts"`, trains it by [train()], and writes the latent representation and the model
#' back.
#'
#' @param object A SingleCellExperiment.
#' @param batch Column of the batch, or a formula such as `~ batch + donor + percent.mt`: see [scvi()].
#' @param ... Further arguments of [scvi()] (`features`, `n_latent`, ...) and of [train()] (`max_epochs`, `seed`,
#'   `device`, `verbose`, `batch_size`, ...).
#' @param name Name of the reduced dimension.
#' @return The object with `reducedDim(object, name)` (cells x `n_latent`) and the model in `metadata(object)$scelbo`
#'   (see [get_model()]).
#' @examples
#' \dontrun{
#' sce <- runSCVI(sce, batch = "donor")
#' sce <- scater::runUMAP(sce, dimred = "SCVI")
#' }
#' @export
runSCVI <- function(object, batch = NULL, ..., name = "SCVI") run_model("scvi", object, batch, ..., name = name)

#' @rdname write_back
#' @exportS3Method
write_back.SingleCellExperiment <- function(model, object, name = model$class, features = NULL, ...) {
  source <- own_or(model, object)
  z <- get_latent_representation(model, source)
  rownames(z) <- colnames(object)
  SingleCellExperiment::reducedDim(object, name) <- z
  if (!is.null(features)) {
    values <- get_normalized_expression(model, source, features)
    colnames(values) <- colnames(object)
    SingleCellExperiment::altExp(object, paste0(tolower(name), "_normalized")) <-
      SummarizedExperiment::SummarizedExperiment(list(normalized = values))
  }
  S4Vectors::metadata(object)$scelbo[[name]] <- model
  object
}

#' @exportS3Method
models_in.SummarizedExperiment <- function(object) S4Vectors::metadata(object)$scelbo
