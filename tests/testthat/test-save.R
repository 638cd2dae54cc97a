skip_without_backend()

test_that("a model survives saveRDS and readRDS", {
  model <- trained_model()
  path <- withr::local_tempfile()
  saveRDS(model, path)
  back <- readRDS(path)
  expect_true(reticulate::py_is_null_xptr(back$python))
  expect_output(print(back), "trained for 200 epochs")
  expect_identical(as.data.frame(back), as.data.frame(model))
  z <- get_latent_representation(model)
  expect_equal(get_latent_representation(back, object = seurat_object()), z, tolerance = 1e-6)
  expect_error(get_latent_representation(back), "object =", class = "scelbo_setup_error")
  expect_error(train(back), class = "scelbo_setup_error")
})

test_that("a model that was never trained says so after readRDS", {
  back <- unserialize(serialize(scvi(simulate_counts()), NULL))
  expect_error(get_elbo(back), "not trained", class = "scelbo_storage_error")
})

test_that("a model opens from its folder, with its data and without", {
  model <- trained_model()
  folder <- withr::local_tempdir()
  expect_error(save_model(model, folder), class = "scelbo_storage_error")
  save_model(model, folder, overwrite = TRUE)
  expect_setequal(list.files(folder), c("model.json", "weights.safetensors"))
  without <- load_model(folder)
  with <- load_model(folder, object = seurat_object())
  z <- get_latent_representation(model)
  expect_equal(get_latent_representation(with), z, tolerance = 1e-6)
  expect_equal(get_latent_representation(without, object = seurat_object()), z, tolerance = 1e-6)
  expect_equal(without$recipe$columns, list(batch = "batch"))
  expect_error(load_model(file.path(folder, "nowhere")), class = "scelbo_storage_error")
})

test_that("features are matched by name", {
  model <- trained_model()
  turned <- seurat_object()[sample(60), ]
  expect_equal(get_latent_representation(model, object = turned), get_latent_representation(model), tolerance = 1e-5)
  expect_error(get_latent_representation(model, object = seurat_object()[3:60, ]), "gene1",
               class = "scelbo_setup_error")
})
