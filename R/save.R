#' Save a model, load a model
#'
#' The folder is the same as Python's `model.save()`: a model trained in R opens in Python, and back. (`saveRDS()` works
#' too: a model keeps its trained state inside, and restores itself when it is next asked. Neither keeps the cells, so
#' pass them to questions by `object =`, or [minify()] the model first.)
#'
#' Models of scvi-tools 0.15 to 1.4 (SCVI, SCANVI, LinearSCVI, PEAKVI, TOTALVI, MULTIVI, CondSCVI and both of Stereoscope) open as well,
#' and such models go back to scvi-tools. No code in a file is run, of either kind.
#'
#' @param model A trained `scelbo_model`.
#' @param folder Where to, or where from: a folder with `model.json` and `weights.safetensors`; or that of a model of scvi-tools, with
#'   `model.pt`.
#' @param overwrite Replace a folder that is there already.
#' @param format `"scelbo"`, or `"scvi-tools"`: what `scvi.model.SCVI.load(folder, adata)` opens (version 1.4.2). What scvi-tools has no
#'   counterpart of is an error that names it.
#' @return `save_model()`: the folder, invisibly. `load_model()`: a `scelbo_model`.
#' @section Errors: `scelbo_storage_error` where the folder is there already, cannot be written, is no model, is damaged, or holds a model
#'   of scvi-tools that has no counterpart here. What was there before is then as it was.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' folder <- tempfile()
#' save_model(model, folder)
#' load_model(folder, object = so)
#' @export
save_model <- function(model, folder, overwrite = FALSE, format = c("scelbo", "scvi-tools")) {
  format <- rlang::arg_match(format)
  if (format == "scvi-tools") {
    ask(model, "save_as_scvi_tools", folder = path.expand(folder), overwrite = overwrite)
    return(invisible(folder))
  }
  small <- to_r(with_python(bridge()$is_minified(python_model(model))))
  ask(model, "save", folder = path.expand(folder), overwrite = overwrite, save_anndata = small)
  invisible(folder)
}

#' @rdname save_model
#' @param object The object that holds the model's cells, if the model is to have them. Or pass it to each question.
#' @param assay,layer Where the counts are in that object, and in those that will be passed to questions: see
#'   [as_anndata()].
#' @param protein_assay,protein_layer The same of proteins, where the model reads them: see [totalvi()]. `NULL`: the name
#'   that they had when the model was made.
#' @param peak_assay,peak_layer The same of regions: see [multivi()].
#' @param class Of a model of another package, as in [model()]: `"mypackage.MyModel"`. A file never says which package to load.
#' @export
load_model <- function(folder, object = NULL, assay = NULL, layer = "counts", protein_assay = NULL,
                       protein_layer = "counts", peak_assay = "peaks", peak_layer = "counts", class = NULL) {
  if (!is.null(class)) with_python(bridge()$model_class(class))
  python <- with_python(core()$load(path.expand(folder)))
  about <- to_r(with_python(bridge()$about(python)))
  features <- as.character(unlist(about$features))
  whole <- to_r(bridge()$counts_all(python))
  kinds <- unlist(to_r(bridge()$column_kinds(python)))
  recipe <- list(assay = assay, layer = layer, categories = names(kinds)[startsWith(kinds, "categor")],
                 features = if (!whole) features, whole = whole,
                 absent = as.character(unlist(about$absent)), columns = r_columns(about$keys, kinds), smoothed = about$keys$smoothed_layer,
                 beside = beside_saved(about, python, list(protein_assay = protein_assay, protein_layer = protein_layer,
                                                           peak_assay = peak_assay, peak_layer = peak_layer)))
  model <- new_handle(about$class, recipe = recipe, cells = character(), features = features, variable = character(),
                      has_data = FALSE)
  model$python <- python
  model$origin <- class
  if (length(about$sources)) {
    of_source <- function(source) {
      recipe$features <- as.character(unlist(source$features))
      recipe$columns <- r_columns(source$keys, kinds)
      recipe
    }
    model$recipe <- of_source(about$sources[[1]])
    model$second <- of_source(about$sources[[2]])
  }
  model$cells <- cells_held(python)
  model$has_data <- length(model$cells) > 0
  if (!is.null(object)) {
    data <- read_like(python, object, recipe_for(model, object))
    model$python <- with_python(core()$load(path.expand(folder), data$adata))
    model$cells <- data$cells
    model$variable <- data$variable
    model$has_data <- TRUE
  }
  keep_state(model)
}

# The inverse of python_keys(); `kinds`: see the bridge's column_kinds().
r_columns <- function(keys, kinds) {
  words <- setNames(names(key_words), key_words)
  keys <- keys[names(keys) %in% c(names(words), names(kinds))]
  lapply(setNames(keys, ifelse(names(keys) %in% names(words), words[names(keys)], names(keys))), unlist)
}
