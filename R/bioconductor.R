#' @rdname one_step
#' @export
runSCVI <- function(object, batch = NULL, ..., name = "SCVI") run_model("scvi", object, list(batch = batch, ...), name)

#' @rdname one_step
#' @export
runPEAKVI <- function(object, batch = NULL, ..., name = "PEAKVI") {
  run_model("peakvi", object, list(batch = batch, ...), name)
}

#' @rdname write_back
#' @exportS3Method
write_back.SingleCellExperiment <- function(model, object, name = model$class, features = NULL, ...) {
  source <- own_or(model, object)
  z <- get_latent_representation(model, source)
  rownames(z) <- colnames(object)
  SingleCellExperiment::reducedDim(object, name) <- z
  if (!is.null(features)) {
    values <- denoised(model, source, features)
    colnames(values) <- colnames(object)
    SingleCellExperiment::altExp(object, paste0(tolower(name), "_normalized")) <-
      SummarizedExperiment::SummarizedExperiment(list(normalized = values))
  }
  S4Vectors::metadata(object)$scelbo[[name]] <- model
  object
}

#' @exportS3Method
models_in.SummarizedExperiment <- function(object) S4Vectors::metadata(object)$scelbo
