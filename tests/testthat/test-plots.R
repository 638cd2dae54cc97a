skip_without_backend()
skip_if_not_installed("ggplot2")

test_that("the training curves are drawn", {
  model <- trained_model()
  drawn <- plot(model)
  expect_s3_class(drawn, "ggplot")
  expect_setequal(drawn$data$cells, c("training", "validation"))
  expect_error(plot(model, metrics = "nonsense"), class = "scelbo_argument_error")
  two <- plot(model, metrics = c("kl_local", "reconstruction"))
  both <- c("kl_local", "reconstruction_loss")
  expect_setequal(two$data$metric, both)
  expect_setequal(plot(model, metrics = rev(both))$data$metric, both)
  history <- as.data.frame(model)
  expect_equal(two$data$value[two$data$metric == "kl_local" & two$data$cells == "training"], history$kl_local_train)
  expect_error(plot(model, metrics = c("elbo", "nonsense")), "'nonsense'", class = "scelbo_argument_error")
  expect_error(plot(model, metrics = "epoch"), class = "scelbo_argument_error")
})

test_that("a volcano is drawn of markers alone", {
  object <- write_back(trained_model(), seurat_object())
  drawn <- plot_volcano(FindMarkersSCVI(object, "a", group.by = "type"), n_labels = 3)
  expect_equal(sum(nzchar(drawn$data$label)), 3)
  expect_no_error(ggplot2::ggplot_build(drawn))
  expect_error(plot_volcano(mtcars), class = "scelbo_argument_error")
})

test_that("the best of both sides are named, those in the list first", {
  markers <- data.frame(avg_log2FC = c(5, 4, 3, 2, -1, -0.5, -3), proba_de = c(1, 1, 1, 1, 0.99, 0.98, 0.1),
                        bayes_factor = c(9, 8, 7, 6, 5, 4, -2), row.names = c("u1", "u2", "u3", "u4", "d1", "d2", "no"))
  named <- function(n) sort(setdiff(plot_volcano(markers, n_labels = n)$data$label, ""))
  expect_identical(named(2), c("d1", "u1"))
  expect_identical(named(3), c("d1", "u1", "u2"))
  expect_identical(named(6), c("d1", "d2", "u1", "u2", "u3", "u4")) # not the one that is not in the list
  expect_identical(named(7), sort(rownames(markers)))
  expect_identical(named(0), character())
})

# What was drawn: the data of a layer, once scales are trained.
layer <- function(plot, i = 1) ggplot2::layer_data(plot, i)

with_umap <- function() {
  object <- write_back(trained_model(), seurat_object())
  places <- cbind(seq_len(150) + 300 * (object$type == "b"), sqrt(seq_len(150)) + 300 * (object$type == "c"))
  rownames(places) <- colnames(object)
  object[["UMAP"]] <- suppressWarnings(SeuratObject::CreateDimReducObject(places, key = "UMAP_", assay = "RNA"))
  object
}

test_that("cells lie where the UMAP says, in scattered order, in their groups' colours", {
  object <- with_umap()
  object$type[3:9] <- NA
  drawn <- plot_latent(object, "type", label = FALSE)
  points <- layer(drawn)
  at <- match(points$x, SeuratObject::Embeddings(object, "UMAP")[, 1])
  expect_setequal(at, 1:150)
  expect_setequal(at[1:7], 3:9) # what is not known lies below
  expect_true(is.unsorted(at[-(1:7)]))
  expect_identical(points$colour[-(1:7)], unname(colours_of(c("a", "b", "c"))[object$type[at[-(1:7)]]]))
  expect_identical(drawn$labels[c("x", "y", "colour")], list(x = "UMAP 1", y = "UMAP 2", colour = "type"))
  expect_setequal(levels(plot_latent(object)$data$colour), levels(SeuratObject::Idents(object)))
})


test_that("groups that lie apart are named at their medians, others are in a legend", {
  object <- with_umap()
  drawn <- plot_latent(object, "type")
  names <- drawn$layers[[2]]$data
  expect_identical(names$name, c("a", "b", "c"))
  expect_equal(names$x, as.vector(tapply(SeuratObject::Embeddings(object, "UMAP")[, 1], object$type, median)))
  expect_length(plot_latent(object, "batch")$layers, 1)
  expect_length(plot_latent(object, "batch", label = TRUE)$layers, 2)
  expect_no_error(ggplot2::ggplotGrob(drawn))
})

