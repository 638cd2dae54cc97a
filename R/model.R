# The handle of a model, an environment with
#   class    name of the Python class
#   recipe   how its data were read, so that other objects can be read likewise: assay, layer, features, columns, and
#            which of the features may be absent
#   cells    names of the cells it was made from, in order
#   features names of its features
#   variable those that its object held for variable
#   has_data whether the Python model holds those cells (after a restore, if they were minified)
#   origin   of a model of another package the class with its package, "mypackage.MyModel"
#   python   the Python model; a null pointer once the handle came back from a file
#   saved    the model's folder as bytes, from which it is restored then

# A constructor's arguments. It takes `...` to tell which one a misspelt one was meant to be.
arguments_in <- function(environment, ..., call = caller_env()) {
  arguments <- as.list(environment)
  if (...length()) check_names(names(list(...)) %||% "", names(arguments), "argument", call, "argument")
  arguments
}

# A constructor's arguments -> a model.
new_model <- function(class, arguments, call = caller_env()) {
  data <- read_arguments(class, arguments, call, leave = !"peak_assay" %in% names(arguments))
  chosen <- if (!is.null(data$chosen)) as.list(data$chosen)
  answer <- with_python(bridge(call)$create(class, data$adata, as_dict(data$keys), as_dict(data$fields), chosen), call = call)
  python <- heard(answer)
  say_unmeasured(python, call)
  handle_of(python, class, data)
}

# What the arguments name was read: `keys` are setup_anndata()'s, `fields` the Python class's; `whole`: all features are;
# `leave`: see read.R.
read_arguments <- function(class, arguments, call = caller_env(), whole = FALSE, leave = FALSE) {
  recipe <- arguments[c("assay", "layer", "features")]
  python <- with_python(bridge(call)$model_class(class), call = call) # before py_to_r(), which would start whichever it found
  kinds <- unlist(to_r(bridge(call)$column_kinds(python)))
  further <- intersect(names(arguments), setdiff(names(kinds), key_words)) # named as in Python, for want of a word of R's own
  recipe$categories <- intersect(further, names(kinds)[startsWith(kinds, "categor")])
  recipe$columns <- arguments[intersect(names(arguments), c(column_arguments, further))]
  recipe$beside <- beside_of(arguments)
  recipe$smoothed <- arguments$smoothed_layer
  recipe$whole <- whole || to_r(bridge(call)$counts_all(python))
  fields <- python_fields(arguments[setdiff(names(arguments), c(column_arguments, further, source_arguments))], call)
  recipe$leave <- leave
  data <- read_data(arguments$object, recipe, call)
  data$recipe$leave <- NULL
  data$keys <- c(python_keys(data$recipe$columns), beside_keys(recipe$beside, data$layer), allow_non_counts = arguments$allow_non_counts,
                 smoothed_layer = recipe$smoothed, unlabeled_category = unknown_label(arguments))
  data$fields <- fields
  data
}

unknown_label <- function(arguments) if (!is.null(arguments$unlabeled)) as.character(arguments$unlabeled)

# A Python model and the data that it was made of -> a handle.
handle_of <- function(python, class, data) {
  model <- new_handle(sub(".*[.]", "", class), recipe = data$recipe, cells = data$cells, variable = data$variable, has_data = TRUE)
  if (grepl(".", class, fixed = TRUE)) model$origin <- class
  model$python <- python
  model$features <- as.character(unlist(to_r(python$setup$var_names)))
  model$recipe$beside <- beside_known(model$recipe$beside, python)
  if (!is.null(model$recipe$beside$atac)) model$recipe$features <- model$features # an AnnData's regions are among its var
  model
}

new_handle <- function(class, ...) {
  structure(list2env(list(class = class, saved = NULL, ...), parent = emptyenv()),
            class = c(paste0("scelbo_", tolower(class)), "scelbo_model"))
}

# R's words for what a model reads -> setup_anndata()'s.
key_words <- c(batch = "batch_key", labels = "labels_key", fine_labels = "fine_labels_key", categorical = "categorical_covariate_keys",
               continuous = "continuous_covariate_keys", size_factor = "size_factor_key", panel = "panel_key")

# One column is a string, those that may be several are a list.
python_keys <- function(columns) {
  columns <- columns[lengths(columns) > 0]
  many <- names(columns) %in% c("categorical", "continuous")
  columns[many] <- lapply(columns[many], as.list)
  setNames(columns, ifelse(names(columns) %in% names(key_words), key_words[names(columns)], names(columns)))
}

