skip_without_backend()

test_that("without counts the same is answered, and comes along in a file", {
  model <- trained_model()
  small <- minify(model)
  questions <- list(
    get_latent_representation,
    function(m) get_normalized_expression(m, features = c("gene3", "gene1"), cells = c("cell5", "cell2")),
    function(m) get_latent_library_size(m)
  )
  for (ask in questions) expect_equal(ask(small), ask(model), tolerance = 1e-5)
  path <- withr::local_tempfile()
  saveRDS(small, path)
  back <- readRDS(path)
  folder <- file.path(withr::local_tempdir(), "model")
  save_model(small, folder)
  for (restored in list(back, load_model(folder))) {
    expect_equal(get_latent_representation(restored), get_latent_representation(model), tolerance = 1e-5)
  }
  expect_equal(get_elbo(back, object = seurat_object(), seed = 1), get_elbo(model, seed = 1), tolerance = 1e-5)
})

test_that("what needs counts says that they are gone, unless they were kept", {
  model <- trained_model()
  expect_error(get_elbo(minify(model)), "their counts are gone", class = "scelbo_data_error")
  kept <- minify(model, keep_counts = TRUE)
  expect_equal(get_elbo(kept, seed = 1), get_elbo(model, seed = 1), tolerance = 1e-5)
  back <- unserialize(serialize(kept, NULL))
  expect_error(get_elbo(back), class = "scelbo_setup_error")
  expect_error(minify(back), "object", class = "scelbo_setup_error")
})
