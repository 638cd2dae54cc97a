#' Questions to a trained model
#'
#' @param model A trained `scelbo_model`.
#' @param object Cells to ask about that are not the model's own: an object of any kind that the model's constructor
#'   takes, read in the same way (assay, layer, columns; features are matched by name). `NULL`: the model's own cells.
#' @param cells Only these cells: names, positions, or logicals.
#' @param ... Further arguments of the Python method of the same name, such as `batch_size` or `seed`.
#' @section Errors: `scelbo_training_error` before training; `scelbo_setup_error` where a cell, a feature or a column is
#'   not there, with the nearest match.
#' @return What each function returns begins its paragraph under Details.
#' @name questions
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' z <- get_latent_representation(model)
#' rho <- get_normalized_expression(model, features = c("gene1", "gene2"), library_size = 1e4)
#' get_elbo(model)
#' get_elbo(model, object = simulate_cells(n_cells = 50, n_genes = 50, seed = 1)) # of other cells
NULL

#' @rdname questions
#' @details `get_latent_representation()`: a matrix, cells x `n_latent`: the mean of \eqn{q(z \mid x)}{q(z | x)}, or one
#'   draw of it where `give_mean = FALSE`. (Of an [amortizedlda()] model cells x topics, each cell's shares of them. Of a
#'   [multivi()] model `modality = "expression"`, `"accessibility"` or `"protein"` asks one of its encoders alone.)
#' @param give_mean Mean (`TRUE`) or a random draw.
#' @export
get_latent_representation <- function(model, ...) UseMethod("get_latent_representation")

#' @rdname questions
#' @export
get_latent_representation.scelbo_model <- function(model, object = NULL, cells = NULL, give_mean = TRUE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  z <- ask(model, "get_latent_representation", adata = about$adata, indices = at, give_mean = give_mean, ...)
  by_latent(model, z, chosen(about$cells, at))
}

latent_names <- function(model, n) {
  paste0(if (offers(model, "get_feature_by_topic")) "topic" else tolower(model$class), "_", seq_len(n))
}

# Python's array or data frame -> a matrix with a column for each latent dimension.
by_latent <- function(model, values, rows, more = NULL) {
  values <- as_numbers(values)
  dimnames(values) <- list(rows, c(latent_names(model, ncol(values) - length(more)), more))
  values
}

as_numbers <- function(values) {
  to_r(if (reticulate::py_has_attr(values, "to_numpy")) values$to_numpy() else values)
}

#' @rdname questions
#' @details `get_latent_library_size()`: the library size \eqn{\ell}{l} of each cell, in counts: inferred where it is
#'   latent, else the observed total or the size factor.
#' @export
get_latent_library_size <- function(model, ...) UseMethod("get_latent_library_size")

#' @rdname questions
#' @export
get_latent_library_size.scelbo_model <- function(model, object = NULL, cells = NULL, give_mean = TRUE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  size <- ask(model, "get_latent_library_size", adata = about$adata, indices = at, give_mean = give_mean, ...)
  setNames(as.vector(to_r(size)), chosen(about$cells, at))
}

#' @rdname questions
#' @details `get_batch_representation()`: a matrix, cells x `batch_embedding_dim`: the learnt vector of each cell's
#'   batch, of a model with `batch_representation = "embedding"`.
#' @export
get_batch_representation <- function(model, ...) UseMethod("get_batch_representation")

#' @rdname questions
#' @export
get_batch_representation.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  vectors <- ask(model, "get_batch_representation", adata = about$adata, indices = at, ...)
  vectors <- to_r(vectors)
  dimnames(vectors) <- list(chosen(about$cells, at), paste0("batch_", seq_len(ncol(vectors))))
  vectors
}

#' @rdname questions
#' @details `get_normalized_expression()`: a matrix, **features x cells** as everywhere in R: the expected frequencies
#'   \eqn{\rho}{rho} times `library_size`, without noise and, on request, without batch effects. (With
#'   `return_mean = FALSE` an array, features x cells x `n_samples`.)
#' @param features Names of the features. `NULL`: the object's variable features, else all, as long as the (dense)
#'   result stays below half a gigabyte. `"all"`: all, whatever their number.
#' @param transform_batch Give the values that the cells would have had in this batch; several batches are averaged.
#' @param transform The same for any covariate, a category or a number: `list(donor = "A", percent.mt = 0)`.
#' @param library_size What the values of a cell sum to over all features, or `"latent"`: the model's library size.
#' @param file Write the values to this new `.h5ad` file (or `.zarr` folder), a few cells at a time: memory does not
#'   grow with the result, and without `features` it is all of the variable ones, or all, whatever their number. Returns
#'   them as an `HDF5Array`, features x cells, if that package is installed and the file is an `.h5ad`; else the path,
#'   invisibly.
#' @param n_samples 1 decodes the mean of \eqn{q(z \mid x)}{q(z | x)}; more average over so many draws.
#' @param n_samples_overall In place of every cell so many draws, each from a cell chosen at random.
#' @export
get_normalized_expression <- function(model, ...) UseMethod("get_normalized_expression")

#' @rdname questions
#' @export
get_normalized_expression.scelbo_model <- function(model, object = NULL, features = NULL, cells = NULL,
                                                   transform_batch = NULL, transform = NULL, library_size = 1,
                                                   n_samples = 1, n_samples_overall = NULL, file = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  names <- chosen_or_drawn(about$cells, at, n_samples_overall)
  features <- dense_features(model, features, if (is.null(file)) length(names) else 0)
  path <- if (!is.null(file)) path.expand(file)
  rho <- ask(model, "get_normalized_expression", adata = about$adata, indices = at, gene_list = as.list(features),
             transform_batch = as_groups(transform_batch), transform = counterfactual(model, transform),
             library_size = library_size, n_samples = n_samples, n_samples_overall = n_samples_overall,
             return_numpy = TRUE, out = path, ...)
  if (is.null(file)) return(features_by_cells(rho, features, names))
  with_python(rho$file$close())
  on_disk(path, features, names)
}