# R's words for hyper-parameters -> Python's, where they differ.
python_fields <- function(fields, call = caller_env()) {
  if ("markers" %in% names(fields)) fields["markers"] <- list(as_markers(fields$markers, call))
  names(fields)[names(fields) == "markers"] <- "cell_type_markers"
  fields
}

# The bridge answers with (value, warnings).
heard <- function(answer) {
  for (text in unlist(to_r(answer[[1]]))) warn_scelbo("data", in_r_words(text))
  answer[[0]]
}

# The Python model, restored first if the handle came back from a file.
python_model <- function(model, call = caller_env()) {
  if (!is.null(model$python) && !reticulate::py_is_null_xptr(model$python)) return(model$python)
  if (is.null(model$saved)) {
    abort_scelbo("storage", "This model came back from a file, but it was not trained before: nothing of it was kept.",
                 "Make it again with its constructor, and train() it before it is saved.", call = call)
  }
  model$python <- with_python(bridge(call)$unpack(model$saved, origin = model$origin), call = call)
  model$has_data <- length(cells_held(model$python)) > 0
  model$python
}

cells_held <- function(python) as.character(unlist(to_r(with_python(bridge()$cells_of(python)))))

keep_state <- function(model, call = caller_env()) {
  model$saved <- to_r(with_python(bridge(call)$pack(model$python), call = call))
  model
}

# Questions of one meaning, and how to ask them: what stands in where a model does not offer one.
alike <- list(
  c(get_normalized_expression = "get_normalized_expression()",
    get_normalized_accessibility = "get_normalized_accessibility()", get_expression_for_ct = "get_expression_for_ct()",
    get_scale_for_ct = "get_scale_for_ct()", get_profiles = "get_profiles()"),
  c(differential_expression = "differential_expression() (of a Seurat object FindMarkersSCVI())",
    differential_accessibility = "differential_accessibility() (of a Seurat object FindMarkersPEAKVI())"),
  c(get_latent_library_size = "get_latent_library_size()", get_library_size_factors = "get_library_size_factors()"),
  c(posterior_predictive_check = "posterior_predictive_check()",
    posterior_predictive_sample = "posterior_predictive_sample()"),
  c(get_mapping_score = "get_mapping_score()", transfer_labels = "transfer_labels()"),
  c(predict = "predict()", transfer_labels = "transfer_labels()", get_proportions = "get_proportions()"),
  c(annotate_cells = "annotate_cells()", get_doublets = "get_doublets()", predict = "predict()",
    transfer_labels = "transfer_labels()"),
  c(get_loadings = "get_loadings()", get_feature_by_topic = "get_feature_by_topic()"),
  c(get_latent_representation = "get_latent_representation()", get_gamma = "get_gamma()",
    get_proportions = "get_proportions(): it says of each spot what it holds, and has no latent space",
    predict = "predict(): it says of each cell what it is, and has no latent space")
)

# Questions that go by another name in Python.
asked_as <- c(annotate_cells = "annotate")
python_question <- function(question) if (question %in% names(asked_as)) asked_as[[question]] else question

offers <- function(model, question) {
  python <- python_model(model) # first, as for to_r()
  reticulate::py_has_attr(python, python_question(question))
}

check_offered <- function(model, question, call) {
  if (offers(model, question)) return(invisible())
  functions <- setdiff(c(getNamespaceExports("scelbo"), "predict"), names(constructors))
  known <- sort(functions[vapply(functions, python_question, "") %in% names(model$python)])
  kin <- unlist(Filter(function(questions) question %in% names(questions), alike))
  nearest <- kin[names(kin) %in% known]
  abort_scelbo(
    "argument", paste0("A model of class ", model$class, " has no ", question, "()."),
    if (length(nearest)) paste0("The nearest that it has is ", nearest[[1]], ".")
    else paste0("It has ", paste0(known, "()", collapse = ", "), "."), call = call
  )
}

# Calls a method of the Python model; arguments that are NULL keep Python's defaults. (`handle`, as `mode =` would match
# an argument named `model`.)
ask <- function(handle, question, ..., asked = FALSE, call = caller_env()) {
  arguments <- rlang::list2(...)
  twice <- names(arguments)[duplicated(names(arguments))]
  if (length(twice)) {
    abort_scelbo("argument", paste0("`", twice[[1]], "` is Python's name for an argument that has another in R."),
                 "R says cells for indices, object for adata, features for gene_list, group_by for groupby.", call = call)
  }
  arguments <- arguments[!vapply(arguments, is.null, NA)]
  python <- python_model(handle, call)
  if (!asked) check_offered(handle, question, call)
  heard(with_python(bridge(call)$ask(python, python_question(question), as_dict(arguments)), call = call))
}

