#' Plots
#'
#' @param x A trained `scelbo_model`.
#' @param metrics Which columns of `as.data.frame(x)` to draw; names are matched at their beginning, so `"elbo"` draws
#'   `elbo_train` and `elbo_validation`.
#' @param ... Not used.
#' @return A ggplot: `plot()` draws the training curves, `plot_volcano()` the effect of each feature against the
#'   probability of a difference.
#' @name plots
#' @examples
#' \dontrun{
#' plot(model)
#' plot_volcano(FindMarkersSCVI(so, ident.1 = "B cells"))
#' }
#' @export
plot.scelbo_model <- function(x, metrics = "elbo", ...) {
  rlang::check_installed("ggplot2", reason = "to plot.")
  history <- as.data.frame(x)
  known <- setdiff(names(history), "epoch")
  begun <- lapply(metrics, function(metric) known[startsWith(known, metric)])
  shown <- unique(unlist(begun))
  if (!length(shown) || any(lengths(begun) == 0)) {
    abort_scelbo("argument", paste0("The history has no metric that begins with '", metrics[lengths(begun) == 0][1], "'."),
                 paste0("It has ", some_of(known, 20), "."))
  }
  long <- data.frame(epoch = history$epoch, metric = rep(shown, each = nrow(history)), value = unlist(history[shown]))
  long <- long[!is.na(long$value), ]
  long$cells <- ifelse(endsWith(long$metric, "validation"), "validation", "training")
  long$metric <- sub("_(train|validation)$", "", long$metric)
  ggplot2::ggplot(long, ggplot2::aes(.data$epoch, .data$value, colour = .data$cells)) +
    ggplot2::geom_line() +
    (if (length(unique(long$metric)) > 1) ggplot2::facet_wrap(~metric, scales = "free_y")) +
    ggplot2::scale_colour_manual(NULL, values = c(training = "#0072B2", validation = "#D55E00")) +
    ggplot2::labs(x = "epoch", y = if (length(unique(long$metric)) == 1) long$metric[[1]], title = x$class) +
    ggplot2::theme_minimal()
}

#' @rdname plots
#' @param markers What [FindMarkersSCVI()], [FindMarkersPEAKVI()] or, with `mode = "change"`, [differential_expression()]
#'   or [differential_accessibility()] returned.
#' @param n_labels How many features to name: of those in the list, and then of the others, in turn the most probable with
#'   the largest effect of either side.
#' @param fdr Features in the list with this expected false discovery rate are coloured.
#' @export
plot_volcano <- function(markers, n_labels = 10, fdr = 0.05) {
  rlang::check_installed("ggplot2", reason = "to plot.")
  effect <- intersect(c("effect_size", "avg_log2FC", "lfc_mean"), names(markers))
  probability <- intersect(c("prob_da", "proba_de"), names(markers))
  if (!"bayes_factor" %in% names(markers) || !length(probability) || !length(effect)) {
    abort_scelbo("argument", "These are no markers: proba_de, bayes_factor and avg_log2FC or lfc_mean are needed.",
                 "Use FindMarkersSCVI(), or differential_expression() with mode = \"change\".")
  }
  points <- data.frame(feature = rownames(markers), effect = markers[[effect[[1]]]],
                       probability = markers[[probability[[1]]]], bayes = markers$bayes_factor)
  points <- points[order(points$probability, abs(points$effect), decreasing = TRUE), ]
  points$found <- cumsum(1 - points$probability) / seq_len(nrow(points)) < fdr
  of_side <- stats::ave(seq_len(nrow(points)), points$effect > 0, FUN = seq_along)
  points$label <- ifelse(order(order(!points$found, of_side)) <= n_labels, points$feature, "")
  ggplot2::ggplot(points, ggplot2::aes(.data$effect, .data$bayes)) +
    ggplot2::geom_point(ggplot2::aes(colour = .data$found), size = 0.9, show.legend = FALSE) +
    ggplot2::geom_text(ggplot2::aes(label = .data$label), size = 3, hjust = "inward", vjust = -0.6, check_overlap = TRUE) +
    ggplot2::scale_colour_manual(values = c(`FALSE` = "grey70", `TRUE` = "#D55E00")) +
    ggplot2::labs(x = if (effect[[1]] == "effect_size") "difference of probabilities" else "log2 fold change",
                  y = "log Bayes factor") +
    ggplot2::theme_minimal()
}