# The matrix in an h5ad file: HDF5 keeps rows together and R columns, so cells x features of one are features x cells of
# the other.
on_disk <- function(path, features, cells) {
  if (endsWith(path, ".h5ad") && installed("HDF5Array")) {
    values <- HDF5Array::HDF5Array(path, "X")
    dimnames(values) <- list(features, cells)
    return(values)
  }
  open <- if (endsWith(path, ".h5ad")) "HDF5Array::HDF5Array(path, \"X\"), features x cells" else "Python's anndata"
  rlang::inform(c(paste0("Written to '", path, "'."), i = paste0("Open it by ", open, ".")))
  invisible(path)
}

installed <- function(package) requireNamespace(package, quietly = TRUE)

# (draws x) cells x features, as Python has them -> features x cells (x draws).
features_by_cells <- function(values, features, cells) {
  values <- aperm(to_r(values))
  dimnames(values) <- list(features, cells, NULL)[seq_along(dim(values))]
  values
}

# list(column = value) as Python reads it: categories as R writes them, and the batch goes by its column's name too.
counterfactual <- function(model, transform) {
  if (is.null(transform)) return(NULL)
  transform <- as.list(transform)
  columns <- model$recipe$columns
  category <- !names(transform) %in% columns$continuous
  transform[category] <- lapply(transform[category], as.character)
  names(transform)[names(transform) %in% columns$batch] <- "batch"
  names(transform)[names(transform) %in% columns$labels] <- "label"
  as_dict(transform)
}

chosen <- function(names, at) if (is.null(at)) names else names[at + 1L]

chosen_or_drawn <- function(names, at, n_draws) {
  if (is.null(n_draws)) chosen(names, at) else paste0("draw", seq_len(n_draws))
}

dense_limit <- 2^29 # bytes of a dense result that is made without being asked for

# The features asked for, of a result with a row for each and `n` columns. (`n` is looked at once `features` are known.)
# `what` is the argument that chose them, `hint` another way out.
dense_features <- function(model, features, n = length(features), of = "cells", what = "features", hint = NULL,
                           known = model$features, call = caller_env()) {
  if (identical(features, "all")) return(known)
  if (!is.null(features)) {
    check_names(features, known, "feature in the model", call)
    return(features)
  }
  variable <- intersect(model$variable, known)
  features <- if (length(variable)) variable else known
  size <- 8 * length(features) * n
  if (size > dense_limit) {
    abort_scelbo("argument", paste0(length(features), " ", what, " x ", n, " ", of, " would be a dense matrix of ",
                                    round(size / 2^30, 1), " GB."),
                 paste0("Choose some by `", what, " =` (or ask for `", what, " = \"all\"`), or fewer `cells =`.", hint),
                 call = call)
  }
  features
}

#' @rdname questions
#' @details `get_elbo()`: the evidence lower bound, in nats a cell (higher is better).
#' @export
get_elbo <- function(model, ...) UseMethod("get_elbo")

#' @rdname questions
#' @export
get_elbo.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  ask_number(model, "get_elbo", object, cells, ...)
}

#' @rdname questions
#' @details `get_reconstruction_error()`: minus the expected log likelihood of the counts, in nats a cell; of a model of
#'   several modalities a list: `reconstruction_loss`, and the part of each (`rna`, `atac`, `protein`), over the cells
#'   that have it.
#' @export
get_reconstruction_error <- function(model, ...) UseMethod("get_reconstruction_error")

#' @rdname questions
#' @export
get_reconstruction_error.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  ask_number(model, "get_reconstruction_error", object, cells, ...)
}

#' @rdname questions
#' @details `get_latent_kl()`: what each latent dimension says about cells, \eqn{KL(q(z_d \mid x) \| p(z_d))}{KL(q(z_d |
#'   x) || p(z_d))}, in nats; one near 0 has collapsed.
#' @export
get_latent_kl <- function(model, ...) UseMethod("get_latent_kl")

#' @rdname questions
#' @export
get_latent_kl.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  name_latents(model, ask(model, "get_latent_kl", adata = about$adata, indices = at, ...))
}

name_latents <- function(model, values) {
  values <- as.vector(to_r(values))
  setNames(values, latent_names(model, length(values)))
}

#' @rdname questions
#' @details `get_marginal_ll()`: the log marginal likelihood by importance sampling, in nats a cell; slow.
#' @param n_mc_samples Draws of \eqn{z} a cell.
#' @export
get_marginal_ll <- function(model, ...) UseMethod("get_marginal_ll")

#' @rdname questions
#' @export
get_marginal_ll.scelbo_model <- function(model, object = NULL, cells = NULL, n_mc_samples = 1000, ...) {
  ask_number(model, "get_marginal_ll", object, cells, n_mc_samples = n_mc_samples, ...)
}

ask_number <- function(model, question, object, cells, ..., call = caller_env()) {
  about <- cells_asked(model, object, call)
  at <- cell_positions(cells, about$cells, call)
  answer <- to_r(ask(model, question, adata = about$adata, indices = at, ..., call = call))
  if (!is.list(answer)) return(as.vector(answer))
  parts <- lapply(answer, as.vector)
  if (length(parts) == 1) parts[[1]] else parts
}
