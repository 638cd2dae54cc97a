# A MultiAssayExperiment: cells are those of the experiment of genes; other experiments' are matched to them by their
# primary names, or, where several cells have one primary (a donor), by their own.

#' @exportS3Method
read_cells.MultiAssayExperiment <- function(object, assay = NULL, layer = "counts", call = caller_env()) {
  assay <- assay %||% names(object)[[1]]
  if (!assay %in% names(object)) {
    abort_scelbo("setup", paste0("There is no experiment '", assay, "'; there are ", some_of(names(object)), "."),
                 did_you_mean(assay, names(object)), call = call)
  }
  counts <- counts_of_experiment(object, assay, layer, call)
  about <- MultiAssayExperiment::colData(object)[primary_of(object, assay), , drop = FALSE]
  from <- object[[assay]]
  if (inherits(from, "SummarizedExperiment")) {
    own <- SummarizedExperiment::colData(from)
    about <- cbind(about, own[setdiff(names(own), names(about))])
  }
  rownames(about) <- colnames(counts)
  read_cells_of(counts, obs = about)
}

#' @exportS3Method
modalities_in.MultiAssayExperiment <- function(object) names(object)

#' @exportS3Method
layers_in.MultiAssayExperiment <- function(object, assay) {
  from <- object[[assay]]
  if (inherits(from, "SummarizedExperiment")) SummarizedExperiment::assayNames(from) else "counts"
}

#' @exportS3Method
read_modality.MultiAssayExperiment <- function(object, assay, layer, call) {
  as_sparse(counts_of_experiment(object, assay, layer, call))
}

counts_of_experiment <- function(object, assay, layer, call) {
  counts <- read_cells(object[[assay]], NULL, layer, call)$counts
  colnames(counts) <- cells_in(object, assay)
  counts
}

# The primary name of each of an experiment's cells.
primary_of <- function(object, assay) {
  map <- MultiAssayExperiment::sampleMap(object)
  map <- map[map$assay == assay, ]
  as.character(map$primary)[match(colnames(object)[[assay]], map$colname)]
}

cells_in <- function(object, assay) {
  primary <- primary_of(object, assay)
  if (anyDuplicated(primary)) colnames(object)[[assay]] else primary
}

#' @rdname write_back
#' @exportS3Method
write_back.MultiAssayExperiment <- function(model, object, name = name_of(model), features = NULL, foreground = FALSE,
                                            ...) {
  assay <- genes_in(model$recipe) %||% names(object)[[1]]
  source <- own_or(model, object)
  results <- list()
  if (offers(model, "get_latent_representation")) results[[name]] <- t(get_latent_representation(model, source))
  tables <- results_of(model, source, features, foreground)$tables
  results <- c(results, setNames(tables, paste0(tolower(name), "_", names(tables), recycle0 = TRUE)))
  map <- data.frame(primary = primary_of(object, assay), colname = cells_in(object, assay))
  for (new in names(results)) {
    colnames(results[[new]]) <- map$colname
    object <- do.call(c, c(list(object[, , setdiff(names(object), new)]), results[new],
                           list(sampleMap = S4Vectors::DataFrame(assay = factor(new), map))))
  }
  S4Vectors::metadata(object)$scelbo[[name]] <- model
  object
}

#' @exportS3Method
models_in.MultiAssayExperiment <- function(object) S4Vectors::metadata(object)$scelbo
