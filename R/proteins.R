#' Surface proteins, as a model sees them
#'
#' What a trained [totalvi()] model says of proteins, and of genes beside them; a [multivi()] model with proteins says some of
#' it, too. (Of its other questions, such as
#' [get_latent_representation()] or [differential_abundance()], nothing differs from other models.)
#'
#' @inheritParams questions
#' @param features Names of the genes. `NULL`: the object's variable features, else all, as long as the (dense) result stays
#'   below half a gigabyte. `"all"`: all, whatever their number. `character()`: none.
#' @param proteins Names of the proteins; `NULL`: all.
#' @param library_size What the values of genes of a cell sum to, or `"latent"`: the model's library size.
#' @param scale_protein Each protein's share of its cell's.
#' @param sample_protein_mixing Draw whether a cell has the protein (else its probability counts).
#' @param include_protein_background Add what the background contributes, \eqn{\pi \beta}{pi beta}.
#' @inheritSection questions Errors
#' @return What each function returns begins its paragraph under Details.
#' @name proteins
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("cite", n_cells = 100, n_genes = 50)
#' model <- totalvi(so, batch = "batch", protein_assay = "protein_expression") |> train(max_epochs = 2, verbose = FALSE)
#' values <- get_normalized_expression(model, features = c("gene1", "gene2"), library_size = 1e4)
#' values$rna[, 1:3]
#' values$protein[, 1:3] # counts without background, also where a batch was not measured
#' has_it <- get_protein_foreground_probability(model, proteins = "protein1") > 0.5
NULL

#' @rdname proteins
#' @details `get_normalized_expression()` of such a model: a list of `rna`, the expected frequencies of genes, and
#'   `protein`, the expected counts of proteins without background, \eqn{(1 - \pi) \alpha \beta}{(1 - pi) alpha beta}; both
#'   features x cells. Proteins that were not measured in a cell's batch are decoded as in the batches where they were.
#' @export
get_normalized_expression.scelbo_totalvi <- function(model, object = NULL, features = NULL, cells = NULL,
                                                     transform_batch = NULL, transform = NULL, library_size = 1,
                                                     n_samples = 1, n_samples_overall = NULL, proteins = NULL,
                                                     scale_protein = FALSE, sample_protein_mixing = FALSE,
                                                     include_protein_background = FALSE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  names <- chosen_or_drawn(about$cells, at, n_samples_overall)
  features <- dense_features(model, features, length(names))
  proteins <- chosen_proteins(model, proteins)
  genes <- if (length(features)) features else model$features[[1]] # Python has no word for none
  values <- ask(
    model, "get_normalized_expression", adata = about$adata, indices = at, gene_list = as.list(genes),
    transform_batch = as_groups(transform_batch), transform = counterfactual(model, transform),
    library_size = library_size, n_samples = n_samples, n_samples_overall = n_samples_overall,
    protein_list = as.list(proteins), scale_protein = scale_protein, sample_protein_mixing = sample_protein_mixing,
    include_protein_background = include_protein_background, return_numpy = TRUE, ...
  )
  rna <- features_by_cells(values[[0]], genes, names)
  list(rna = if (length(features)) rna, protein = features_by_cells(values[[1]], proteins, names))
}

#' @rdname proteins
#' @details `get_normalized_protein()`: the latter alone, also of a [multivi()] model (whose `get_normalized_expression()` is
#'   of genes only).
#' @export
get_normalized_protein <- function(model, ...) UseMethod("get_normalized_protein")

#' @rdname proteins
#' @export
get_normalized_protein.scelbo_model <- function(model, object = NULL, proteins = NULL, cells = NULL,
                                                transform_batch = NULL, transform = NULL, n_samples = 1, ...) {
  ask_proteins(model, "get_normalized_protein", object, proteins, cells, transform_batch, transform,
               n_samples = n_samples, ...)
}

#' @rdname proteins
#' @export
get_normalized_protein.scelbo_totalvi <- function(model, object = NULL, proteins = NULL, ...) {
  get_normalized_expression(model, object, character(), proteins = proteins, ...)$protein
}

#' @rdname proteins
#' @details `get_protein_foreground_probability()`: proteins x cells, the probability \eqn{1 - \pi}{1 - pi} that a cell has
#'   the protein, beyond background.
#' @export
get_protein_foreground_probability <- function(model, ...) UseMethod("get_protein_foreground_probability")

