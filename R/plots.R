#' Pictures of a model and of what it says
#'
#' Each is a ggplot, to be changed and saved like any other. `plot()` and `autoplot()` draw a model's training curves, and
#' what [differential_expression()], [differential_accessibility()], [differential_abundance()], [get_doublets()],
#' [get_top_features()] and [posterior_predictive_check()] return by the function below that is named so.
#'
#' @param x,object For `plot()` a trained `scelbo_model`, or one of these tables; further arguments are those of the function
#'   that draws it.
#' @param metrics Which columns of `as.data.frame(x)` to draw; names are matched at their beginning, so `"elbo"` draws
#'   `elbo_train` and `elbo_validation`.
#' @param ... Further arguments of the function that draws a table.
#' @return A ggplot: `plot()` of a model draws the training curves, `plot_volcano()` the effect of each feature against the
#'   probability of a difference.
#' @seealso [plot_latent()], [plot_abundance()], [plot_calibration()], [plot_topics()], [plot_loadings()], [plot_doublets()],
#'   [plot_proportions()], [plot_proteins()].
#' @name plots
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSCVI(so, batch = "batch", max_epochs = 4, verbose = FALSE)
#' model <- get_model(so)
#' plot(model)
#' plot_volcano(FindMarkersSCVI(so, ident.1 = "type0", group.by = "cell_type"))
#' ggplot2::autoplot(posterior_predictive_check(model)) + ggplot2::ggtitle("Draws beside counts")
#' @export
plot.scelbo_model <- function(x, metrics = "elbo", ...) {
  need_ggplot()
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
  one <- length(unique(long$metric)) == 1
  ggplot2::ggplot(long, ggplot2::aes(.data$epoch, .data$value, colour = .data$cells)) +
    ggplot2::geom_line() +
    (if (!one) ggplot2::facet_wrap(~metric, scales = "free_y")) +
    ggplot2::scale_colour_manual(NULL, values = c(training = ink[["first"]], validation = ink[["second"]])) +
    (if (one && long$metric[[1]] == "elbo") ggplot2::coord_cartesian(ylim = settled(long))) +
    ggplot2::labs(x = "epoch", y = if (one) name_of_metric(long$metric[[1]]), title = x$class) +
    theme_scelbo(legend.position = "top", legend.justification = "left")
}

name_of_metric <- function(metric) {
  known <- c(elbo = "- ELBO, nats a cell", reconstruction_loss = "reconstruction loss, nats a cell",
             kl_local = "KL, nats a cell", kl_weight = "weight of the KL")
  if (metric %in% names(known)) known[[metric]] else metric
}

# The first epochs' values would hide the rest: those of a twentieth of the epochs may lie outside.
settled <- function(long) {
  later <- long$value[long$epoch > min(long$epoch) + diff(range(long$epoch)) / 20]
  if (length(later) > 2) range(later) else range(long$value)
}

#' @rdname plots
#' @param markers What [FindMarkersSCVI()], [FindMarkersPEAKVI()] or, with `mode = "change"`, [differential_expression()]
#'   or [differential_accessibility()] returned.
#' @param n_labels How many features to name: of those in the list, and then of the others, in turn the most probable with
#'   the largest effect of either side.
#' @param fdr Features in the list with this expected false discovery rate are coloured.
#' @export
plot_volcano <- function(markers, n_labels = 10, fdr = 0.05) {
  need_ggplot()
  effect <- intersect(c("effect_size", "avg_log2FC", "lfc_mean"), names(markers))
  probability <- intersect(c("prob_da", "proba_de"), names(markers))
  if (!"bayes_factor" %in% names(markers) || !length(probability) || !length(effect)) {
    abort_scelbo("argument", "These are no markers: proba_de, bayes_factor and avg_log2FC or lfc_mean are needed.",
                 "Use FindMarkersSCVI(), or differential_expression() with mode = \"change\".")
  }
  points <- data.frame(feature = as.character(markers[["feature"]] %||% markers[["gene"]] %||% rownames(markers)),
                       effect = markers[[effect[[1]]]], probability = markers[[probability[[1]]]],
                       bayes = markers$bayes_factor)
  points <- points[order(points$probability, abs(points$effect), decreasing = TRUE), ]
  points$found <- cumsum(1 - points$probability) / seq_len(nrow(points)) < fdr
  of_side <- stats::ave(seq_len(nrow(points)), points$effect > 0, FUN = seq_along)
  points$label <- ifelse(order(order(!points$found, of_side)) <= n_labels, points$feature, "")
  named <- data.frame(x = points$effect, y = points$bayes, name = points$label)
  ggplot2::ggplot(points, ggplot2::aes(.data$effect, .data$bayes)) +
    ggplot2::geom_vline(xintercept = 0, colour = ink[["faint"]]) +
    ggplot2::geom_point(ggplot2::aes(colour = .data$found), size = 0.9, show.legend = FALSE) +
    name_places(named[nzchar(named$name), ], size = 3, above = TRUE) +
    ggplot2::scale_colour_manual(values = c(`FALSE` = ink[["muted"]], `TRUE` = ink[["second"]])) +
    ggplot2::labs(x = if (effect[[1]] == "effect_size") "difference of probabilities" else "log2 fold change",
                  y = "log Bayes factor of a difference",
                  caption = paste0("in colour: ", sum(points$found), " features, ", in_percent(fdr), " of them expected to be false")) +
    theme_scelbo()
}

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_model <- function(object, ...) plot(object, ...)

#' @rdname plots
#' @export
plot.scelbo_differential <- function(x, ...) plot_volcano(x, ...)

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_differential <- function(object, ...) plot_volcano(object, ...)

#' @rdname plots
#' @export
plot.scelbo_abundance <- function(x, ...) plot_abundance(x, ...)

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_abundance <- function(object, ...) plot_abundance(object, ...)

#' @rdname plots
#' @export
plot.scelbo_doublets <- function(x, ...) plot_doublets(x, ...)

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_doublets <- function(object, ...) plot_doublets(object, ...)

#' @rdname plots
#' @export
plot.scelbo_top_features <- function(x, ...) plot_topics(x, ...)

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_top_features <- function(object, ...) plot_topics(object, ...)

#' @rdname plots
#' @export
plot.scelbo_predictive_check <- function(x, ...) plot_calibration(x, ...)

#' @rdname plots
#' @exportS3Method ggplot2::autoplot
autoplot.scelbo_predictive_check <- function(object, ...) plot_calibration(object, ...)
