skip_without_backend()

held_out <- function(model) as.vector(reticulate::py_to_r(model$python$validation_indices)) + 1L

test_that("a check of held-out cells has a row a feature", {
  model <- trained_model()
  check <- posterior_predictive_check(model, seed = 1)
  expect_identical(rownames(check), paste0("gene", 1:60))
  counts <- simulate_counts()[, held_out(model)]
  expect_equal(check$zeros_observed, unname(Matrix::rowMeans(counts == 0)))
  expect_equal(check$mean_observed, unname(Matrix::rowMeans(counts)), tolerance = 1e-6)
  expect_equal(attributes(check)[c("n_cells", "n_samples", "held_out")],
               list(n_cells = 15L, n_samples = 25L, held_out = TRUE))
  expect_equal(attr(check, "calibration")$level, c(0.5, 0.8, 0.9, 0.95))
  expect_equal(sum(attr(check, "ranks")$all), 1)
  expect_equal(attr(check, "outside")[["zeros"]], mean(check$zeros_outside))
  some <- posterior_predictive_check(model, cells = 1:40, n_samples = 9, n_cells = 30, seed = 1)
  expect_equal(attributes(some)[c("n_cells", "held_out")], list(n_cells = 30L, held_out = FALSE))
  expect_equal(attr(some, "expected_outside"), 0.2)
})

test_that("the KL of latent dimensions is named by them", {
  model <- trained_model()
  expect_named(get_latent_kl(model), colnames(get_latent_representation(model)))
  others <- get_latent_kl(model, object = seurat_object()[, 1:20])
  expect_equal(get_latent_kl(model, cells = 1:20), others, tolerance = 1e-5)
  bound <- get_elbo(model, cells = 1:20, return_mean = FALSE) # what KL the ELBO holds is the dimensions' sum
  expect_lt(sum(get_latent_kl(model, cells = 1:20)), -mean(bound))
})

test_that("a report has numbers, and a page in which labels colour the cells", {
  model <- trained_model()
  file <- withr::local_tempfile(fileext = ".html")
  has_plots <- reticulate::py_module_available("matplotlib")
  found <- report(model, if (has_plots) file, labels = "type", object = seurat_object(), n_samples = 9, seed = 1)
  expect_true(attr(found$predictive, "held_out")) # the model's own cells, although an object was given
  expect_identical(found$latent_kl, get_latent_kl(model))
  expect_identical(found$collapsed, names(found$latent_kl)[found$latent_kl < 0.01])
  expect_equal(rownames(found$fit), c("training", "held out"))
  expect_equal(found$fit$cells, c(135, 15))
  expect_equal(found$embedding[c("batch", "type")], seurat_object()[[c("batch", "type")]])
  expect_type(found$verdicts$good, "logical")
  expect_false(any(grepl("=\\{'|\\.query\\(", found$verdicts$advice))) # Python's words
  expect_output(print(found), "Held-out ELBO")
  expect_named(from_pandas(model$python$adata$obs), "batch")
  if (has_plots) expect_match(paste(readLines(file), collapse = ""), "<h2>Latent space", fixed = TRUE)

  gone <- train(scvi(simulate_counts(), n_latent = 3), max_epochs = 40, verbose = FALSE,
                plan_kwargs = list(max_kl_weight = 1e4, min_kl_weight = 1e4, lr = 0.01))
  few <- report(gone, NULL, n_samples = 2)
  expect_gt(length(few$collapsed), 0)
  expect_match(subset(few$verdicts, name == "Collapsed latent dimensions")$shown, paste(few$collapsed, collapse = ", "))

  numbers <- function(...) report(model, NULL, ..., n_samples = 9, seed = 1)$verdicts$value
  expect_equal(numbers(), found$verdicts$value)
  expect_equal(numbers(labels = cell_types(150)), found$verdicts$value)
  back <- unserialize(serialize(model, NULL)) # its cells come from the object that holds them
  expect_equal(report(back, NULL, object = seurat_object(), n_samples = 9, seed = 1)$fit, found$fit, tolerance = 1e-5)
  others <- report(model, NULL, labels = "type", object = seurat_object()[, 1:50], n_samples = 9)
  expect_equal(rownames(others$fit), "all")
  expect_error(report(model, NULL, labels = "typ", object = seurat_object()), "Did you mean 'type'",
               class = "scelbo_setup_error")
})
