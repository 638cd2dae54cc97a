#' Proportions of cell types on the tissue
#'
#' @param object A Seurat object, SingleCellExperiment or SpatialExperiment that [RunStereoscope()], [RunDestVI()] or
#'   [write_back()] returned; a trained model of spots; or a table of proportions, spots x types, such as [get_proportions()]
#'   gives.
#' @param types Which types to draw; `NULL`: all. In pies the others are one grey slice.
#' @param kind `"panels"`: a map for each type, coloured by its share; or `"pie"`: one map, a pie in each spot.
#' @param coordinates Where spots are: a matrix or data.frame of two columns, with the spots' names for row names; the names
#'   of two columns of the metadata; or an object that knows. `NULL`: `object` does, see below.
#' @param name Name of the model in the object; `NULL`: the last that has proportions.
#' @param size Diameter of points and pies: 1 is the distance between neighbouring spots (where they are scattered,
#'   somewhat more).
#' @return A ggplot. Each slide (image, `sample_id`) has a row of panels, or a panel of pies.
#' @details Places are those of a Seurat object's images, of a SpatialExperiment's `spatialCoords()`, of a reduction called
#'   `"spatial"`, or of the metadata's columns `x` and `y`, whichever is there first. As on a screen, the rows of images go
#'   down; all others go up.
#' @section Errors: `scelbo_setup_error` where there are no proportions, no such type (with the nearest match), or no places.
#' @examplesIf backend_available() && rlang::is_installed(c("SeuratObject", "ggplot2"))
#' simulated <- simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)
#' spots <- RunStereoscope(simulated$spots, simulated$cells, labels = "cell_type", max_epochs = 2, reference_max_epochs = 2,
#'                         augmentation = FALSE, verbose = FALSE)
#' plot_proportions(spots)
#' plot_proportions(spots, c("type0", "type1"), kind = "pie")
#' @export
plot_proportions <- function(object, types = NULL, kind = c("panels", "pie"), coordinates = NULL, name = NULL,
                             size = 0.9) {
  need_ggplot()
  if (!kind[[1]] %in% c("panels", "pie")) {
    abort_scelbo("argument", paste0("`kind` cannot be ", deparse1(kind), "."), "It is \"panels\" or \"pie\".")
  }
  shares <- shares_in(object, name)
  types <- check_names(types %||% colnames(shares), colnames(shares), "cell type")
  places <- places_for(object, coordinates, rownames(shares))
  shares <- shares[rownames(places), , drop = FALSE]
  drawn <- if (kind[[1]] == "pie") draw_pies(shares, places, types, size) else draw_panels(shares, places, types, size)
  drawn + ggplot2::coord_fixed() + ggplot2::theme_void() +
    ggplot2::theme(strip.text = ggplot2::element_text(size = 10, margin = ggplot2::margin(2, 2, 2, 2)))
}

# The shares of types in spots that an object, a model or a table holds: a matrix, spots x types.
shares_in <- function(object, name, call = caller_env()) {
  if (inherits(object, "scelbo_model")) return(as.matrix(get_proportions(object)))
  if (is.matrix(object) || (is.data.frame(object) && !methods::is(object, "DataFrame"))) return(as.matrix(object))
  models <- models_in(object)
  named <- names(Filter(function(model) inherits(model, c("scelbo_spatialstereoscope", "scelbo_destvi")), models))
  if (!length(named)) {
    abort_scelbo("setup", "There are no proportions of cell types in this object.",
                 "RunStereoscope() and RunDestVI() add them.", call = call)
  }
  name <- name %||% named[[length(named)]]
  check_names(name, named, "model of spots in this object", call)
  columns <- obs_in(object)
  begin <- paste0(tolower(name), "_")
  columns <- columns[startsWith(names(columns), begin)]
  names(columns) <- substring(names(columns), nchar(begin) + 1)
  as.matrix(columns)
}

obs_in <- function(object) as.data.frame(metadata_of(object), optional = TRUE)

# Where these spots are: a data.frame of x, y, in units of the distance between neighbours, and the slide.
places_for <- function(object, coordinates, spots, call = caller_env()) {
  if (is.character(coordinates)) {
    check_names(coordinates, names(obs_in(object)), "column in the metadata", call)
    coordinates <- obs_in(object)[coordinates]
  }
  is_table <- is.matrix(coordinates) || is.data.frame(coordinates)
  places <- if (is_table) coordinates else places_in(coordinates %||% object)
  if (is.null(places)) {
    abort_scelbo("setup", "Where the spots are is not known.",
                 paste("Give `coordinates`: a matrix or data.frame of two columns, with the spots' names for row names;",
                       "or the names of two columns of the metadata."), call = call)
  }
  known <- intersect(spots, rownames(places))
  if (ncol(places) < 2 || !length(known)) {
    abort_scelbo("setup", "The coordinates have not two columns, or none of the spots' names for row names.",
                 paste0("Spots are called '", spots[[1]], "', ..."), call = call)
  }
  places <- data.frame(x = places[known, 1], y = places[known, 2],
                       slide = if (ncol(places) > 2) as.character(places[known, 3]) else "", row.names = known)
  do.call(rbind, unname(lapply(split(places, factor(places$slide, unique(places$slide))), in_steps)))
}

