#' A model of another package
#'
#' Makes a model of any class that extends scelbo's Python class `Model`: one of another Python package, or one of scelbo's own. It
#' needs no R code of that package: the class says what it reads and which arguments it has. [train()], questions that the
#' model offers, [write_back()], [save_model()] and `saveRDS()` work as with any other model.
#'
#' @inheritParams scvi
#' @param class The Python class with its package, `"mypackage.MyModel"` (installed into the Python that [backend_status()]
#'   tells); or the name of one of scelbo's own, `"SCVI"`.
#' @param batch,labels,categorical,continuous,size_factor As in [scvi()], of a model that reads them.
#' @param ... The model's hyper-parameters, and what else its `setup_anndata()` takes, by the names that they have in Python:
#'   `n_latent = 5, condition_key = "treatment"`. Proteins are named by `protein_assay`, see [totalvi()].
#' @inherit scvi return
#' @section Errors: `scelbo_backend_error` where the package is not installed; `scelbo_argument_error` where the class, or an
#'   argument of it, is unknown, with the nearest match; else as in [scvi()].
#' @seealso [sample_posterior()], for models that are written in Pyro.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- model(so, "SCVI", batch = "batch", n_latent = 5) |> train(max_epochs = 2, verbose = FALSE)
#' dim(get_latent_representation(model))
#' @export
model <- function(object, class, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL, ...,
                  assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE) {
  call <- environment()
  if (!is.character(class) || length(class) != 1) {
    abort_scelbo("argument", "`class` must be one text.", "Such as \"mypackage.MyModel\".", call = call)
  }
  python <- with_python(bridge(call)$model_class(class), call = call)
  columns <- list(batch = batch, labels = labels, categorical = categorical, continuous = continuous, size_factor = size_factor)
  columns <- columns[lengths(columns) > 0]
  reads <- unlist(to_r(bridge(call)$setup_arguments(python)))
  more <- rlang::list2(...)
  known <- c(unlist(to_r(bridge(call)$hyperparameters(python))), setdiff(reads, key_words), source_arguments)
  unread <- setdiff(key_words[names(columns)], reads)
  odd <- c(names(columns)[key_words[names(columns)] %in% unread], setdiff(names(more), c(known, names(key_words))))
  if (length(odd)) {
    known <- c(known, names(key_words)[key_words %in% reads])
    abort_scelbo("argument", paste(c(paste0(class, " has no argument '", odd[[1]], "'."), did_you_mean(odd[[1]], known)), collapse = " "),
                 paste0("It has ", some_of(setdiff(known, source_arguments)), "."), call = call)
  }
  given <- list(object = object, assay = assay, layer = layer, features = features, allow_non_counts = allow_non_counts)
  new_model(class, c(given, columns, more), call)
}

#' Posterior draws of a model that is written in Pyro
#'
#' What the posterior says of any site of the model: latents, deterministic sites, or new data in place of observed ones.
#'
#' @inheritParams questions
#' @param sites Names of sites. `NULL`: all latents.
#' @param n_samples Number of draws.
#' @param quantiles Of the draws, between 0 and 1.
#' @param ... Further arguments of the Python method: `return_samples`, `batch_size`, `seed`.
#' @return A list by site of lists `mean`, `sd`, `q05`, ... Of a site of the cells each is a matrix, **cells in rows**; else it has
#'   the shape that it has in the model.
#' @section Errors: `scelbo_argument_error` where a site is unknown, or the model is not written in Pyro.
#' @seealso [model()], which makes such a model.
#' @examples
#' # model(object, "mypackage.MyModel") |> train() |> sample_posterior(sites = "w")
#' @export
sample_posterior <- function(model, ...) UseMethod("sample_posterior")

#' @rdname sample_posterior
#' @export
sample_posterior.scelbo_model <- function(model, sites = NULL, object = NULL, cells = NULL, n_samples = 1000,
                                          quantiles = c(0.05, 0.5, 0.95), ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  answer <- ask(model, "sample_posterior", adata = about$adata, indices = at, sites = if (!is.null(sites)) as.list(sites),
                n_samples = n_samples, quantiles = as.list(quantiles), ...)
  told <- list()
  for (part in to_r(with_python(bridge()$posterior(answer)))) {
    values <- part[[3]]
    if (!is.null(part[[4]])) dimnames(values) <- list(as.character(unlist(part[[4]])), as.character(unlist(part[[5]])))
    told[[part[[1]]]][[part[[2]]]] <- values
  }
  told
}

#' Ask a model a question of its own
#'
#' Questions that R has a function for are asked by it. This asks any other that the model's Python class offers.
#'
#' @inheritParams questions
#' @param question Name of the Python method: `"get_loadings"`.
#' @param object,cells As in [questions], where the method takes cells (`adata`, `indices`).
#' @param ... Further arguments of the method.
#' @return What the method returns: a data frame, a matrix (with a row for each of the cells where it has as many), a number, or a
#'   Python object where R has nothing like it.
#' @section Errors: `scelbo_argument_error` where the model has no such question, with the nearest match.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' model <- scvi(simulate_cells(n_cells = 100, n_genes = 50)) |> train(max_epochs = 2, verbose = FALSE)
#' ask_model(model, "get_elbo", cells = 1:10)
#' @export
ask_model <- function(model, question, object = NULL, cells = NULL, ...) {
  python <- python_model(model)
  known <- as.character(unlist(reticulate::py_to_r(with_python(bridge()$questions(python)))))
  if (!question %in% known) {
    abort_scelbo("argument", paste(c(paste0("A model of class ", model$class, " has no question '", question, "'."),
                                     did_you_mean(question, known)), collapse = " "), paste0("It has ", some_of(known, 30), "."))
  }
  if (!reticulate::py_to_r(bridge()$takes_cells(python, question))) {
    return(plain_answer(ask(model, question, ..., asked = TRUE)))
  }
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  plain_answer(ask(model, question, adata = about$adata, indices = at, ..., asked = TRUE), chosen(about$cells, at))
}

# Python's answer in R, as far as R has something like it.
plain_answer <- function(value, cells = NULL) {
  if (inherits(value, "pandas.core.frame.DataFrame")) return(from_pandas(value))
  value <- to_r(value)
  if (is.array(value) && length(dim(value)) == 2 && nrow(value) == length(cells)) rownames(value) <- cells
  if (is.array(value) && length(dim(value)) == 1) value <- as.vector(value)
  if (is.numeric(value) && is.null(dim(value)) && length(value) == length(cells)) names(value) <- cells
  value
}
