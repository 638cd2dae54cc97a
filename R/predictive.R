#' What a trained model expects to be counted
#'
#' Draws from the model, the parameters of its likelihood, and how features go together in it.
#'
#' @inheritParams questions
#' @param features Names of the features. `NULL`: of `posterior_predictive_sample()` all; of the others, which are
#'   dense, the object's variable features, else all, as long as a matrix stays below half a gigabyte. `"all"`: all,
#'   whatever their number.
#' @param transform_batch Draw as if the cells were from this batch; correlations over several batches are averaged.
#' @param n_samples Draws of a cell's state. For parameters 1 stands for its mean.
#' @param ... Further arguments of the Python method of the same name, such as `batch_size` or `seed`.
#' @inheritSection questions Errors
#' @name predictive
#' @examples
#' \dontrun{
#' drawn <- posterior_predictive_sample(model, seed = 1) # for a posterior predictive check
#' plot(Matrix::rowMeans(drawn == 0), Matrix::rowMeans(counts[rownames(drawn), ] == 0))
#' correlations <- get_feature_correlation_matrix(model, features = c("CD3D", "CD3E", "MS4A1"))
#' }
NULL

#' @rdname predictive
#' @details `posterior_predictive_sample()`: counts that the model would have produced, a `dgCMatrix` of features x
#'   cells; for several samples a list of them.
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
  sparse <- function(sample) from_csr(sample, features, chosen(about$cells, at))
  if (n_samples == 1) sparse(drawn) else lapply(seq_len(n_samples), function(i) sparse(drawn[[i - 1L]]))
}

#' @rdname predictive
#' @details `get_likelihood_parameters()`: a list of those that the likelihood has, each a matrix of features x cells:
#'   `mean` (counts), `dispersions` (the inverse dispersion \eqn{\theta}{theta}; of normal values the standard
#'   deviation), `dropout` (logit of a structural zero).
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
  matrix_of <- function(name) features_by_cells(parameters[[name]]$take(columns, axis = -1L), features, names)
  sapply(intersect(c("mean", "dispersions", "dropout"), names(parameters)), matrix_of, simplify = FALSE)
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
  values <- reticulate::py_to_r(table$to_numpy())
  dimnames(values) <- list(features, features)
  values
}
