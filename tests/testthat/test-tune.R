skip_without_backend()

test_that("what cannot be tried is said before any trial", {
  counts <- simulate_counts()
  if (!reticulate::py_module_available("ray")) {
    expect_error(tune(counts, list(n_latent = c(2, 3))), "Ray", class = "scelbo_backend_error")
  } else {
    expect_error(tune(counts, list(n_latents = c(2, 3))), "Did you mean 'n_latent'", class = "scelbo_argument_error")
  }
  expect_error(tune(counts, list(n_latent = c(2, 3)), model = "svci"), "Did you mean 'scvi'", class = "scelbo_setup_error")
  expect_error(tune(counts, list(n_latent = c(2, 3)), n_hiden = 3), "Did you mean 'n_hidden'", class = "scelbo_argument_error")
})

test_that("trials come back as a table, the best one as a model of these cells", {
  skip_if(!reticulate::py_module_available("ray"), "Ray is not installed")
  found <- tune(seurat_object(), list(n_latent = c(2, 4), lr = list(low = 1e-3, high = 1e-2, log = TRUE)), "batch", n_hidden = 8,
                n_trials = 2, max_epochs = 2, at_once = 1, verbose = FALSE)
  expect_named(found, c("best", "table", "model"))
  expect_equal(nrow(found$table), 2)
  expect_true(found$best$n_latent %in% c(2, 4))
  expect_equal(dim(get_latent_representation(found$model)), c(ncol(seurat_object()), found$best$n_latent))
  expect_equal(min(found$table$value[found$table$end]), found$table$value[[1]])
})