test_that("without a UMAP cells lie in the latent space: components, or two of its dimensions", {
  model <- trained_model()
  z <- get_latent_representation(model)
  drawn <- plot_latent(model)
  expect_equal(var(drawn$data$x), max(eigen(var(z))$values), tolerance = 1e-6)
  expect_setequal(levels(drawn$data$colour), c("x", "y")) # the batch, which it reads
  two <- plot_latent(write_back(model, seurat_object()), "depth", coordinates = c(1, 3))$data
  expect_setequal(round(two$y, 6), round(unname(z[, 3]), 6))
  expect_equal(sort(two$colour), sort(unname(seurat_object()$depth)))
  expect_error(plot_latent(model, coordinates = c(1, 9)), "two of the 4", class = "scelbo_argument_error")
  expect_error(plot_latent(seurat_object()), "RunSCVI", class = "scelbo_setup_error")
  expect_error(plot_latent(with_umap(), "tpye"), "Did you mean 'type'", class = "scelbo_setup_error")
  expect_error(plot_latent(with_umap(), 1:3), "3 values for 150 cells", class = "scelbo_argument_error")
  expect_error(plot_latent(with_umap(), coordinates = "umpa"), class = "scelbo_setup_error")
  sce <- write_back(model, sce_object())
  expect_equal(sort(plot_latent(sce, "type")$data$x), sort(drawn$data$x), tolerance = 1e-5)
})

test_that("numbers on both sides of zero are told by side", {
  object <- with_umap()
  colour_of <- function(values) {
    drawn <- plot_latent(object, values)
    setNames(layer(drawn)$colour, drawn$data$colour)
  }
  both <- colour_of(seq(-2, 2, length.out = 150))
  expect_equal(unname(both[c("-2", "2")]), c("#0072B2", "#D55E00"))
  expect_false(any(colour_of(1:150) %in% both))
})

test_that("abundance is told by group, and on the map", {
  object <- with_umap()
  found <- drawable(data.frame(log_fold_change = rep(c(2, -1, 0.1), 50), is_da_fdr_0.1 = rep(c(TRUE, TRUE, FALSE), 50),
                               row.names = colnames(object)), "abundance")
  drawn <- plot(found, "batch", object)
  expect_setequal(drawn$data$called[drawn$data$change == 2], "more in the case")
  expect_setequal(drawn$data$called[drawn$data$change == 0.1], "not found")
  expect_match(drawn$scales$get_scales("colour")$name, "10 %")
  expect_equal(sort(plot_abundance(found, object = object)$data$colour), sort(found$log_fold_change))
  expect_error(plot_abundance(found), "object", class = "scelbo_argument_error")
  expect_error(plot_abundance(found["log_fold_change"], "type", object), "contrast", class = "scelbo_argument_error")
})

test_that("doublets are counted by lane", {
  table <- drawable(data.frame(lane = c("x", "x", "x", "y"), probability = c(0.1, 0.1, 0.9, 0.2),
                               call = c(FALSE, FALSE, TRUE, FALSE)), "doublets")
  drawn <- ggplot2::autoplot(table)
  expect_identical(levels(drawn$data$panel), c("x: 33.3 % of 3 cells called", "y: 0 % of 1 cells called"))
  expect_equal(sum(layer(drawn)$count), 4)
})

test_that("topics show their features, or groups", {
  model <- train(amortizedlda(simulate_counts(), n_topics = 3), max_epochs = 3, verbose = FALSE)
  top <- get_top_features(model, n = 4, seed = 1)
  drawn <- plot_topics(model, n = 4, topics = c(1, 3), seed = 1)
  expect_equal(drawn$data$value, 100 * top$probability[top$topic != "topic_2"])
  expect_equal(ggplot2::autoplot(top)$data$feature, top$feature)
  expect_error(plot_topics(model, topics = "topic4"), "Did you mean", class = "scelbo_setup_error")
  object <- write_back(model, seurat_object())
  by_type <- plot_topics(object, "type", seed = 1)$data
  shares <- get_latent_representation(model, seed = 1)
  expect_equal(by_type$share[by_type$group == "b" & by_type$topic == "topic_2"], mean(shares[object$type == "b", 2]), tolerance = 1e-6)
  expect_error(plot_topics(trained_model()), class = "scelbo_argument_error")
})

