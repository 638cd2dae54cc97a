#' @rdname one_step
#' @export
runSCVI <- function(object, batch = NULL, ..., name = "SCVI") run_model("scvi", object, list(batch = batch, ...), name)

#' @rdname one_step
#' @export
runPEAKVI <- function(object, batch = NULL, ..., name = "PEAKVI") {
  run_model("peakvi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
runLinearSCVI <- function(object, batch = NULL, ..., name = "LinearSCVI") {
  run_model("linearscvi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
runAUTOZI <- function(object, batch = NULL, ..., name = "AUTOZI") {
  run_model("autozi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @param n_topics Number of topics: see [amortizedlda()].
#' @export
runAmortizedLDA <- function(object, n_topics = 20, ..., name = "AmortizedLDA") {
  run_model("amortizedlda", object, list(n_topics = n_topics, ...), name)
}

#' @rdname one_step
#' @export
runSCANVI <- function(object, labels = NULL, batch = NULL, unlabeled = NULL, from = NULL, ..., name = "SCANVI") {
  run_scanvi(object, list(labels = labels, batch = batch, unlabeled = unlabeled, ...), from, name)
}

#' @rdname one_step
#' @export
runCellAssign <- function(object, markers, batch = NULL, ..., name = "CellAssign") {
  run_model("cellassign", object, list(markers = markers, batch = batch, ...), name)
}

#' @rdname one_step
#' @export
runSOLO <- function(object, batch = NULL, expected_doublet_rate = NULL, doublet_ratio = 2, restrict_to_batch = NULL,
                    scvi = NULL, ..., solo_epochs = NULL, name = "SOLO") {
  pairs <- list(expected_doublet_rate = expected_doublet_rate, doublet_ratio = doublet_ratio, restrict_to_batch = restrict_to_batch)
  run_solo(object, list(batch = batch, ...), scvi, pairs, solo_epochs, name)
}

#' @rdname one_step
#' @export
runTOTALVI <- function(object, batch = NULL, protein_assay = "ADT", ..., name = "TOTALVI") {
  run_model("totalvi", object, list(batch = batch, protein_assay = protein_assay, ...), name)
}

#' @rdname one_step
#' @export
runMULTIVI <- function(object, batch = NULL, peak_assay = "peaks", ..., name = "MULTIVI") {
  run_model("multivi", object, list(batch = batch, peak_assay = peak_assay, ...), name)
}

#' @rdname one_step
#' @export
runGIMVI <- function(object, reference, impute = NULL, ..., name = "GIMVI") {
  run_gimvi(object, reference, impute, list(...), name)
}

#' @rdname one_step
#' @export
runStereoscope <- function(object, reference, labels = NULL, batch = NULL, ..., name = "Stereoscope") {
  run_spots("stereoscope", object, reference, labels, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
runDestVI <- function(object, reference, labels = NULL, batch = NULL, ..., name = "DestVI") {
  run_spots("destvi", object, reference, labels, list(batch = batch, ...), name)
}

#' @rdname write_back
#' @exportS3Method
write_back.SingleCellExperiment <- function(model, object, name = name_of(model), features = NULL, foreground = FALSE,
                                            ...) {
  source <- own_or(model, object)
  if (offers(model, "get_latent_representation")) {
    z <- get_latent_representation(model, source)
    rownames(z) <- colnames(object)
    attr(z, "rotation") <- loadings_of(model) # where scater keeps those of a PCA
    SingleCellExperiment::reducedDim(object, name) <- z
  }
  results <- results_of(model, source, features, foreground)
  object <- add_metadata(object, prefixed(name, results$columns))
  columns <- prefixed(name, feature_columns(model, rownames(object)))
  for (column in names(columns)) SummarizedExperiment::rowData(object)[[column]] <- columns[[column]]
  for (kind in names(results$tables)) {
    values <- results$tables[[kind]]
    colnames(values) <- colnames(object)
    SingleCellExperiment::altExp(object, paste0(tolower(name), "_", kind)) <-
      SummarizedExperiment::SummarizedExperiment(list(normalized = values))
  }
  S4Vectors::metadata(object)$scelbo[[name]] <- model
  object
}

# It has no place for a latent representation.
#' @exportS3Method
write_back.SummarizedExperiment <- function(model, object, ...) {
  rlang::check_installed("SingleCellExperiment", reason = "to hold the latent representation.")
  write_back(model, as(object, "SingleCellExperiment"), ...)
}

#' @exportS3Method
models_in.SummarizedExperiment <- function(object) S4Vectors::metadata(object)$scelbo