# Another model, which a class makes of a trained one.
ask_class <- function(class, question, ..., call = caller_env()) {
  arguments <- rlang::list2(...)
  arguments <- as_dict(arguments[!vapply(arguments, is.null, NA)])
  heard(with_python(bridge(call)$ask(core(call)[[class]], question, arguments), call = call))
}

# The cells that a question is about: those of `object`, read as the model's own were, or the model's own. A question
# that the model does not offer ends here: `call` is the frame of a method, whose `.Generic` is the question.
cells_asked <- function(model, object, call = caller_env()) {
  python_model(model, call)
  if (!is.null(call$.Generic)) check_offered(model, call$.Generic, call)
  if (!is.null(object)) {
    return(read_like(model$python, object, recipe_for(model, object, call), call)[c("adata", "cells")])
  }
  if (!model$has_data) {
    abort_scelbo("setup", "This model came back from a file, without the cells that it was trained on.",
                 "Pass the object that holds them: `object =`.", call = call)
  }
  list(adata = NULL, cells = model$cells)
}

#' @export
print.scelbo_model <- function(x, ...) {
  about <- summary(x)
  print_head(about)
  changed <- about$arguments[about$changed]
  if (length(changed)) cli::cat_line("  ", paste(names(changed), in_short(changed), sep = " = ", collapse = ", "))
  invisible(x)
}

print_head <- function(about) {
  state <- if (about$trained) paste("trained for", about$epochs, "epochs") else "not trained yet: call train()"
  cli::cat_line("<scelbo model> ", about$class, ", ", state)
  absent <- if (about$absent) paste0(", ", about$absent, " of them not measured")
  words <- c(protein = " proteins", atac = " regions")
  beside <- paste0(", ", about$beside, words[names(about$beside)], recycle0 = TRUE)
  cli::cat_line("  ", about$cells, " cells x ", about$features, " features", absent, beside)
  for (name in names(about$columns)) cli::cat_line("  ", name, ": ", paste(about$columns[[name]], collapse = ", "))
}

#' @export
summary.scelbo_model <- function(object, ...) {
  about <- to_r(with_python(bridge()$about(python_model(object))))
  columns <- object$recipe$columns
  history <- as.data.frame(object)
  structure(list(
    class = object$class, trained = about$trained, epochs = about$epochs, cells = length(object$cells),
    features = length(object$features), absent = length(object$recipe$absent), beside = unlist(about$beside),
    columns = columns[lengths(columns) > 0], parameters = about$parameters, loops = about$loops, arguments = about$arguments,
    changed = as.character(unlist(about$changed)), last = utils::tail(history, 1)
  ), class = "summary.scelbo_model")
}

#' @export
print.summary.scelbo_model <- function(x, ...) {
  print_head(x)
  table <- function(values) cli::cat_line("  ", format(names(values)), "  ", in_short(values))
  table(c(x$arguments, list(parameters = x$parameters, loops = x$loops)))
  if (nrow(x$last)) table(x$last)
  invisible(x)
}

# The values of arguments in a few letters each.
in_short <- function(values) {
  vapply(values, function(value) {
    if (is.null(value)) return("NULL")
    if (is.list(value) || length(value) > 3) return(some_of(names(value) %||% as.character(value), 4))
    paste(format(value, digits = 5), collapse = ", ")
  }, "")
}

#' The training history of a model
#'
#' @param x A `scelbo_model`.
#' @param row.names,optional,... As in [base::as.data.frame()]; not used.
#' @return A data.frame with one row an epoch and the columns `epoch`, `elbo_train`, `elbo_validation`, ... (`NA` where
#'   a metric was not computed in that epoch).
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' model <- scvi(simulate_cells(n_cells = 100, n_genes = 50)) |> train(max_epochs = 2, verbose = FALSE)
#' as.data.frame(model)
#' @export
as.data.frame.scelbo_model <- function(x, row.names = NULL, optional = FALSE, ...) {
  history <- from_pandas(with_python(bridge()$history(python_model(x))))
  rownames(history) <- NULL
  history
}
