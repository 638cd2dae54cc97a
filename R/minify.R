#' A model of cells without their counts
#'
#' Replaces the counts by the parameters of \eqn{q(z \mid x)}{q(z | x)}, some 20 numbers a cell. Latent positions, normalised
#' expression, counterfactuals and differential expression are asked of the result as before, and answered the same; and
#' they come along where it is saved (`saveRDS()`, [save_model()]), so that no object need be passed. What needs counts
#' (training, the ELBO, raw means) says that they are gone: pass the object that holds them by `object =`.
#'
#' @param model A trained `scelbo_model` with its cells.
#' @param keep_counts Keep the counts too: nothing is encoded again, and nothing is lost.
#' @param ... Further arguments of the Python method, such as `batch_size`.
#' @return A second `scelbo_model`. The first is as it was.
#' @section Errors: `scelbo_setup_error` where the model came back from a file without its cells.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' file <- tempfile(fileext = ".rds")
#' saveRDS(minify(model), file)
#' get_normalized_expression(readRDS(file), features = "gene1", cells = 1:3)
#' @export
minify <- function(model, ...) UseMethod("minify")

#' @rdname minify
#' @export
minify.scelbo_model <- function(model, keep_counts = FALSE, ...) {
  cells_asked(model, NULL)
  small <- new_handle(model$class, recipe = model$recipe, cells = model$cells, features = model$features,
                      variable = model$variable, has_data = TRUE)
  small$python <- ask(model, "minify", keep_counts = keep_counts, ...)
  keep_state(small)
}