#' @rdname proteins
#' @export
get_protein_foreground_probability.scelbo_model <- function(model, object = NULL, proteins = NULL, cells = NULL,
                                                            transform_batch = NULL, transform = NULL, n_samples = 1,
                                                            ...) {
  ask_proteins(model, "get_protein_foreground_probability", object, proteins, cells, transform_batch, transform,
               n_samples = n_samples, ...)
}

#' @rdname proteins
#' @details `get_protein_background_mean()`: proteins x cells, the background \eqn{\beta}{beta} in counts.
#' @export
get_protein_background_mean <- function(model, ...) UseMethod("get_protein_background_mean")

#' @rdname proteins
#' @export
get_protein_background_mean.scelbo_model <- function(model, object = NULL, proteins = NULL, cells = NULL,
                                                     transform_batch = NULL, transform = NULL, n_samples = 1, ...) {
  ask_proteins(model, "get_protein_background_mean", object, proteins, cells, transform_batch, transform,
               n_samples = n_samples, ...)
}

# (`handle`, as an argument of Python's named `mode` would match `model`.)
ask_proteins <- function(handle, question, object, proteins, cells, transform_batch, transform, ...,
                         call = caller_env()) {
  about <- cells_asked(handle, object, call)
  at <- cell_positions(cells, about$cells, call)
  check_offered(handle, question, call)
  proteins <- chosen_proteins(handle, proteins, call)
  values <- ask(handle, question, adata = about$adata, indices = at, protein_list = as.list(proteins),
                transform_batch = as_groups(transform_batch), transform = counterfactual(handle, transform),
                return_numpy = TRUE, ..., call = call)
  features_by_cells(values, proteins, chosen(about$cells, at))
}

# Names of the features that a model reads beside genes; none where these data do not have such.
features_beside <- function(model, field) field_features(python_model(model), field)

field_features <- function(python, field) {
  as.character(unlist(to_r(with_python(bridge()$features_of(python, field)))))
}

chosen_proteins <- function(model, proteins, call = caller_env()) {
  known <- features_beside(model, "protein")
  if (is.null(proteins) || identical(proteins, "all")) return(known)
  check_names(proteins, known, "protein in the model", call)
  proteins
}

#' @rdname differential_expression
#' @details Of a [totalvi()] model genes and proteins are tested, each with false discoveries of its own (the column
#'   `modality` says which is which; `use_field = "protein"` tests these alone), and `mode` is `"change"` unless it is
#'   given: of proteins by the fold change of expected counts without background, to which `protein_prior_count` (0.1) is
#'   added. `scale1`, `scale2` are then counts.
#' @export
differential_expression.scelbo_totalvi <- function(model, ..., mode = "change") {
  differential_expression.scelbo_model(model, ..., mode = mode)
}

#' @rdname proteins
#' @details `plot_proteins()`: a ggplot, measured counts of each protein beside the model's, without background, in colour
#'   how probable it is that the cell has the protein. Background ends up at the bottom.
#' @param n_cells At most so many cells, chosen at random.
#' @export
plot_proteins <- function(model, object = NULL, proteins = NULL, cells = NULL, n_cells = 2000) {
  need_ggplot()
  about <- cells_asked(model, object)
  check_offered(model, "get_protein_foreground_probability", environment())
  at <- cell_positions(cells, about$cells) %||% (seq_along(about$cells) - 1L)
  at <- at[round(seq(1, length(at), length.out = min(n_cells, length(at))))]
  proteins <- chosen_proteins(model, proteins)
  known <- features_beside(model, "protein")
  measured <- to_r(with_python(
    bridge()$observed(model$python, "protein", about$adata, as.array(at))
  ))[, match(proteins, known), drop = FALSE]
  values <- get_normalized_protein(model, object, proteins, cells = at + 1L)
  probability <- get_protein_foreground_probability(model, object, proteins, at + 1L)
  points <- data.frame(protein = factor(rep(proteins, each = length(at)), proteins), measured = as.vector(measured),
                       denoised = as.vector(t(values)), probability = as.vector(t(probability)))
  ggplot2::ggplot(points, ggplot2::aes(.data$measured, .data$denoised, colour = .data$probability)) +
    diagonal() +
    ggplot2::geom_point(size = 0.4, alpha = 0.6) +
    ggplot2::facet_wrap(~protein, scales = "free") +
    ggplot2::scale_x_continuous(trans = "log1p", breaks = c(0, 10, 100, 1000, 10000)) +
    ggplot2::scale_y_continuous(trans = "log1p", breaks = c(0, 10, 100, 1000, 10000)) +
    scale_probability("probability\nthat it is there") +
    ggplot2::labs(x = "measured count", y = "count without background") +
    theme_scelbo()
}
