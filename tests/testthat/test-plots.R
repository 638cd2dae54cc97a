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
