#' Topics, and what their genes are
#'
#' @param model A trained [amortizedlda()] model, an object that holds one, or what [get_top_features()] returned.
#' @param group_by The name of a column, or a vector with one value a cell: draws how much of each group every topic makes up.
#'   `NULL`: draws the features that each topic holds most of.
#' @param object Cells to ask about that are not the model's own; or where the column is.
#' @param n How many features of each topic.
#' @param topics Which topics, as numbers or names; `NULL`: all.
#' @param name Name of the model in the object; `NULL`: the last with topics.
#' @param ... Further arguments of [get_top_features()] or [get_latent_representation()], such as `seed`.
#' @return A ggplot: a panel of bars for each topic, or a map of groups x topics.
#' @section Errors: `scelbo_argument_error` where the model has no topics.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunAmortizedLDA(so, n_topics = 4, max_epochs = 2, verbose = FALSE)
#' plot_topics(so, n = 5)
#' plot_topics(so, "cell_type")
#' @export
plot_topics <- function(model, group_by = NULL, object = NULL, n = 8, topics = NULL, name = NULL, ...) {
  need_ggplot()
  if (inherits(model, "data.frame")) return(draw_top_features(model, topics))
  holder <- if (inherits(model, "scelbo_model")) object else object %||% model
  model <- model_in(model, "get_feature_by_topic", name)
  if (is.null(group_by)) return(draw_top_features(get_top_features(model, n, ...), topics))
  groups <- find_values(model, group_by, holder, if (is.null(holder)) model$cells else cell_names(model, holder), "group_by")
  shares <- get_latent_representation(model, if (!is.null(holder)) own_or(model, holder), ...)
  shares <- shares[, chosen_topics(topics, colnames(shares)), drop = FALSE]
  means <- rowsum(shares, as.character(groups)) / as.vector(table(as.character(groups)))
  long <- data.frame(group = rownames(means)[row(means)], topic = colnames(means)[col(means)], share = as.vector(means))
  ggplot2::ggplot(long, ggplot2::aes(factor(.data$topic, colnames(means)), factor(.data$group, rev(rownames(means))), fill = .data$share)) +
    ggplot2::geom_tile(colour = "white") +
    scale_shares("mean share\nof a cell") +
    ggplot2::labs(x = NULL, y = NULL) +
    theme_scelbo(panel.grid = ggplot2::element_blank(), axis.text.x = ggplot2::element_text(angle = 45, hjust = 1))
}

chosen_topics <- function(topics, known, call = caller_env()) {
  if (is.numeric(topics)) topics <- paste0("topic_", topics)
  check_names(topics %||% known, known, "topic", call)
  topics %||% known
}

draw_top_features <- function(table, topics) {
  table <- table[table$topic %in% chosen_topics(topics, levels(table$topic)), ]
  table$name <- within_panel(table$feature, table$topic, table$probability)
  draw_bars(table, "probability", "topic", "how often the topic draws it, in %", 100)
}

# A panel of horizontal bars for each level of `panel`.
draw_bars <- function(table, value, panel, axis, times = 1) {
  table$value <- times * table[[value]]
  table$above <- table$value > 0
  ggplot2::ggplot(table, ggplot2::aes(.data$value, .data$name, fill = .data$above)) +
    ggplot2::geom_col(width = 0.7, show.legend = FALSE) +
    ggplot2::facet_wrap(panel, scales = "free") +
    ggplot2::scale_y_discrete(labels = bare) +
    ggplot2::scale_x_continuous(n.breaks = 4) +
    ggplot2::scale_fill_manual(values = c(`FALSE` = ink[["second"]], `TRUE` = ink[["first"]])) +
    ggplot2::labs(x = axis, y = NULL) +
    theme_scelbo(panel.grid.major.y = ggplot2::element_blank(), axis.text.y = ggplot2::element_text(size = 8))
}

#' Loadings of the latent dimensions that can be read
#'
#' @inheritParams plot_topics
#' @param model A trained [linearscvi()] model, or an object that holds one.
#' @param dims Which latent dimensions; `NULL`: the first six.
#' @param n How many features of each dimension: those farthest from the average gene.
#' @return A ggplot, a panel for each dimension. (Signs and order of dimensions have no meaning.)
#' @section Errors: `scelbo_argument_error` where the model has no loadings.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunLinearSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' plot_loadings(so, dims = 1:3)
#' @export
plot_loadings <- function(model, dims = NULL, n = 10, name = NULL) {
  need_ggplot()
  loadings <- get_loadings(model_in(model, "get_loadings", name))
  loadings <- sweep(loadings, 2, colMeans(loadings)) # the average gene's drops out as values are normalised
  dims <- if (is.null(dims)) utils::head(colnames(loadings), 6) else if (is.numeric(dims)) colnames(loadings)[dims] else dims
  check_names(dims, colnames(loadings), "latent dimension")
  of <- lapply(dims, function(dim) {
    value <- loadings[, dim]
    far <- utils::head(order(abs(value), decreasing = TRUE), n)
    data.frame(dim, feature = rownames(loadings)[far], loading = value[far])
  })
  table <- do.call(rbind, of)
  table$name <- within_panel(table$feature, table$dim, table$loading)
  table$dim <- factor(table$dim, dims)
  draw_bars(table, "loading", "dim", "loading, less the average gene's (log scale)")
}

#' How doublets stand out
#'
#' @param doublets What [get_doublets()] returned, a trained [solo()] model, or an object that holds one.
#' @param bins Of the histogram.
#' @param name Name of the model in the object; `NULL`: the last that tells doublets.
#' @return A ggplot: how many cells have which probability of being doublets, a panel for each lane. The axis of cells is a
#'   root's, so that few show beside many.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSOLO(so, max_epochs = 2, solo_epochs = 2, expected_doublet_rate = 0.08, verbose = FALSE)
#' plot_doublets(so)
#' @export
plot_doublets <- function(doublets, bins = 40, name = NULL) {
  need_ggplot()
  if (!inherits(doublets, "data.frame")) doublets <- get_doublets(model_in(doublets, "get_doublets", name))
  check_names(c("probability", "call", "lane"), names(doublets), "column of get_doublets()")
  share <- tapply(doublets$call, doublets$lane, mean)
  several <- length(share) > 1
  told <- paste0(in_percent(share), " of ", format(as.vector(table(doublets$lane)), big.mark = ",", trim = TRUE), " cells called")
  doublets$panel <- factor(doublets$lane, names(share), paste0(names(share), ": ", told))
  doublets$is <- ifelse(doublets$call, "doublet", "singlet")
  ggplot2::ggplot(doublets, ggplot2::aes(.data$probability, fill = .data$is)) +
    ggplot2::geom_histogram(breaks = seq(0, 1, length.out = bins + 1)) +
    (if (several) ggplot2::facet_wrap(~panel, scales = "free_y")) +
    ggplot2::scale_y_sqrt() +
    ggplot2::scale_fill_manual("called a", values = c(singlet = ink[["muted"]], doublet = ink[["second"]])) +
    ggplot2::labs(x = "probability of a doublet", y = "cells", subtitle = if (!several) told) +
    theme_scelbo(legend.position = "top", legend.justification = "left")
}
