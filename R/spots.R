#' What is in each spot
#'
#' Shares of cell types in spots, by a trained [stereoscope()] or [destvi()] model; states of the types' cells, by a trained
#' [destvi()] model; and what their references have learnt of dissociated cells.
#'
#' @inheritParams questions
#' @param object Spots (of `get_vamp_prior()` cells) that are not the model's own, as in [questions]. They need not have been
#'   trained on (but for the states of a [destvi()] model without amortised \eqn{\gamma}{gamma}).
#' @param cells Only these spots: names, positions, or logicals.
#' @param type The cell type: one of the columns of `get_proportions()`. (Of a [stereoscope()] model one or more.)
#' @param features Names of the genes. `NULL`: all, as long as the (dense) result stays below half a gigabyte. `"all"`:
#'   all, whatever their number.
#' @section Errors: As in [questions]; `scelbo_argument_error` where there is no such cell type, with the nearest match, or
#'   the model does not know the question.
#' @seealso [plot_proportions()].
#' @return What each function returns begins its paragraph under Details.
#' @name spots
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' simulated <- simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)
#' reference <- condscvi(simulated$cells, labels = "cell_type") |> train(max_epochs = 2, verbose = FALSE)
#' model <- destvi(simulated$spots, reference, augmentation = FALSE) |> train(max_epochs = 2, verbose = FALSE)
#' head(get_proportions(model), 3)
#' sure <- subset(estimate_proportions(model, interval = 0.9), lower > 0.1)
#' head(get_genes(model), 3) # which are left out, and why
#'
#' states <- get_gamma(model)[["type0"]]
#' in_type <- get_scale_for_ct(model, "type0", features = c("gene1", "gene2"))
#' from_type <- get_expression_for_ct(model, "type0", features = c("gene1", "gene2"))
NULL

#' @rdname spots
#' @details `get_proportions()`: a data.frame, spots x types: of the counts that all types gave, \eqn{\pi_{sz} = v_{sz} / \sum_k
#'   v_{sk}}{pi_sz = v_sz / sum_k v_sk}. Rows sum to 1.
#' @param keep_noise Add the column `noise_term`: the share of a spot's expected counts that no type explains. The types then
#'   sum to the rest.
#' @param refine Bring each spot's amounts to their optimum, all else as learnt, and with `augmentation` the shares towards
#'   what networks read off the counts; `FALSE`: as training left them, of the model's own spots.
#' @export
get_proportions <- function(model, ...) UseMethod("get_proportions")

#' @rdname spots
#' @export
get_proportions.scelbo_model <- function(model, object = NULL, cells = NULL, keep_noise = FALSE, refine = TRUE, ...) {
  ask_table(model, "get_proportions", object, cells, keep_noise = keep_noise, refine = refine, ...)
}

#' @rdname spots
#' @details `estimate_proportions()`: how sure they are, a data.frame with a row a spot and type: `spot`; `cell_type`, a
#'   factor; `proportion`; its standard deviation `std` by the noise of counts alone; `lower` and `upper` bounds of the
#'   interval. How many `std` it reaches is learnt from mixtures of the reference's own cells, as the cells of a spot are not
#'   the mean of their types.
#' @param interval The share of true proportions between `lower` and `upper`.
#' @export
estimate_proportions <- function(model, ...) UseMethod("estimate_proportions")

#' @rdname spots
#' @export
estimate_proportions.scelbo_model <- function(model, object = NULL, cells = NULL, interval = 0.9, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  found <- ask(model, "estimate_proportions", adata = about$adata, indices = at, interval = interval, ...)
  parts <- c(proportion = "mean", std = "std", lower = "lower", upper = "upper")
  values <- lapply(parts, function(part) as.vector(as_numbers(found[[part]])))
  types <- names_of(found$mean$columns)
  spots <- names_of(found$mean$index)
  data.frame(spot = rep(spots, length(types)), cell_type = factor(rep(types, each = length(spots)), types), values)
}

#' @rdname spots
#' @details `get_genes()`: a data.frame with a row a gene: whether it is `used`, and else why it is `left_out`.
#' @export
get_genes <- function(model, ...) UseMethod("get_genes")

#' @rdname spots
#' @export
get_genes.scelbo_model <- function(model, ...) from_pandas(ask(model, "get_genes", ...))

#' @rdname spots
#' @details `get_gamma()`: a list with a matrix of each type, spots x `n_latent`: where its cells lie in the latent space of the
#'   [condscvi()] model, \eqn{\gamma_{sz}}{gamma_sz}. (Of a type that is not in a spot it says what the prior does.)
#' @export
get_gamma <- function(model, ...) UseMethod("get_gamma")

#' @rdname spots
#' @export
get_gamma.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  gamma <- to_r(ask(model, "get_gamma", adata = about$adata, indices = at, return_numpy = TRUE, ...))
  types <- as.character(unlist(to_r(model$python$cell_types)))
  dimnames(gamma) <- list(types, chosen(about$cells, at), paste0("gamma_", seq_len(dim(gamma)[[3]])))
  sapply(types, function(type) array(gamma[type, , ], dim(gamma)[-1], dimnames(gamma)[-1]), simplify = FALSE)
}

