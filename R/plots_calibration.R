#' Is the model as sure as it is right?
#'
#' Of labels: are those with probability 0.8 right eight times in ten? Of draws: does an interval of 90 % hold nine counts in
#' ten?
#'
#' @param x Of labels: a trained model that predicts them, an object that holds one, or a matrix of probabilities, cells x
#'   labels, such as [predict()][labels] gives. Of draws: what [posterior_predictive_check()] returned.
#' @param labels The true labels: the name of a column of `object` (or of the model's metadata), or a vector with one value a
#'   cell, `NA` where it is not known. Cells whose true label the model does not know are left out.
#' @param object Cells to ask about that are not the model's own; or where the column is.
#' @param bins Bins of the probability.
#' @param name Name of the model in the object; `NULL`: the last that predicts labels.
#' @param ... Further arguments of [predict()][labels], such as `calibrated = FALSE`.
#' @return A ggplot. Of labels: the share of cells in each bin whose most probable label is right, with 90 % intervals, against
#'   the mean probability; the subtitle has their mean distance over cells, the expected calibration error. Of draws: the share
#'   of values inside the central interval of each level. On the dashed line the model is as right as it says; below it, too sure.
#' @details Of a model's own cells those are asked whose label training did not see: cells that were held out, and cells that
#'   had none.
#' @section Errors: `scelbo_argument_error` where there are no labels, or no cells that training did not see.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so$known <- replace(as.character(so$cell_type), 1:30, NA)
#' model <- scanvi(so, labels = "known") |> train(max_epochs = 4, train_size = 0.6, verbose = FALSE)
#' plot_calibration(model, so$cell_type, bins = 5)
#' plot_calibration(posterior_predictive_check(model))
#' @export
plot_calibration <- function(x, labels = NULL, object = NULL, bins = 10, name = NULL, ...) {
  need_ggplot()
  if (is.data.frame(x)) return(draw_coverage(x))
  if (is.null(labels)) {
    abort_scelbo("argument", "Whether labels are right takes the true ones: `labels` is missing.",
                 "Give a column or a vector. For draws: plot_calibration(posterior_predictive_check(model)).")
  }
  if (!is.matrix(x)) {
    if (!inherits(x, "scelbo_model")) object <- object %||% x
    x <- model_in(x, "predict", name)
    asked <- labelled_anew(x, labels, object)
    labels <- asked$labels
    x <- predict(x, asked$object, asked$cells, type = "probability", ...)
  }
  if (length(labels) != nrow(x)) {
    abort_scelbo("argument", paste0("`labels` has ", length(labels), " values for ", nrow(x), " cells."),
                 "Give a vector with one value a row of the probabilities.")
  }
  draw_reliability(x, as.character(labels), bins)
}

# Which cells to ask, and their true labels.
labelled_anew <- function(model, labels, object, call = caller_env()) {
  python_model(model, call)
  cells <- if (is.null(object)) model$cells else cell_names(model, object)
  values <- as.character(find_values(model, labels, object, cells, "labels", call))
  if (!is.null(object)) object <- own_or(model, object)
  unseen <- rep(TRUE, length(cells))
  if (is.null(object)) unseen <- as.vector(to_r(with_python(bridge()$label_unseen(model$python))))
  asked <- which(unseen & !is.na(values))
  if (!length(asked)) {
    abort_scelbo("argument", "Training saw the labels of all these cells: how sure it is of them tells nothing.",
                 "Train with train_size = 0.9 or less, or give other cells: `object =`.", call = call)
  }
  list(labels = values[asked], cells = asked, object = object)
}

draw_reliability <- function(chance, truth, bins) {
  known <- truth %in% colnames(chance)
  if (!any(known)) {
    abort_scelbo("argument", "None of the true labels is among those that the model knows.",
                 paste0("It knows ", some_of(colnames(chance)), "; there are ", some_of(unique(truth)), "."))
  }
  chance <- chance[known, , drop = FALSE]
  said <- apply(chance, 1, max)
  right <- as.character(most_probable(chance)) == truth[known]
  bin <- cut(said, seq(0, 1, length.out = bins + 1), include.lowest = TRUE, labels = FALSE)
  of <- function(x, f) as.vector(tapply(x, bin, f))
  table <- data.frame(said = of(said, mean), right = of(right, mean), cells = of(right, length))
  hits <- table$right * table$cells # 90 % intervals by Jeffreys' prior
  bound <- function(p, end) ifelse(table$right == end, end, stats::qbeta(p, hits + 0.5, table$cells - hits + 0.5))
  table$low <- bound(0.05, 0)
  table$high <- bound(0.95, 1)
  error <- sum(table$cells * abs(table$right - table$said)) / sum(table$cells)
  ggplot2::ggplot(table, ggplot2::aes(.data$said, .data$right)) +
    diagonal() +
    ggplot2::geom_linerange(ggplot2::aes(ymin = .data$low, ymax = .data$high), colour = ink[["first"]]) +
    ggplot2::geom_point(ggplot2::aes(size = .data$cells), colour = ink[["first"]]) +
    ggplot2::scale_size_area(max_size = 6) +
    from_0_to_1("probability of the most probable label", "share of cells where it is right") +
    ggplot2::labs(subtitle = paste0("expected calibration error ", in_percent(error), ", ", sum(table$cells), " cells"))
}

draw_coverage <- function(check) {
  table <- attr(check, "calibration")
  if (is.null(table)) {
    abort_scelbo("argument", "This data.frame says nothing of calibration.",
                 "Give what posterior_predictive_check() returned, whole; or a matrix of probabilities with `labels`.")
  }
  kinds <- c(expressed = "one count or more expected", all = "all values")
  long <- data.frame(level = table$level, inside = unlist(table[names(kinds)]), of = rep(kinds, each = nrow(table)))
  ggplot2::ggplot(long[!is.na(long$inside), ], ggplot2::aes(.data$level, .data$inside, colour = .data$of)) +
    diagonal() +
    ggplot2::geom_line() +
    ggplot2::geom_point(size = 2) +
    ggplot2::scale_colour_manual(NULL, values = setNames(ink[c("first", "second")], kinds), breaks = kinds) +
    from_0_to_1("level of the interval", "share of values inside") +
    ggplot2::labs(subtitle = paste0(attr(check, "n_samples"), " draws of ", attr(check, "n_cells"),
                                    if (isTRUE(attr(check, "held_out"))) " held-out", " cells"))
}

diagonal <- function() ggplot2::geom_abline(colour = ink[["muted"]], linetype = "dashed")

from_0_to_1 <- function(x, y) {
  list(
    ggplot2::scale_x_continuous(x, labels = in_percent, limits = c(0, 1), expand = c(0.02, 0)),
    ggplot2::scale_y_continuous(y, labels = in_percent, limits = c(0, 1), expand = c(0.02, 0)),
    ggplot2::coord_fixed(), theme_scelbo(legend.position = "top", legend.justification = "left")
  )
}