# Units are what most spots are away from the next one, or two thirds of what they would be if all were spread evenly;
# each slide begins at 0.
in_steps <- function(places) {
  some <- places[unique(round(seq(1, nrow(places), length.out = min(200, nrow(places))))), ]
  away <- sqrt(outer(some$x, places$x, "-")^2 + outer(some$y, places$y, "-")^2)
  away[away == 0] <- Inf
  nearest <- apply(away, 1, min)
  even <- sqrt(diff(range(places$x)) * diff(range(places$y)) / nrow(places))
  step <- max(stats::median(nearest[is.finite(nearest)]), even / 1.5, na.rm = TRUE)
  if (step == 0) step <- 1
  places$x <- (places$x - min(places$x)) / step
  places$y <- (places$y - min(places$y)) / step
  places
}

# x, y and, where there are several, the slide of spots, as data.frame; y goes up. NULL where the object does not know.
places_in <- function(object) UseMethod("places_in")

#' @exportS3Method
places_in.default <- function(object) NULL

#' @exportS3Method
places_in.Seurat <- function(object) {
  images <- SeuratObject::Images(object)
  parts <- lapply(images, function(image) data.frame(places_on(object[[image]]), slide = image))
  if (length(parts)) return(do.call(rbind, parts))
  if ("spatial" %in% names(object@reductions)) return(SeuratObject::Embeddings(object, "spatial")[, 1:2])
  columns_xy(object[[]])
}

#' @exportS3Method
places_in.SingleCellExperiment <- function(object) {
  if (inherits(object, "SpatialExperiment")) {
    places <- SpatialExperiment::spatialCoords(object)
    down <- any(startsWith(colnames(places), "pxl")) # as Space Ranger counts them
    slide <- as.character(object$sample_id %||% rep("", ncol(object)))
    return(data.frame(x = places[, 1], y = if (down) -places[, 2] else places[, 2], slide, row.names = colnames(object)))
  }
  named <- SingleCellExperiment::reducedDimNames(object)
  if (!"spatial" %in% tolower(named)) return(columns_xy(obs_in(object)))
  places <- SingleCellExperiment::reducedDim(object, named[[match("spatial", tolower(named))]])[, 1:2]
  rownames(places) <- colnames(object)
  places
}

columns_xy <- function(obs) if (all(c("x", "y") %in% names(obs))) obs[c("x", "y")]

# Of one image of a Seurat object. Rows of Visium's pictures are counted from the top; before Seurat 5.4 those of a VisiumV2
# are x.
places_on <- function(image) {
  places <- SeuratObject::GetTissueCoordinates(image)
  named <- intersect(c("cell", "cells"), names(places))
  if (length(named)) rownames(places) <- places[[named[[1]]]]
  if (all(c("imagerow", "imagecol") %in% names(places))) {
    return(data.frame(x = places$imagecol, y = -places$imagerow, row.names = rownames(places)))
  }
  if (!inherits(image, "VisiumV2")) return(places[c("x", "y")])
  new <- methods::.hasSlot(image, "coords_x_orientation")
  horizontal <- new && identical(slot(image, "coords_x_orientation"), "horizontal")
  data.frame(x = if (horizontal) places$x else places$y, y = -(if (horizontal) places$y else places$x),
             row.names = rownames(places))
}

draw_panels <- function(shares, places, types, size) {
  long <- data.frame(places[rep(seq_len(nrow(places)), length(types)), ],
                     type = factor(rep(types, each = nrow(places)), types), share = as.vector(shares[, types]))
  slides <- length(unique(places$slide)) > 1
  ggplot2::ggplot(long, ggplot2::aes(.data$x, .data$y, fill = .data$share)) +
    ggplot2::geom_tile(width = size, height = size) +
    scale_shares() +
    (if (slides) ggplot2::facet_grid(slide ~ type) else ggplot2::facet_wrap(~type))
}

draw_pies <- function(shares, places, types, size) {
  slices <- shares[, types, drop = FALSE]
  if (length(types) < ncol(shares)) slices <- cbind(slices, others = pmax(0, 1 - rowSums(slices)))
  colours <- c(colours_of(types), others = ink[["faint"]])
  ggplot2::ggplot(wedges(slices, places, size / 2), ggplot2::aes(.data$x, .data$y, group = .data$wedge, fill = .data$type)) +
    ggplot2::geom_polygon() +
    ggplot2::scale_fill_manual(values = colours[colnames(slices)], drop = FALSE) +
    ggplot2::labs(fill = NULL) +
    (if (length(unique(places$slide)) > 1) ggplot2::facet_wrap(~slide))
}

# Polygons of the slices of pies, which begin at the top and go clockwise; those too thin to be seen are left out.
wedges <- function(slices, places, radius) {
  until <- t(apply(slices / rowSums(slices), 1, cumsum))
  dim(until) <- dim(slices)
  from <- cbind(0, until)[, seq_len(ncol(slices)), drop = FALSE]
  seen <- which(until - from > 0.005, arr.ind = TRUE)
  width <- (until - from)[seen]
  steps <- 1 + ceiling(30 * width) # along the rim
  wedge <- rep(seq_along(width), steps + 2)
  k <- sequence(steps + 2) - 2 # -1 is the centre
  angle <- 2 * pi * (from[seen][wedge] + width[wedge] * k / steps[wedge])
  spot <- seen[wedge, 1]
  data.frame(x = places$x[spot] + radius * (k >= 0) * sin(angle), y = places$y[spot] + radius * (k >= 0) * cos(angle),
             slide = places$slide[spot], type = factor(colnames(slices)[seen[wedge, 2]], colnames(slices)), wedge)
}
