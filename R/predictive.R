#' What a trained model expects to be counted
#'
#' Draws from the model, alone and beside what was counted; the parameters of its likelihood; how features go together.
#'
#' @inheritParams questions
#' @param features Names of the features. `NULL`: of `posterior_predictive_sample()` all; of the others, which are
#'   dense, the object's variable features, else all, as long as a matrix stays below half a gigabyte. `"all"`: all,
#'   whatever their number.
#' @param transform_batch Draw as if the cells were from this batch; correlations over several batches are averaged.
#' @param n_samples Draws of a cell's state. For parameters 1 stands for its mean.
#' @param ... Further arguments of the Python method of the same name, such as `batch_size` or `seed`.
#' @inheritSection questions Errors
#' @return What each function returns begins its paragraph under Details.
#' @name predictive
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' drawn <- posterior_predictive_sample(model, seed = 1)
#' check <- posterior_predictive_check(model)
#' plot(check$zeros_observed, check$zeros_drawn)
#' attr(check, "calibration")
#' get_feature_correlation_matrix(model, features = c("gene1", "gene2", "gene3"))
NULL

#' @rdname predictive
#' @details `posterior_predictive_sample()`: counts that the model would have produced, a `dgCMatrix` of features x
#'   cells; for several samples a list of them. (Of a [totalvi()] or [multivi()] model a list of such, `rna`,
#'   `atac`, `protein`.)
#' @export
posterior_predictive_sample <- function(model, ...) UseMethod("posterior_predictive_sample")

#' @rdname predictive
#' @export
posterior_predictive_sample.scelbo_model <- function(model, object = NULL, features = NULL, cells = NULL,
                                                     transform_batch = NULL, n_samples = 1, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  features <- dense_features(model, features %||% "all")
  drawn <- ask(model, "posterior_predictive_sample", adata = about$adata, indices = at, gene_list = as.list(features),
               transform_batch = as_groups(transform_batch), n_samples = n_samples, ...)
  of <- function(drawn, features) {
    sparse <- function(sample) from_csr(sample, features, chosen(about$cells, at))
    if (n_samples == 1) sparse(drawn) else lapply(seq_len(n_samples), function(i) sparse(drawn[[i - 1L]]))
  }
  if (!length(model$recipe$beside)) return(of(drawn, features))
  known <- list(rna = features, atac = regions_of(model), protein = chosen_proteins(model, list(...)$protein_list))
  sapply(intersect(names(known), names(drawn)), function(name) of(drawn[[name]], known[[name]]), simplify = FALSE)
}

#' @rdname predictive
#' @details `get_likelihood_parameters()`: a list of those that the likelihood has, each a matrix of features x cells:
#'   `mean` (counts), `dispersions` (the inverse dispersion \eqn{\theta}{theta}; of normal values the standard
#'   deviation), `dropout` (logit of a structural zero); of proteins `protein_background` and `protein_foreground` (means),
#'   `protein_mixing` (probability of background) and `protein_dispersions`.
#' @param give_mean Average over the samples; `FALSE` keeps them: arrays, features x cells x samples.
#' @export
get_likelihood_parameters <- function(model, ...) UseMethod("get_likelihood_parameters")

#' @rdname predictive
#' @export
get_likelihood_parameters.scelbo_model <- function(model, object = NULL, features = NULL, cells = NULL, n_samples = 1,
                                                   give_mean = TRUE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  names <- chosen(about$cells, at)
  features <- dense_features(model, features, length(names))
  parameters <- ask(model, "get_likelihood_parameters", adata = about$adata, indices = at, n_samples = n_samples,
                    give_mean = give_mean, ...)
  columns <- as.array(match(features, model$features) - 1L)
  matrix_of <- function(name) {
    if (startsWith(name, "protein_")) return(features_by_cells(parameters[[name]], chosen_proteins(model, NULL), names))
    features_by_cells(parameters[[name]]$take(columns, axis = -1L), features, names)
  }
  known <- c("mean", "dispersions", "dropout",
             paste0("protein_", c("background", "foreground", "mixing", "dispersions")))
  sapply(intersect(known, names(parameters)), matrix_of, simplify = FALSE)
}

#' @rdname predictive
#' @details `get_feature_correlation_matrix()`: features x features, over cells and draws, without counting noise and
#'   depth.
#' @param rna_size_factor The depth of every cell.
#' @param correlation_type `"spearman"` or `"pearson"`.
#' @export
get_feature_correlation_matrix <- function(model, ...) UseMethod("get_feature_correlation_matrix")

#' @rdname predictive
#' @export
get_feature_correlation_matrix.scelbo_model <- function(model, object = NULL, features = NULL, cells = NULL,
                                                        transform_batch = NULL, n_samples = 10, rna_size_factor = 1000,
                                                        correlation_type = "spearman", ...) {
  about <- cells_asked(model, object)
  features <- dense_features(model, features, of = "features")
  table <- ask(
    model, "get_feature_correlation_matrix", adata = about$adata, indices = cell_positions(cells, about$cells),
    gene_list = as.list(features), transform_batch = as_groups(transform_batch), n_samples = n_samples,
    rna_size_factor = rna_size_factor, correlation_type = correlation_type, ...
  )
  values <- to_r(table$to_numpy())
  features <- names_of(table$index) # of some models proteins come after genes
  dimnames(values) <- list(features, features)
  values
}

#' @rdname predictive
#' @details `posterior_predictive_check()`: draws beside what was counted, of the cells held out from training
#'   (`n_cells` of them at most, chosen at random; of all where none were held out). A data.frame with a row a feature:
#'   `mean`, `variance`, `zeros` (share of cells) and `cv` (standard deviation / mean) over cells, each as `_observed`,
#'   `_drawn` and `_outside` (whether the observed one lies beyond all draws), and `coverage_90`, the share of cells
#'   inside the central 90 % of their draws; of several modalities the features of each, with the column `modality`, over
#'   the cells that have it. Its attributes: `"calibration"`, a data.frame with the share of values
#'   inside the interval of each `level`, over `all` values and over those `expressed` (the model expects one count or
#'   more); `"ranks"`, the histogram of values' ranks among their draws, even for a right model; `"outside"`, the share
#'   of features outside by statistic; `"expected_outside"`, a right model's; `"n_cells"`, `"n_samples"`, `"held_out"`.
#' @param n_cells At most so many cells; `NULL`: 2,000, or fewer where there are many features.
#' @export
posterior_predictive_check <- function(model, ...) UseMethod("posterior_predictive_check")

#' @rdname predictive
#' @export
posterior_predictive_check.scelbo_model <- function(model, object = NULL, cells = NULL, n_samples = 25, n_cells = NULL,
                                                    ...) {
  about <- cells_asked(model, object)
  predictive_of(ask(model, "posterior_predictive_check", adata = about$adata,
                    indices = cell_positions(cells, about$cells), n_samples = n_samples, n_cells = n_cells, ...))
}

predictive_of <- function(check) {
  plain <- function(name) to_r(check[[name]])
  features <- from_pandas(check$genes)
  rownames(features) <- make.unique(names_of(check$genes$index)) # a protein may be called like its gene
  structure(
    drawable(features, "predictive_check"), calibration = from_pandas(check$calibration$reset_index()),
    ranks = from_pandas(check$ranks$reset_index()), outside = unlist(plain("outside")),
    expected_outside = plain("expected_outside"), n_cells = plain("n_cells"), n_samples = plain("n_samples"),
    held_out = plain("held_out")
  )
}
