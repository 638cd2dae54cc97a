skip_without_backend()

test_that("everything that is wrong is said at once, and nothing is changed", {
  object <- seurat_object()
  object$batch[3] <- NA
  object$type <- factor(object$type)
  before <- serialize(object, NULL)
  expect_snapshot(print(check_data(object, "bacth", categorical = c("batch", "tpe"), continuous = "depth",
                                   features = c(paste0("gene", 1:40), "gen2"))))
  expect_identical(serialize(object, NULL), before)
  formula <- check_data(object, ~ type + bacth + depth, forecast = FALSE)
  expect_equal(nrow(formula$problems), 1)
  expect_match(formula$problems$what, "'bacth'. Did you mean 'batch'")

  adata <- as_anndata(seurat_object())
  in_python <- function() reticulate::py_to_r(adata$uns$`__len__`())
  noted <- in_python()
  features <- c(paste0("gene", 1:40), "gen2")
  expect_equal(nrow(check_data(adata, "bacth", features = features, forecast = FALSE)$problems), 2)
  expect_true(check_data(adata, "batch", forecast = FALSE)$ok)
  expect_equal(in_python(), noted)
})

test_that("it is ready where scvi() makes a model, and not where it refuses", {
  counts <- simulate_counts()
  broken <- counts
  broken@x[1:3] <- c(0.5, -1, NaN)
  twice <- counts
  rownames(twice)[2] <- "gene1"
  refused <- list(
    list(broken), list(twice), list("no file.h5ad"), list(letters), list(counts[, 0]), list(counts, "batch"),
    list(sce_object(), layer = "count"), list(sce_object(), dispersion = "gene-batch", features = "gen1")
  )
  accepted <- list(list(counts), list(broken[, -(1:2)], allow_non_counts = TRUE, gene_likelihood = "normal"),
                   list(sce_object(), "batch", features = paste0("gene", 1:9)))
  for (arguments in refused) {
    expect_error(do.call(scvi, arguments), class = "scelbo_error")
    checked <- do.call(check_data, c(arguments, forecast = FALSE))
    expect_false(checked$ok)
    expect_gt(nrow(checked$problems), 0)
  }
  for (arguments in accepted) {
    expect_s3_class(suppressWarnings(do.call(scvi, arguments)), "scelbo_model")
    expect_true(do.call(check_data, c(arguments, forecast = FALSE))$ok)
  }
  expect_error(check_data(counts, n_latnt = 3), "Did you mean 'n_latent'", class = "scelbo_argument_error")
  expect_error(check_data(counts, n_latent = 2.5), class = "scelbo_argument_error")
})

test_that("what deserves a look comes in R's words", {
  object <- sce_object()
  object$nested <- paste0(object$batch, rep(1:2, 75))
  object$number <- 7
  concerns <- check_data(object, "batch", categorical = "nested", continuous = "number", forecast = FALSE)$concerns
  expect_match(concerns$what, "^column '(nested|number)'")
  expect_equal(nrow(concerns), 2)
  object <- seurat_object() # what reading it warns of is a concern too
  local_value(if (inherits(object[["RNA"]], "StdAssay")) "layers_v5" else "slot_v3", function(...) {
    warn_scelbo("data", c("The counts were corrected.", i = "Choose others."))
    simulate_counts()
  })
  expect_identical(check_data(object, forecast = FALSE)$concerns,
                   data.frame(what = "The counts were corrected.", fix = "Choose others."))
})

test_that("the forecast is that of the model asked for", {
  ask <- function(...) check_data(simulate_counts(), ...)$forecast
  small <- ask()
  expect_equal(small[c("epochs", "minibatches", "batch_size", "threads")],
               list(epochs = 400L, minibatches = 2L, batch_size = 128L, threads = 1L))
  expect_gt(small$seconds, 0)
  expect_type(small$memory, "double")
  large <- bridge()$records(list(list("a", reticulate::py_eval("3 * 10**10", convert = FALSE))), list("part", "bytes"))
  expect_equal(from_pandas(large)$bytes, 3e10)
  expect_gt(ask(n_hidden = 256)$memory[["weights"]], small$memory[["weights"]])
  expect_output(print(check_data(simulate_counts())), "time: about .*memory: about")
})
