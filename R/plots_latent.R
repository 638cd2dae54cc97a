#' Cells in latent space, by group
#'
#' @param object A Seurat object or SingleCellExperiment, with a model or without; or a trained model.
#' @param colour_by The name of a column of the metadata, or a vector with one value a cell: groups, or numbers. `NULL`: the
#'   identities of a Seurat object, else the labels or the batch that the model reads. `NA` is drawn in grey, below all else.
#' @param coordinates Where cells are: `NULL`, a UMAP in the object, else a t-SNE, else the first two principal components of
#'   the latent representation; the name of another reduction; two numbers, dimensions of the latent representation; or a
#'   matrix of two columns, with a row a cell.
#' @param label Names of groups at their medians (`TRUE`), or a legend. `NULL`: names where groups lie apart.
#' @param size Of points; `NULL`: by how many there are.
#' @param name Name of the model in the object; `NULL`: the last that has a latent representation.
#' @return A ggplot. Points are drawn in scattered order, so that no group hides the next.
#' @section Errors: `scelbo_setup_error` where there is no such column or reduction (with the nearest match).
#' @seealso [plots], `Seurat::DimPlot()`.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' plot_latent(so, "cell_type") # a UMAP, once there is one: Seurat::RunUMAP(so, reduction = "scvi", dims = 1:10)
#' plot_latent(so, "batch") # a legend, as batches mix
#' plot_latent(get_model(so), so$nCount_RNA, coordinates = c(1, 3))
#' @export
plot_latent <- function(object, colour_by = NULL, coordinates = NULL, label = NULL, size = NULL, name = NULL) {
  need_ggplot()
  model <- if (inherits(object, "scelbo_model")) object else latent_model(object, name)
  places <- latent_places(object, model, coordinates)
  points <- data.frame(x = places[, 1], y = places[, 2])
  cells <- rownames(places) %||% cell_names_of(object)
  points$colour <- colour_of_cells(object, model, colour_by, cells)
  draw_cells(points, colnames(places), if (is_column(colour_by, cells)) colour_by, label, size)
}

# The model in an object; NULL if none that has a latent representation.
latent_model <- function(object, name) {
  able <- Filter(function(model) offers(model, "get_latent_representation"), models_in(object))
  if (!is.null(name) || length(able)) get_model(object, name %||% utils::tail(names(able), 1))
}

# Cells x 2, with the names of the axes.
latent_places <- function(object, model, coordinates, call = caller_env()) {
  if (is.matrix(coordinates) || is.data.frame(coordinates)) return(as.matrix(coordinates)[, 1:2])
  known <- reductions_of(object)
  flat <- c(grep("umap", names(known), ignore.case = TRUE), grep("t-?sne", names(known), ignore.case = TRUE))
  if (is.null(coordinates) && length(flat)) coordinates <- names(known)[[flat[[1]]]]
  if (is.character(coordinates)) {
    check_names(coordinates, names(known), "reduction in this object", call)
    places <- known[[coordinates]][, 1:2]
    colnames(places) <- paste(coordinates, 1:2)
    return(places)
  }
  if (is.null(model)) {
    abort_scelbo("setup", "There is neither a UMAP nor a model with a latent representation in this object.",
                 paste0("Fit one: RunSCVI(object), or runSCVI(object). Or give `coordinates`",
                        if (length(known)) paste0(": there is ", some_of(names(known))), "."), call = call)
  }
  z <- get_latent_representation(model, if (!inherits(object, "scelbo_model")) own_or(model, object))
  if (is.null(coordinates)) return(principal_two(z))
  if (length(coordinates) != 2 || !all(coordinates %in% seq_len(ncol(z)))) {
    abort_scelbo("argument", paste0("`coordinates` cannot be ", deparse1(coordinates), "."),
                 paste0("Give the name of a reduction, a matrix, or two of the ", ncol(z), " latent dimensions."), call = call)
  }
  z[, coordinates]
}

principal_two <- function(z) {
  if (ncol(z) < 3) return(cbind(z, if (ncol(z) < 2) 0)[, 1:2])
  places <- stats::prcomp(z)$x[, 1:2]
  colnames(places) <- paste("latent space, component", 1:2)
  places
}

reductions_of <- function(object) {
  if (inherits(object, "Seurat")) return(lapply(object@reductions, SeuratObject::Embeddings))
  if (inherits(object, "SingleCellExperiment")) lapply(as.list(SingleCellExperiment::reducedDims(object)), as.matrix)
}

# One value a cell, a factor or numbers; NULL where nothing is known of them.
colour_of_cells <- function(object, model, colour_by, cells, call = caller_env()) {
  is_model <- inherits(object, "scelbo_model")
  read <- if (!is.null(model)) c(model$recipe$columns$labels, model$recipe$columns$batch)
  if (is.null(colour_by)) {
    if (inherits(object, "Seurat")) return(SeuratObject::Idents(object)[cells])
    if (!length(read)) return(NULL)
    colour_by <- read[[1]]
  }
  values <- raw_values(model, colour_by, if (!is_model) object, cells, "colour_by", call)
  if (is.numeric(values)) values else factor(values)
}

