#' What a model says of features
#'
#' Loadings of a trained [linearscvi()] model, topics of a trained [amortizedlda()] model, zero-inflation by a trained
#' [autozi()] model.
#'
#' @inheritParams questions
#' @param ... Further arguments of the Python method, such as `n_samples` or `seed`.
#' @inheritSection questions Errors
#' @return What each function returns begins its paragraph under Details.
#' @name genes
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- linearscvi(so, n_latent = 4) |> train(max_epochs = 2, verbose = FALSE)
#' loadings <- get_loadings(model)
#' head(sort(loadings[, 1], decreasing = TRUE)) # what goes up along the first dimension
#'
#' topics <- amortizedlda(so, n_topics = 4) |> train(max_epochs = 2, verbose = FALSE)
#' get_top_features(topics, n = 2)
#' get_perplexity(topics)
#'
#' table <- get_zero_inflation(autozi(so) |> train(max_epochs = 2, verbose = FALSE))
#' head(subset(table, mean > 1), 3)
NULL

#' @rdname genes
#' @param covariates Also what each category of the batch and of other covariates adds, and a unit of each number.
#' @details `get_loadings()`: a matrix, features x `n_latent`: by how much a unit of each latent dimension raises a
#'   feature's log frequency, before all are normalised. Its columns have the names of
#'   [get_latent_representation()]'s; those of covariates are `"batch=A"`, ... Sign and order of dimensions have no
#'   meaning.
#' @export
get_loadings <- function(model, ...) UseMethod("get_loadings")

#' @rdname genes
#' @export
get_loadings.scelbo_model <- function(model, covariates = FALSE, ...) {
  table <- ask(model, "get_loadings", covariates = covariates, ...)
  more <- grep("^Z_[0-9]+$", names_of(table$columns), value = TRUE, invert = TRUE)
  by_latent(model, table, model$features, more)
}

#' @rdname genes
#' @param give_mean Mean (`TRUE`) or a random draw.
#' @details `get_feature_by_topic()`: a matrix, features x topics: how often a feature is drawn from a topic. Its columns
#'   sum to 1. (How much of each cell a topic makes up says [get_latent_representation()].)
#' @export
get_feature_by_topic <- function(model, ...) UseMethod("get_feature_by_topic")

#' @rdname genes
#' @export
get_feature_by_topic.scelbo_model <- function(model, give_mean = TRUE, ...) {
  by_latent(model, ask(model, "get_feature_by_topic", give_mean = give_mean, ...), model$features)
}

#' @rdname genes
#' @param n How many features of each topic.
#' @details `get_top_features()`: those that each topic draws most often, a data.frame: `topic`, a factor; `rank`;
#'   `feature`; `probability`.
#' @export
get_top_features <- function(model, ...) UseMethod("get_top_features")

#' @rdname genes
#' @export
get_top_features.scelbo_model <- function(model, n = 10, ...) {
  table <- from_pandas(ask(model, "get_top_features", n = n, ...))
  topics <- unique(table$topic)
  table$topic <- factor(latent_names(model, length(topics))[match(table$topic, topics)], latent_names(model, length(topics)))
  rownames(table) <- NULL
  drawable(table, "top_features")
}

#' @rdname genes
#' @details `get_perplexity()`: how many equally likely features a count is as uncertain as, a number of 1 or more; lower
#'   is better. To compare numbers of topics ask of cells that training did not see.
#' @export
get_perplexity <- function(model, ...) UseMethod("get_perplexity")

#' @rdname genes
#' @export
get_perplexity.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  ask_number(model, "get_perplexity", object, cells, ...)
}

#' @rdname genes
#' @param threshold Features with a higher probability are called.
#' @details `get_zero_inflation()`: a data.frame with a row a feature: `feature`; `alpha`, `beta` of the posterior;
#'   `probability` that the feature is zero-inflated, and the call, `zero_inflated`; its `mean` count and share of
#'   `zeros` in the cells (left out where the model has none). Of a feature that is hardly counted nobody can tell, so
#'   look at the mean too. Of a model with `zero_inflation = "gene-batch"` or `"gene-label"` there is a row a feature and
#'   category, which stands in the column `batch` or `label`.
#' @export
get_zero_inflation <- function(model, ...) UseMethod("get_zero_inflation")

#' @rdname genes
#' @export
get_zero_inflation.scelbo_model <- function(model, object = NULL, cells = NULL, threshold = 0.5, ...) {
  python_model(model)
  about <- if (model$has_data || !is.null(object)) cells_asked(model, object) # the rest it knows without cells
  table <- ask(model, "get_zero_inflation", adata = about$adata, indices = cell_positions(cells, about$cells),
               threshold = threshold, ...)
  features <- names_of(table$index)
  data.frame(feature = features, from_pandas(table), row.names = if (!anyDuplicated(features)) features)
}
