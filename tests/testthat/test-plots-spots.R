skip_without_backend()

test_that("proportions are drawn where the spots are", {
  skip_if_not_installed("ggplot2")
  object <- spots_fitted()
  places <- SeuratObject::Embeddings(object, "spatial")
  drawn <- plot_proportions(object, c("type2", "type0"))
  expect_identical(levels(drawn$data$type), c("type2", "type0"))
  first <- drawn$data[drawn$data$type == "type2", ]
  expect_equal(first$share, unname(object$stereoscope_type2))
  expect_equal(first$x, unname(places[, 1] - min(places[, 1]))) # neighbours are 1 apart already
  expect_s3_class(ggplot2::ggplot_build(drawn), "ggplot_built")

  pies <- plot_proportions(object, c("type1", "type3"), kind = "pie", size = 1)$data
  area <- function(p) abs(sum(p$x * c(p$y[-1], p$y[1]) - c(p$x[-1], p$x[1]) * p$y)) / 2
  areas <- vapply(split(pies, pies$wedge), area, 0)
  slices <- pies[!duplicated(pies$wedge), ]
  for (type in c("type1", "type3")) {
    share <- unname(object[[]][[paste0("stereoscope_", type)]])
    expect_equal(unname(areas[slices$type == type]), share[share > 0.005] * pi / 4, tolerance = 0.02)
  }
  expect_equal(sum(areas), 60 * pi / 4, tolerance = 0.02)
  expect_identical(levels(slices$type), c("type1", "type3", "others"))

  model <- get_model(object)
  shuffled <- places[60:1, ]
  drawn_all <- plot_proportions(object)$data$share
  expect_equal(plot_proportions(model, coordinates = shuffled)$data$share, drawn_all, tolerance = 1e-5)
  expect_length(drawn_all, 240)
  expect_equal(plot_proportions(get_proportions(model), coordinates = object)$data, plot_proportions(object)$data, tolerance = 1e-5)
  object$x <- places[, 1]
  object$z <- places[, 2]
  expect_equal(plot_proportions(object, coordinates = c("x", "z"))$data, plot_proportions(object)$data)
  object$y <- object$z
  object[["spatial"]] <- NULL
  expect_equal(plot_proportions(object)$data, plot_proportions(spots_fitted())$data)
  expect_error(plot_proportions(object, "typ1"), "Did you mean 'type1'", class = "scelbo_setup_error")
  expect_error(plot_proportions(object, kind = "bars"), class = "scelbo_argument_error")
  expect_error(plot_proportions(model), "not known", class = "scelbo_setup_error")
  expect_error(plot_proportions(model, coordinates = unname(places)), "names", class = "scelbo_setup_error")
  expect_error(plot_proportions(spots_object()), "RunStereoscope", class = "scelbo_setup_error")
  skip_if_not_installed("SingleCellExperiment")
  sce <- write_back(model, as_sce(simulated_spots()$spots))
  expect_equal(plot_proportions(sce)$data, plot_proportions(spots_fitted())$data, tolerance = 1e-5, ignore_attr = TRUE)
})

test_that("a Seurat object's images know places; rows of Visium's go down", {
  skip_if_not_installed("Seurat")
  object <- spots_fitted()
  places <- SeuratObject::Embeddings(object, "spatial")
  as_image <- function(cells, key) {
    at <- data.frame(tissue = 1L, row = 1L, col = 1L, imagerow = 100 * places[cells, 2], imagecol = 100 * places[cells, 1],
                     row.names = colnames(object)[cells])
    factors <- Seurat::scalefactors(spot = 1, fiducial = 1, hires = 0.5, lowres = 0.1)
    methods::new(structure("VisiumV1", package = "Seurat"), image = array(0, c(2, 2, 3)), scale.factors = factors,
                 coordinates = at, spot.radius = 0.1, assay = "Spatial", key = key)
  }
  object[["one"]] <- as_image(1:30, "one_")
  object[["two"]] <- as_image(31:60, "two_")
  found <- places_in(object)
  expect_identical(found$slide, rep(c("one", "two"), each = 30))
  expect_equal(found$y, -10 * unname(places[, 2]), tolerance = 1e-6)
  expect_equal(found$x, 10 * unname(places[, 1]), tolerance = 1e-6)
  skip_if_not_installed("ggplot2")
  drawn <- ggplot2::ggplot_build(plot_proportions(object, "type1", kind = "pie"))
  expect_equal(nrow(drawn$layout$layout), 2)
  expect_equal(nrow(ggplot2::ggplot_build(plot_proportions(object))$layout$layout), 8)
})
