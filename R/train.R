#' Train a model
#'
#' Maximises the evidence lower bound by Adam (for some models AdamW), over minibatches. Press Ctrl-C (or Esc, or the stop
#' button) once to stop at the next minibatch and keep what was learnt; press it twice to give up.
#'
#' @param model A `scelbo_model`, as made by [scvi()] or another constructor.
#' @param max_epochs How often to pass over the cells. `NULL`: `min(400, 400 * 20000 / cells)`; of a [peakvi()] model 500,
#'   or fewer, as it stops once the reconstruction of held-out cells has not improved for 50 epochs.
#' @param seed The same seed gives the same model, in R and in Python. R's own random numbers are not touched.
#' @param device `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`.
#' @param threads Number of threads while training. `NULL`: as many as the environment variable `OMP_NUM_THREADS` says,
#'   else half of the cores and at most four (where other work shares the cores, more would wait for each other). Results
#'   differ by rounding alone, as sums are made in another order: by less than 0.0001 of the ELBO in a few epochs.
#' @param verbose Show a progress bar (and one closing line). In a report only the closing line is shown.
#' @param ... Further arguments of the Python model's `train()`: `train_size`, `batch_size`, `early_stopping`,
#'   `early_stopping_patience`, `check_val_every_n_epoch`, `plan` (`"scvi-tools"` trains as scvi-tools does), `plan_kwargs`
#'   (a list), `resume` (a file from which a training that was cut short goes on, to the same model), ...
#' @return The model, trained, so that calls can be piped. Training it again continues.
#' @seealso `plot(model)` and `as.data.frame(model)` show how it went.
#' @section Errors: `scelbo_training_error` where the loss became infinite: the model is put back to its last good
#'   state.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 5)
#' tail(as.data.frame(model), 2)
#' @export
train <- function(model, ...) UseMethod("train")

#' @rdname train
#' @export
train.scelbo_model <- function(model, max_epochs = NULL, seed = 0, device = "auto", threads = NULL, verbose = TRUE,
                               ...) {
  python_model(model)
  if (!model$has_data) {
    abort_scelbo("setup", "This model came back from a file, without the cells that it was trained on.",
                 "Make it again with its constructor to train on.")
  }
  if (!is.null(threads)) {
    before <- bridge()$threads(as.integer(threads))
    on.exit(bridge()$threads(before), add = TRUE)
  }
  progress <- listen_to_progress(verbose)
  on.exit(progress$close(), add = TRUE)
  ask(model, "train", max_epochs = max_epochs, seed = seed, !!!device_arguments(device), ...)
  progress$conclude(model)
  invisible(keep_state(model))
}

# "cuda:1" -> what Lightning calls accelerator and devices.
device_arguments <- function(device, call = caller_env()) {
  if (!is.character(device) || length(device) != 1 || !grepl("^(auto|cpu|mps|(cuda|gpu)(:[0-9]+)?)$", device)) {
    abort_scelbo("argument", paste0("`device` cannot be ", deparse1(device), "."),
                 "It is \"auto\", \"cpu\", \"cuda\", \"cuda:1\" (a certain GPU) or \"mps\".", call = call)
  }
  parts <- strsplit(device, ":", fixed = TRUE)[[1]]
  accelerator <- switch(parts[[1]], cuda = "gpu", parts[[1]])
  list(accelerator = accelerator, devices = if (length(parts) == 2) list(as.integer(parts[[2]])))
}
