#' Find hyper-parameters by trying
#'
#' Trials with other arguments each, side by side; those that fall behind in the ELBO of held-out cells stop (successive
#' halving). Needs the Python package Ray: `pip install "ray[tune]"` into the Python that [backend_status()] tells.
#'
#' @inheritParams check_data
#' @param object,batch,... Cells, and what a model reads of them, as in [scvi()]; also arguments of the model that all trials have.
#' @param space Argument -> what it may be: values, or `list(low = 1e-4, high = 1e-2, log = TRUE)`, a range (of whole numbers, if both
#'   ends are). Arguments are those of the model, of [train()], and of what moves the weights (`lr`, `weight_decay`, ...).
#' @param metric What is smallest in the best trial: a column of `as.data.frame(model)`.
#' @param n_trials How many are tried.
#' @param max_epochs Of a trial that is not stopped; `NULL`: as [train()] has it.
#' @param stop_early,grace_epochs Whether trials that fall behind stop, and after how many epochs at the earliest.
#' @param folder Where trials are kept. If it holds those of a call that was cut short, they go on. `NULL`: a temporary place.
#' @param at_once Trials that run side by side; `NULL`: as many as there is room for.
#' @param seed Of the arguments drawn and of every trial.
#' @param verbose Show progress.
#' @return A list: `best`, the arguments of the best trial; `table`, a data.frame with a row a trial, the best first, with its `value`,
#'   its `epochs`, and whether it ran to its `end`; `model`, that of the best trial, trained.
#' @section Errors: `scelbo_backend_error` where Ray is not installed; `scelbo_argument_error` where an argument of `space` is unknown,
#'   with the nearest match.
#' @seealso [train()]
#' @examples
#' # tune(so, list(n_latent = c(5, 10, 20), lr = list(low = 1e-4, high = 1e-2, log = TRUE)), batch = "batch")
#' @export
tune <- function(object, space, batch = NULL, ..., model = "scvi", metric = "elbo_validation", n_trials = 20, max_epochs = NULL,
                 stop_early = TRUE, grace_epochs = 10, folder = NULL, at_once = NULL, seed = 0, verbose = TRUE) {
  check_names(model, made_of_cells, "constructor of models of cells")
  class <- constructors[[model]]
  given <- c(list(object = object), if (!is.null(batch)) list(batch = batch), list(...))
  own <- names(given)
  data <- read_arguments(class, arguments_of(get(model, mode = "function"), given))
  told <- c(list(metric = metric, n_trials = n_trials, max_epochs = max_epochs, stop_early = stop_early, grace_epochs = grace_epochs,
                 folder = if (!is.null(folder)) path.expand(folder), at_once = at_once, seed = seed),
            data$fields[names(data$fields) %in% own])
  told <- told[lengths(told) > 0]
  environment_of_workers()
  progress <- listen_to_progress(verbose)
  on.exit(progress$close(), add = TRUE)
  tuned <- heard(with_python(bridge()$tune(class, data$adata, as_dict(data$keys), as_dict(lapply(space, as_range)), as_dict(told))))
  progress$conclude()
  list(best = lapply(to_r(tuned$best), identity), table = from_pandas(tuned$table), model = keep_state(handle_of(tuned$model, class, data)))
}

# A range has names; values do not, and one is a list of one.
as_range <- function(given) if (is.null(names(given))) as.list(given) else as_dict(as.list(given))

# Until the calling function ends, processes that Python starts find the libraries that they were built with: see outside_r().
environment_of_workers <- function(frame = parent.frame()) {
  environ <- reticulate::import("os", convert = FALSE)$environ
  set <- function(path) reticulate::py_set_item(environ, "LD_LIBRARY_PATH", path)
  before <- Sys.getenv("LD_LIBRARY_PATH")
  set(outside_r(Sys.getenv("LD_LIBRARY_PATH")))
  do.call(on.exit, list(rlang::expr((!!set)(!!before)), add = TRUE), envir = frame)
}
