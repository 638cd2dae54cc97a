skip_without_backend()

test_that("R and Python give the same answers at the same seed, to the last digit", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(seurat_object(), path)
  told <- from_python(c(
    "from scelbo import SCVI",
    "adata = anndata.read_h5ad(sys.argv[2])",
    "SCVI.setup_anndata(adata, batch_key='batch', continuous_covariate_keys=['depth'])",
    "model = SCVI(adata, n_latent=3)",
    "model.train(max_epochs=5, seed=11, progress=False)",
    "keep('latent', model.get_latent_representation())",
    "keep('drawn', model.posterior_predictive_sample(seed=2).toarray())",
    "table = model.differential_expression(groupby='type', group1='a', mode='change', seed=3)",
    "keep('tested', table.loc[adata.var_names, ['proba_de', 'bayes_factor', 'lfc_mean']])"
  ), path, names = c("latent", "drawn", "tested"))
  model <- train(scvi(seurat_object(), ~ batch + depth, n_latent = 3), max_epochs = 5, seed = 11, verbose = FALSE)
  expect_identical(as.vector(t(get_latent_representation(model))), told$latent)
  expect_identical(as.vector(posterior_predictive_sample(model, seed = 2)), told$drawn)
  table <- differential_expression(model, group_by = "type", object = seurat_object(), group1 = "a", mode = "change", seed = 3)
  table <- as.matrix(table[paste0("gene", 1:60), c("proba_de", "bayes_factor", "lfc_mean")])
  expect_identical(as.vector(t(table)), told$tested)
})

test_that("the history is a data.frame, and training again continues it", {
  model <- train(scvi(simulate_counts()), max_epochs = 3, verbose = FALSE)
  history <- as.data.frame(model)
  expect_equal(history$epoch, 0:2)
  expect_true(all(c("elbo_train", "elbo_validation") %in% names(history)))
  train(model, max_epochs = 2, verbose = FALSE)
  expect_equal(as.data.frame(model)$epoch, 0:4)
})

test_that("training says one closing line, or nothing", {
  model <- scvi(simulate_counts())
  expect_silent(train(model, max_epochs = 2, verbose = FALSE))
  output <- capture.output(expect_message(train(model, max_epochs = 2), "SCVI trained for 4 epochs"))
  expect_length(output, 0)
})

test_that("events come at most ten a second, and an error in showing them ends nothing", {
  seen <- list()
  bridge()$listen(reticulate::r_to_py(function(event) {
    seen[[length(seen) + 1]] <<- event
    NULL
  }, convert = TRUE))
  withr::defer(bridge()$listen(NULL))
  started <- Sys.time()
  ask(scvi(simulate_counts()), "train", max_epochs = 30)
  seconds <- as.numeric(Sys.time() - started, units = "secs")
  kinds <- vapply(seen, function(event) event$event, "")
  expect_equal(kinds[c(1, length(kinds))], c("start", "end"))
  expect_lte(sum(kinds == "step"), 10 * seconds + 1)
  expect_equal(seen[[length(seen)]]$done, 30)

  local_value("show_event", function(...) stop("cannot draw"))
  expect_silent(train(scvi(simulate_counts()), max_epochs = 2, verbose = FALSE))
})

test_that("events are no longer heard after training", {
  train(scvi(simulate_counts()), max_epochs = 1, verbose = FALSE)
  expect_null(reticulate::py_to_r(core()$settings$on_event))
})

test_that("R's random numbers are not touched", {
  set.seed(1)
  before <- .Random.seed
  model <- train(scvi(seurat_object(), batch = "batch"), max_epochs = 1, verbose = FALSE)
  posterior_predictive_sample(model)
  differential_expression(model, group_by = cell_types(150))
  get_model(RunSCVI(seurat_object(), max_epochs = 1, verbose = FALSE))
  unserialize(serialize(model, NULL))
  expect_identical(.Random.seed, before)
})

test_that("threads are set for the training alone", {
  before <- reticulate::py_to_r(bridge()$status())$threads
  model <- train(scvi(simulate_counts()), max_epochs = 1, threads = 2, verbose = FALSE)
  expect_equal(reticulate::py_to_r(bridge()$status())$threads, before)
})

test_that("devices have short names", {
  expect_equal(device_arguments("cuda:1"), list(accelerator = "gpu", devices = list(1L)))
  expect_equal(device_arguments("cpu"), list(accelerator = "cpu", devices = NULL))
  expect_error(device_arguments("tpu"), class = "scelbo_argument_error")
})
