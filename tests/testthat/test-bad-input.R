skip_without_backend()

# What came, in each class that a user may hold; `batch` is a column of it.
as_class <- list(
  matrix = function(counts, batch) counts,
  Seurat = function(counts, batch) {
    skip_if_not_installed("SeuratObject")
    object <- suppressWarnings(SeuratObject::CreateSeuratObject(as_sparse(counts)))
    object$batch <- batch
    object
  },
  SingleCellExperiment = function(counts, batch) {
    skip_if_not_installed("SingleCellExperiment")
    SingleCellExperiment::SingleCellExperiment(list(counts = counts), colData = S4Vectors::DataFrame(batch = batch))
  }
)

good <- function() {
  counts <- withr::with_seed(1, matrix(stats::rpois(600, 3) + 1, 15, 40))
  dimnames(counts) <- list(paste0("gene", 1:15), paste0("cell", 1:40))
  counts
}
at <- function(value, where = c(3, 2)) replace(good(), matrix(where, 1), value)
batches <- rep_len(c("a", "b"), 40)

# Kind of error or warning, and what it says.
expect_said <- function(call, kind, says, object, info) {
  before <- serialize(object, NULL)
  said <- rlang::catch_cnd(call(), classes = c("scelbo_error", "scelbo_data_warning"))
  expect_s3_class(said, kind)
  text <- conditionMessage(said)
  expect_true(grepl(says, text, fixed = TRUE), info = paste(info, "said", text))
  expect_identical(serialize(object, NULL), before, info = info)
}

test_that("values that are no counts are named, whatever the object", {
  bad <- list(
    list("a negative count", at(-1), "negative"), list("a fraction", at(0.5), "not a whole number"),
    list("log values", log1p(good()), "not a whole number"), list("missing", at(NA_real_), "NaN or infinite"),
    list("not a number", at(NaN), "NaN or infinite"), list("infinite", at(Inf), "NaN or infinite"),
    list("minus infinite", at(-Inf), "NaN or infinite"), list("centred", good() - 3, "negative"),
    list("an empty cell", replace(good(), 15 * 4 + 1:15, 0), "cell5"), list("only empty cells", good() * 0, "no counts")
  )
  for (class in names(as_class)) {
    for (one in bad) {
      object <- as_class[[class]](one[[2]], batches)
      expect_said(function() scvi(object), "scelbo_data_error", one[[3]], object, paste(class, one[[1]]))
      expect_said(function() peakvi(object), "scelbo_data_error", one[[3]], object, paste(class, one[[1]]))
    }
  }
})

test_that("a batch that is none is named", {
  bad <- list(
    list("no such column", "bacth", batches, "scelbo_setup_error", "Did you mean 'batch'"),
    list("missing in a cell", "batch", replace(batches, 1, NA), "scelbo_data_error", "no value"),
    list("a factor with NA", "batch", factor(replace(batches, 1, NA)), "scelbo_data_error", "no value"),
    list("a batch of one cell", "batch", replace(batches, 1, "alone"), "scelbo_data_warning", "alone (1)")
  )
  for (class in c("Seurat", "SingleCellExperiment")) {
    for (one in bad) {
      object <- as_class[[class]](good(), one[[3]])
      expect_said(function() scvi(object, batch = one[[2]]), one[[4]], one[[5]], object, paste(class, one[[1]]))
    }
  }
})

test_that("a continuous covariate that is no number is named", {
  bad <- list(list("text", batches, "numbers are needed"), list("a factor", factor(batches), "numbers are needed"),
              list("missing", c(NA, 2:40), "NaN or infinite"), list("infinite", c(Inf, 2:40), "NaN or infinite"))
  for (class in c("Seurat", "SingleCellExperiment")) {
    for (one in bad) {
      object <- as_class[[class]](good(), one[[2]])
      expect_said(function() scvi(object, continuous = "batch"), "scelbo_data_error", one[[3]], object, paste(class, one[[1]]))
    }
  }
})

test_that("what is no object of cells, and what is not in it, is named", {
  object <- as_class$Seurat(good(), batches)
  calls <- list(
    list(function() scvi(1:3), "scelbo_setup_error", "integer"), list(function() scvi(NULL), "scelbo_setup_error", "NULL"),
    list(function() scvi(data.frame(a = 1)), "scelbo_setup_error", "data.frame"),
    list(function() scvi("no_such.h5ad"), "scelbo_setup_error", "no_such.h5ad"),
    list(function() scvi(object, assay = "RMA"), "scelbo_setup_error", "Did you mean 'RNA'"),
    list(function() scvi(object, layer = "count"), "scelbo_setup_error", "Did you mean 'counts'"),
    list(function() scvi(object, features = c("gene1", "gene99")), "scelbo_setup_error", "'gene99'"),
    list(function() RunSCVI(good()), "scelbo_argument_error", "matrix")
  )
  for (one in calls) expect_said(one[[1]], one[[2]], one[[3]], object, deparse1(body(one[[1]])))
})

test_that("each argument of each model that is misspelt is answered with the nearest, as is each wrong value", {
  object <- as_class$Seurat(good(), batches)
  wrong <- list(n_hidden = -3, n_latent = 2.5, n_layers = "two", dropout_rate = 1, gene_likelihood = "znib", dispersion = "gens",
                encode_covariates = "yes", latent_distribution = "normale", activation = "relo", zero_inflation = "gen")
  for (constructor in setdiff(names(constructors), made_of_model)) {
    takes <- setdiff(names(formals(constructor)), c("object", "...", "markers", "spatial"))
    for (name in takes) {
      misspelt <- setNames(list(1), paste0(name, "z"))
      expect_error(do.call(constructor, c(list(object), if ("spatial" %in% names(formals(constructor))) list(spatial = object), misspelt)),
                   paste0("Did you mean '", name), class = "scelbo_argument_error", info = paste(constructor, name))
    }
  }
  for (constructor in c("scvi", "linearscvi", "autozi", "peakvi", "amortizedlda")) {
    for (name in intersect(names(wrong), names(formals(constructor)))) {
      expect_said(function() do.call(constructor, c(list(object), wrong[name])), "scelbo_argument_error", name, object, constructor)
    }
  }
})

test_that("questions refuse what they cannot answer, and keep the model as it was", {
  model <- train(scvi(as_class$Seurat(good(), batches), "batch", n_hidden = 8, n_latent = 2), max_epochs = 1, verbose = FALSE)
  z <- get_latent_representation(model)
  calls <- list(
    function() get_latent_representation(model, cells = "cell99"), function() get_latent_representation(model, cells = 1000),
    function() get_normalized_expression(model, "gene99"), function() get_normalized_expression(model, n_samples = 0),
    function() get_normalized_expression(model, n_samples = "x"), function() get_normalized_expression(model, library_size = "latnet"),
    function() get_normalized_expression(model, transform_batch = "c"), function() get_elbo(model, batch_size = 0),
    function() get_elbo(model, seed = "x"), function() get_elbo(model, bath_size = 3),
    function() differential_expression(model, "bacth"), function() differential_expression(model, "batch", group1 = "c"),
    function() differential_expression(model, "batch", mode = "chnge"), function() differential_expression(model, group1 = "a"),
    function() differential_expression(model, "batch", fdr_target = 5), function() differential_expression(model, groupby = "batch"),
    function() get_latent_representation(model, indices = 1:3)
  )
  for (call in calls) expect_error(call(), class = "scelbo_error", info = deparse1(body(call)))
  expect_identical(get_latent_representation(model), z)
})
