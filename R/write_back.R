#' Write a model's results into an object
#'
#' | result | Seurat | SingleCellExperiment |
#' |---|---|---|
#' | latent representation | `object[["scvi"]]`, a DimReduc with the key `scvi_` | `reducedDim(object, "SCVI")` |
#' | loadings ([linearscvi()]), genes by topic ([amortizedlda()]) | `Loadings(object[["linearscvi"]])` | its attribute `"rotation"` |
#' | labels ([scanvi()], [cellassign()]) | columns `scanvi_label`, `scanvi_probability`, ... of the metadata | of the `colData` |
#' | doublets ([solo()]) | `solo_call`, `solo_probability` in the metadata | in the `colData` |
#' | zero-inflation ([autozi()]) | `autozi_probability`, `autozi_zero_inflated` of the assay's features | in the `rowData` |
#' | normalised values of `features` | the assay `scvi_normalized` | `altExp(object, "scvi_normalized")` |
#' | proteins without background ([totalvi()]) | the assay `totalvi_protein` | `altExp(object, "totalvi_protein")` |
#' | accessibility of `features` that are regions ([multivi()]) | the assay `multivi_accessible` | `altExp(object, "multivi_accessible")` |
#' | imputed `features` of spatial cells ([gimvi()]) | the assay `gimvi_imputed` | `altExp(object, "gimvi_imputed")` |
#' | shares of types in spots ([stereoscope()], [destvi()]) | columns `stereoscope_B`, ... of the metadata | of the `colData` |
#' | the same, types x spots | the assay `stereoscope_proportions` | `altExp(object, "stereoscope_proportions")` |
#' | `foreground`: whether a cell has the protein | the assay `totalvi_foreground` | `altExp(object, "totalvi_foreground")` |
#' | the model | `Misc(object, "scelbo")` | `metadata(object)$scelbo` |
#'
#' Names are those of the model's class: `peakvi`, `PEAKVI`, ... Normalised are expression, see
#' [get_normalized_expression()], or accessibility, see [get_normalized_accessibility()]. Nothing else of the object
#' changes. If the object's cells are not the model's own, they are read as those were.
#'
#' @param model A trained `scelbo_model`.
#' @param object A Seurat object or a SingleCellExperiment.
#' @param name Of the reduction and of the model in the object; columns begin with it (in lower case).
#' @param features Names of features whose normalised values to add; none by default.
#' @param foreground Add how probable it is that each cell has each protein, see [get_protein_foreground_probability()].
#' @param ... Not used.
#' @return The object with the results. [get_model()] takes the model out again, also after `saveRDS()` and `readRDS()`.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' so <- write_back(model, so)
#' so[["scvi"]]
#' @export
write_back <- function(model, object, ...) UseMethod("write_back", object)

#' @exportS3Method
write_back.default <- function(model, object, ...) check_writable(object)

# Asked before training, too, which would be lost.
check_writable <- function(object, call = caller_env()) {
  if (inherits(object, c("Seurat", "SummarizedExperiment", "MultiAssayExperiment"))) return(invisible())
  abort_scelbo("argument", paste0("Results cannot be written into an object of class ", class(object)[[1]], "."),
               "Give a Seurat object or a SingleCellExperiment, or ask the model: get_latent_representation(model).", call = call)
}

#' The model in an object
#'
#' @param object A Seurat object or SingleCellExperiment that [RunSCVI()], [runSCVI()] or [write_back()] returned.
#' @param name The name it was given; `NULL`: the only one, or the last.
#' @return The `scelbo_model`.
#' @section Errors: `scelbo_setup_error` where there is none of that name, with the nearest match.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' get_model(so)
#' @export
get_model <- function(object, name = NULL) {
  models <- models_in(object)
  if (!length(models)) {
    abort_scelbo("setup", "There is no scelbo model in this object.", "Fit one: RunSCVI(object), or runSCVI(object).")
  }
  name <- name %||% utils::tail(names(models), 1)
  check_names(name, names(models), "model in this object")
  models[[name]]
}

# The model that `x` is, or holds, with its cells where they are there.
model_in <- function(x, question, name = NULL) {
  if (inherits(x, "scelbo_model")) x else give_cells(model_for(x, question, name), x)
}

# The model called `name`, else the last in the object that offers the question.
model_for <- function(object, question, name = NULL) {
  models <- models_in(object)
  able <- names(models)[vapply(models, offers, NA, question)]
  get_model(object, name %||% if (length(able)) utils::tail(able, 1))
}

# The last model in the object of a class, or NULL.
model_of_class <- function(object, class) {
  fitting <- Filter(function(model) model$class == class, models_in(object))
  if (length(fitting)) fitting[[length(fitting)]]
}