test_that("loadings are those farthest from the average gene", {
  model <- train(linearscvi(simulate_counts(), n_latent = 3), max_epochs = 3, verbose = FALSE)
  drawn <- plot_loadings(write_back(model, seurat_object()), dims = 2, n = 5)$data
  loadings <- get_loadings(model)[, 2]
  loadings <- loadings - mean(loadings)
  expect_identical(drawn$feature, names(sort(abs(loadings), decreasing = TRUE))[1:5])
  expect_equal(drawn$loading, unname(loadings[drawn$feature]))
  expect_error(plot_loadings(trained_model()), "get_loadings", class = "scelbo_argument_error")
})

test_that("reliability is what was counted", {
  chance <- rbind(c(0.95, 0.05), c(0.92, 0.08), c(0.35, 0.65), c(0.6, 0.4))
  colnames(chance) <- c("a", "b")
  drawn <- plot_calibration(chance, c("a", "b", "b", "other"))
  expect_equal(drawn$data$said, c(0.65, 0.935))
  expect_equal(drawn$data$right, c(1, 0.5))
  expect_equal(drawn$data$low, qbeta(0.05, c(1.5, 1.5), c(0.5, 1.5)))
  expect_equal(drawn$data$high, c(1, qbeta(0.95, 1.5, 1.5)))
  expect_match(drawn$labels$subtitle, "error 40.7 %, 3 cells") # (0.35 + 2 * 0.435) / 3
  expect_error(plot_calibration(chance, 1:2), "2 values for 4 cells", class = "scelbo_argument_error")
  expect_error(plot_calibration(chance, rep("c", 4)), "None of the true labels", class = "scelbo_argument_error")
  expect_error(plot_calibration(chance), "labels", class = "scelbo_argument_error")
})

test_that("labels that training saw are not asked", {
  object <- seurat_object()
  object$known <- ifelse(seq_len(150) > 100, NA, object$type)
  model <- train(scanvi(object, "known", n_latent = 3), max_epochs = 2, train_size = 0.8, verbose = FALSE, seed = 1)
  drawn <- plot_calibration(model, object$type)
  expect_equal(sum(drawn$data$cells), 50 + sum(!is.na(object$known[reticulate::py_to_r(model$python$validation_indices) + 1])))
  object <- write_back(model, object)
  expect_equal(plot_calibration(object, "type")$data, drawn$data, tolerance = 1e-5)
  others <- SeuratObject::RenameCells(object, add.cell.id = "new")
  expect_equal(sum(plot_calibration(model, "type", others)$data$cells), 150)
})

test_that("intervals of draws are drawn as they were counted", {
  check <- posterior_predictive_check(trained_model(), n_samples = 5, seed = 1)
  drawn <- plot(check)
  expect_equal(drawn$data$inside[drawn$data$of == "all values"], attr(check, "calibration")$all)
  expect_identical(plot(check)$data, ggplot2::autoplot(check)$data)
  expect_error(plot_calibration(as.data.frame(unclass(check))), "calibration", class = "scelbo_argument_error")
})

test_that("tables that can be drawn are data.frames in every other way", {
  found <- differential_expression(trained_model(), "type", "a", object = seurat_object(), mode = "change", seed = 1)
  expect_s3_class(plot(found), "ggplot")
  expect_identical(plot(found)$data, plot_volcano(found)$data)
  expect_s3_class(ggplot2::autoplot(trained_model(), "elbo"), "ggplot")
  expect_identical(found[1:2, "lfc_mean"], as.list(found)$lfc_mean[1:2])
  expect_identical(class(FindMarkersSCVI(write_back(trained_model(), seurat_object()), "a", group.by = "type")), "data.frame")
})

test_that("every picture in R has its twin in Python, and colours are the same", {
  ours <- sub("^plot_", "", grep("^plot_", getNamespaceExports("scelbo"), value = TRUE))
  pl <- reticulate::import("scelbo.pl", convert = FALSE)
  expect_setequal(c(ours, "training"), reticulate::py_to_r(pl$`__all__`))
  style <- reticulate::import("scelbo.pl.style")
  expect_equal(unname(toupper(colours_of(1:25))), unname(unlist(style$colours_of(as.list(1:25)))))
  expect_equal(c(ink[["first"]], ink[["second"]]), c(style$FIRST, style$SECOND))
})
