skip_without_backend()
skip_if_not_installed("ggplot2")

test_that("the training curves are drawn", {
  model <- trained_model()
  drawn <- plot(model)
  expect_s3_class(drawn, "ggplot")
  expect_setequal(drawn$data$cells, c("training", "validation"))
  expect_error(plot(model, metrics = "nonsense"), class = "scelbo_argument_error")
})

test_that("a volcano is drawn of markers alone", {
  object <- write_back(trained_model(), seurat_object())
  drawn <- plot_volcano(FindMarkersSCVI(object, "a", group.by = "type"), n_labels = 3)
  expect_equal(sum(nzchar(drawn$data$label)), 3)
  expect_no_error(ggplot2::ggplot_build(drawn))
  expect_error(plot_volcano(mtcars), class = "scelbo_argument_error")
})