models_in <- function(object) UseMethod("models_in")

#' @exportS3Method
models_in.default <- function(object) NULL

# What a model says of cells: columns of metadata, and tables of features x cells.
results_of <- function(model, object, features = NULL, foreground = FALSE) {
  if (offers(model, "get_proportions") && !length(features)) {
    shares <- get_proportions(model, object)
    return(list(columns = shares, tables = list(proportions = t(as.matrix(shares)))))
  }
  list(columns = cell_columns(model, object), tables = feature_tables(model, object, features, foreground))
}

# The name of a model where none is given: of a model of spots it need not say so.
name_of <- function(model) sub("^Spatial", "", model$class)

# What a model says of features once noise is taken out: a list of matrices of features x cells.
feature_tables <- function(model, object, features = NULL, foreground = FALSE) {
  tables <- list()
  if (offers(model, "impute")) return(if (length(features)) list(imputed = impute(model, features, object)$mean))
  if (length(features)) {
    known <- regions_of(model)
    regions <- intersect(features, known)
    genes <- setdiff(features, regions)
    only_open <- length(known) && !offers(model, "get_normalized_expression")
    if (only_open) check_names(genes, known, "feature in the model")
    if (length(regions)) {
      tables[[if (only_open) "normalized" else "accessible"]] <- get_normalized_accessibility(model, object, regions)
    }
    if (length(genes)) tables$normalized <- expected_rna(model, object, genes)
  }
  if (length(features_beside(model, "protein"))) tables$protein <- get_normalized_protein(model, object)
  if (foreground) tables$foreground <- get_protein_foreground_probability(model, object)
  tables
}

expected_rna <- function(model, object, features) {
  values <- get_normalized_expression(model, object, features)
  if (is.list(values)) values$rna else values
}

# What a model says of each latent dimension and feature, features x dimensions; of few models NULL.
loadings_of <- function(model) {
  if (offers(model, "get_loadings")) return(get_loadings(model))
  if (offers(model, "get_feature_by_topic")) get_feature_by_topic(model)
}

# What a model says of each cell, as columns of metadata: a data.frame, or NULL.
cell_columns <- function(model, object) {
  if (offers(model, "annotate_cells")) return(annotate_cells(model, object))
  if (!offers(model, "predict") || lacks_fine_labels(model)) return(NULL)
  one_lane <- offers(model, "get_doublets") && model$has_data && !is.null(object) && all(model$cells %in% cell_names(model, object))
  if (one_lane) object <- NULL # restrict_to_batch: its own cells alone get a call
  chance <- predict(model, object, type = "probability")
  best <- most_probable(chance)
  known <- if (!anyDuplicated(rownames(chance))) rownames(chance)
  if (offers(model, "get_doublets")) return(data.frame(call = best, probability = chance[, "doublet"], row.names = known))
  data.frame(label = best, probability = apply(chance, 1, max), row.names = known)
}

# A condscvi() model predicts fine labels only where it was taught some.
lacks_fine_labels <- function(model) {
  python <- python_model(model)
  reticulate::py_has_attr(python, "fine_types") && is.null(to_r(python$fine_types))
}

# What a model says of each feature, as columns beside the object's features; NA where it was not in the model.
feature_columns <- function(model, features) {
  if (!offers(model, "get_zero_inflation")) return(list())
  table <- get_zero_inflation(model)
  by <- intersect(c("batch", "label"), names(table))
  parts <- if (length(by)) split(table, table[[by]]) else list(table)
  told <- c("probability", "zero_inflated")
  unlist(lapply(parts, function(part) as.list(part[match(features, part$feature), told])), recursive = FALSE)
}

# Named after the reduction: "scanvi_label".
prefixed <- function(name, columns) {
  setNames(columns, if (length(columns)) paste0(tolower(name), "_", names(columns)))
}

# The object's cells and the model's: the same? Then the model's own data answer, and nothing is read twice.
own_or <- function(model, object) {
  python_model(model)
  if (model$has_data && identical(cell_names(model, object), model$cells)) NULL else object
}

cell_names <- function(model, object) {
  if (!inherits(object, "MultiAssayExperiment")) return(colnames(object))
  cells_in(object, genes_in(model$recipe) %||% names(object)[[1]])
}

# A model that came back from a file without its cells takes them from the object that holds them still.
give_cells <- function(model, object) {
  python_model(model)
  if (!model$has_data && length(model$cells) && identical(cell_names(model, object), model$cells)) {
    data <- read_like(model$python, object, model$recipe)
    model$python <- with_python(bridge()$unpack(model$saved, data$adata, model$origin))
    model$has_data <- TRUE
  }
  model
}