#' @rdname spots
#' @details `get_scale_for_ct()`: of a [destvi()] model a matrix, **features x spots**: the expected share of each gene in the
#'   counts of a cell of this type, in the state that it has in each spot, \eqn{f_g(z, \gamma_{sz}) e^{o_g}}{f_g(z, gamma_sz)
#'   exp(o_g)}. Of a [stereoscope()] model, which knows one state, features x types: \eqn{\beta_g w_{zg} e^{o_g}}{beta_g w_zg
#'   exp(o_g)}, as spots (of the first batch) count.
#' @export
get_scale_for_ct <- function(model, ...) UseMethod("get_scale_for_ct")

#' @rdname spots
#' @export
get_scale_for_ct.scelbo_model <- function(model, type, features = NULL, object = NULL, cells = NULL, ...) {
  ask_of_type(model, "get_scale_for_ct", type, features, object, cells, ...)
}

#' @rdname spots
#' @export
get_scale_for_ct.scelbo_spatialstereoscope <- function(model, type, features = NULL, ...) {
  features <- dense_features(model, features, length(type), of = "types")
  genes_by(ask(model, "get_scale_for_ct", y = as.list(type), ...), features)
}

#' @rdname spots
#' @details `get_expression_for_ct()`: of a [destvi()] model a matrix, features x spots: the expected counts that the cells of
#'   this type give in each spot, \eqn{v_{sz} \beta_g f_g(z, \gamma_{sz}) e^{o_g}}{v_sz beta_g f_g(z, gamma_sz) exp(o_g)}. Over
#'   all types and noise these add up to the expected counts.
#' @export
get_expression_for_ct <- function(model, ...) UseMethod("get_expression_for_ct")

#' @rdname spots
#' @export
get_expression_for_ct.scelbo_model <- function(model, type, features = NULL, object = NULL, cells = NULL, ...) {
  ask_of_type(model, "get_expression_for_ct", type, features, object, cells, ...)
}

ask_of_type <- function(model, question, type, features, object, cells, ..., call = caller_env()) {
  about <- cells_asked(model, object, call)
  at <- cell_positions(cells, about$cells, call)
  features <- dense_features(model, features, length(at %||% about$cells), of = "spots", call = call)
  genes_by(ask(model, question, label = type, adata = about$adata, indices = at, ..., call = call), features)
}

# Python's data frame of rows x genes -> a matrix of these features x rows.
genes_by <- function(frame, features) {
  features_by_cells(frame$reindex(columns = as.list(features))$to_numpy(), features, names_of(frame$index))
}

#' @rdname spots
#' @details `get_fine_celltypes()`: of a [destvi()] model whose reference had `fine_labels` a list with a matrix of each type that has
#'   finer labels, spots x labels: the share of each in what the type is there.
#' @export
get_fine_celltypes <- function(model, ...) UseMethod("get_fine_celltypes")

#' @rdname spots
#' @export
get_fine_celltypes.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  found <- ask(model, "get_fine_celltypes", adata = about$adata, indices = cell_positions(cells, about$cells), ...)
  types <- to_r(reticulate::import_builtins(FALSE)$list(found))
  sapply(as.character(unlist(types)), function(type) as.matrix(from_pandas(found[[type]])), simplify = FALSE)
}

#' @rdname spots
#' @details `get_vamp_prior()`: of a [condscvi()] model the states that cells of each type are in, a mixture of normals: a
#'   data.frame with a row a component: `cell_type`, a factor; `weight`, which sums to 1 within a type; `mean_0`, ...,
#'   `variance_0`, ...
#' @param p Components of a type at most.
#' @export
get_vamp_prior <- function(model, ...) UseMethod("get_vamp_prior")

#' @rdname spots
#' @export
get_vamp_prior.scelbo_model <- function(model, object = NULL, p = 15, ...) {
  about <- cells_asked(model, object)
  prior <- from_pandas(ask(model, "get_vamp_prior", adata = about$adata, p = p, ...))
  prior$cell_type <- factor(prior$cell_type, unique(prior$cell_type))
  rownames(prior) <- NULL
  prior
}

#' @rdname spots
#' @details `get_profiles()`: of a [stereoscope_reference()] model a matrix, features x types: the expected share of each gene in
#'   a cell's counts, \eqn{w_{zg} e^{o_g}}{w_zg exp(o_g)}.
#' @export
get_profiles <- function(model, ...) UseMethod("get_profiles")

#' @rdname spots
#' @export
get_profiles.scelbo_model <- function(model, features = NULL, ...) {
  profiles <- ask(model, "get_profiles", ...)
  genes_by(profiles, dense_features(model, features, length(profiles), of = "types"))
}
