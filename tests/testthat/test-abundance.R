skip_without_backend()

# Six samples; those of the case hold most of the cells of type "a".
samples <- function() {
  withr::with_seed(1, {
    case <- stats::runif(150) < ifelse(cell_types(150) == "a", 0.9, 0.3)
    paste0(ifelse(case, "case", "control"), sample(1:3, 150, replace = TRUE))
  })
}

test_that("a type of which the case has more is found", {
  object <- seurat_object()
  object$sample <- samples()
  object$arm <- sub("[0-9]", "", object$sample)
  object$donor <- sub("[a-z]+", "", object$sample)
  model <- trained_model()
  table <- differential_abundance(model, "sample", c("arm", "case", "control"), object = object)
  expect_identical(rownames(table), colnames(object))
  expect_named(table, c("log_fold_change", "t", "p_value", "fdr", "is_da_fdr_0.05"))
  effect <- tapply(table$log_fold_change, cell_types(150), mean)
  expect_gt(effect[["a"]], max(effect[c("b", "c")]) + 1)
  by_vectors <- differential_abundance(model, samples(), list(object$arm, "control", "case"), fdr_target = 0.2)
  expect_equal(by_vectors$log_fold_change, -table$log_fold_change, tolerance = 1e-5)
  expect_named(by_vectors[5], "is_da_fdr_0.2")
  paired <- differential_abundance(model, "sample", c("arm", "case", "control"), pair = "donor", object = object)
  expect_equal(paired$log_fold_change, table$log_fold_change, tolerance = 1e-5)
  expect_false(isTRUE(all.equal(paired$t, table$t)))
})

test_that("without a contrast there are the samples' densities", {
  densities <- differential_abundance(trained_model(), cell_types(150), num_cells_posterior = 30, seed = 1)
  expect_named(densities, c("a", "b", "c"))
  expect_gt(mean((densities$a > densities$b) == (cell_types(150) == "a")), 0.8)
})

test_that("what cannot be compared is told", {
  object <- seurat_object()
  object$sample <- samples()
  object$arm <- sub("[0-9]", "", object$sample)
  expect_snapshot({
    said(differential_abundance(trained_model(), "smple", object = object))
    said(differential_abundance(trained_model(), "sample", c("arm", "Case", "control"), object = object))
    said(differential_abundance(trained_model(), "batch", "arm", object = object))
    said(differential_abundance(trained_model(), "arm", "arm", object = object))
  })
})

test_that("the aggregated posterior is Python's, and needs no Python to be kept", {
  model <- trained_model()
  at <- get_latent_representation(model)[1:7, ]
  for (dof in list(NULL, 3)) {
    found <- get_aggregated_posterior(model, cells = 1:40, dof = dof)
    expect_identical(dim(found$location), c(40L, 4L))
    python <- ask(model, "get_aggregated_posterior", indices = 0:39, dof = dof)
    torch <- reticulate::import("torch", convert = FALSE)
    expected <- reticulate::py_to_r(python$log_prob(torch$tensor(at, dtype = torch$float32))$numpy())
    expect_equal(unname(found$log_density(at)), as.vector(expected), tolerance = 1e-5)
    expect_equal(found$mean, colMeans(found$location), tolerance = 1e-5)
    expect_equal(unserialize(serialize(found, NULL))$log_density(at[1, ]), unname(found$log_density(at)[1]))
  }
  expect_equal(found$location, get_latent_representation(model)[1:40, ], tolerance = 1e-5)
  expect_error(found$log_density(at[, 1:2]), "2 dimensions", class = "scelbo_argument_error")
})