# `points` has x, y and, maybe, colour; `axes` are two names.
draw_cells <- function(points, axes, title = NULL, label = NULL, size = NULL) {
  points <- points[scattered(nrow(points)), , drop = FALSE]
  if (!is.null(points$colour)) points <- points[order(!is.na(points$colour)), ]
  label <- is.factor(points$colour) && (label %||% lie_apart(points))
  ggplot2::ggplot(points, ggplot2::aes(.data$x, .data$y)) +
    dots(points$colour, size %||% max(0.8, min(2, 50 / sqrt(nrow(points))))) +
    (if (is.factor(points$colour)) scale_groups(levels(droplevels(points$colour)), label)) +
    (if (is.numeric(points$colour)) scale_numbers(points$colour)) +
    (if (label) name_places(medians_of(points))) +
    ggplot2::labs(x = axes[[1]], y = axes[[2]], title = if (label) title, colour = title) +
    theme_scelbo(
      axis.text = ggplot2::element_blank(), axis.title = ggplot2::element_text(hjust = 0, size = 8), aspect.ratio = 1,
      panel.grid = ggplot2::element_blank(), panel.border = ggplot2::element_rect(fill = NA, colour = ink[["faint"]])
    )
}

dots <- function(colour, size) {
  if (is.null(colour)) return(ggplot2::geom_point(size = size, alpha = 0.8, stroke = 0, colour = ink[["first"]]))
  ggplot2::geom_point(ggplot2::aes(colour = .data$colour), size = size, alpha = 0.8, stroke = 0)
}

scale_groups <- function(groups, named) {
  big <- ggplot2::guide_legend(override.aes = list(size = 3, alpha = 1))
  ggplot2::scale_colour_manual(values = colours_of(groups), na.value = ink[["faint"]], guide = if (named) "none" else big)
}

medians_of <- function(points) {
  groups <- split(points[c("x", "y")], droplevels(points$colour))
  at <- vapply(groups, function(group) c(x = stats::median(group$x), y = stats::median(group$y)), c(x = 0, y = 0))
  data.frame(t(at), name = names(groups))
}

# Whether groups lie apart: their means explain much of where cells are.
lie_apart <- function(points) {
  known <- points[!is.na(points$colour), ]
  if (!is.factor(known$colour) || !nrow(known)) return(FALSE)
  spread <- function(x) sum((x - mean(x))^2)
  left <- function(x) sum((x - stats::ave(x, droplevels(known$colour)))^2)
  left(known$x) + left(known$y) < 0.7 * (spread(known$x) + spread(known$y))
}

#' Where the case has more cells, by group
#'
#' @param found What [differential_abundance()] returned, with a contrast.
#' @param group_by Groups of cells to tell apart: the name of a column of `object`, or a vector with one value a cell. `NULL`:
#'   a map of the cells.
#' @param object A Seurat object or SingleCellExperiment with these cells; needed for a column and for the map.
#' @param ... Of the map: further arguments of [plot_latent()].
#' @return A ggplot: for each group the log2 fold change of its cells' neighbourhoods, those in colour that are found at the
#'   stated false discovery rate; or [plot_latent()], coloured by the fold change.
#' @section Errors: `scelbo_argument_error` where there was no contrast.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' so$sample <- paste(so$donor, so$batch)
#' found <- differential_abundance(model, "sample", c("batch", "batch1", "batch0"), pair = "donor", object = so)
#' plot_abundance(found, "cell_type", so)
#' plot_latent(model, found$log_fold_change)
#' @export
plot_abundance <- function(found, group_by = NULL, object = NULL, ...) {
  need_ggplot()
  called <- grep("^is_da_fdr_", names(found), value = TRUE)
  if (!length(called) || !"log_fold_change" %in% names(found)) {
    abort_scelbo("argument", "These are no tests of abundance: log_fold_change and is_da_fdr_... are needed.",
                 "Use differential_abundance(model, sample, contrast).")
  }
  name <- "log2 fold change of abundance (case / control)"
  if (is.null(group_by)) {
    if (is.null(object)) {
      abort_scelbo("argument", "It is not known where these cells are.", "Give `object`, or groups: `group_by =`.")
    }
    values <- found$log_fold_change[match(cell_names_of(object), rownames(found))]
    return(plot_latent(object, values, ...) + ggplot2::labs(colour = sub(" of", "\nof", sub(" \\(", "\n(", name))))
  }
  groups <- find_values(NULL, group_by, object, rownames(found), "group_by")
  points <- data.frame(group = droplevels(factor(groups)), change = found$log_fold_change)
  points$group <- stats::reorder(points$group, points$change, stats::median, na.rm = TRUE)
  points$called <- ifelse(!found[[called[[1]]]], "not found", ifelse(points$change > 0, "more in the case", "fewer in the case"))
  points$at <- as.integer(points$group) + 0.7 * ((seq_len(nrow(points)) * (sqrt(5) - 1) / 2) %% 1 - 0.5)
  kinds <- c("fewer in the case" = ink[["first"]], "not found" = ink[["muted"]], "more in the case" = ink[["second"]])
  ggplot2::ggplot(points[!is.na(points$group), ], ggplot2::aes(.data$change, .data$at, colour = .data$called)) +
    ggplot2::geom_vline(xintercept = 0, colour = ink[["muted"]]) +
    ggplot2::geom_point(size = 0.8, alpha = 0.7) +
    ggplot2::scale_y_continuous(breaks = seq_len(nlevels(points$group)), labels = levels(points$group)) +
    ggplot2::scale_colour_manual(paste("at a false discovery rate of", in_percent(as.numeric(sub("^is_da_fdr_", "", called[[1]])))),
                                 values = kinds, breaks = names(kinds), guide = ggplot2::guide_legend(
                                   title.position = "top", override.aes = list(size = 3, alpha = 1))) +
    ggplot2::labs(x = name, y = NULL) +
    theme_scelbo(legend.position = "top", legend.justification = "left", panel.grid.major.y = ggplot2::element_blank())
}

cell_names_of <- function(object) if (inherits(object, "scelbo_model")) object$cells else colnames(object)
