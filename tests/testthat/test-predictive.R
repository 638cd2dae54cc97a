skip_without_backend()

test_that("drawn counts are sparse features x cells, like those observed", {
  model <- trained_model()
  counts <- simulate_counts()
  drawn <- posterior_predictive_sample(model, seed = 1)
  expect_s4_class(drawn, "dgCMatrix")
  expect_identical(dimnames(drawn), dimnames(counts))
  expect_gt(stats::cor(Matrix::rowMeans(drawn), Matrix::rowMeans(counts)), 0.9)
  expect_true(all(drawn@x == round(drawn@x) & drawn@x > 0))
  several <- posterior_predictive_sample(model, features = c("gene9", "gene2"), cells = 5:1, n_samples = 3, seed = 1)
  expect_length(several, 3)
  expect_identical(dimnames(several[[2]]), list(c("gene9", "gene2"), paste0("cell", 5:1)))
  expect_false(identical(several[[1]], several[[2]]))
  in_batch <- function(batch) {
    sum(posterior_predictive_sample(model, features = paste0("gene", 20:30), transform_batch = batch, seed = 1))
  }
  expect_gt(in_batch("y"), in_batch("x"))
})

test_that("parameters are matrices of features x cells, of the features asked for", {
  model <- trained_model()
  all <- get_likelihood_parameters(model, features = "all")
  expect_named(all, c("mean", "dispersions", "dropout"))
  expect_identical(dimnames(all$mean), dimnames(simulate_counts()))
  some <- get_likelihood_parameters(model, features = c("gene9", "gene2"), cells = c("cell7", "cell3"))
  expect_equal(some$mean, all$mean[c("gene9", "gene2"), c("cell7", "cell3")], tolerance = 1e-5)
  expect_equal(some$dispersions, all$dispersions[c("gene9", "gene2"), c("cell7", "cell3")])
  draws <- get_likelihood_parameters(model, features = c("gene9", "gene2"), n_samples = 3, give_mean = FALSE, seed = 1)
  expect_equal(dim(draws$mean), c(2, 150, 3))
  mean <- get_likelihood_parameters(model, features = c("gene9", "gene2"), n_samples = 3, seed = 1)$mean
  expect_equal(apply(draws$mean, 1:2, base::mean), mean, tolerance = 1e-5)
})

test_that("correlations are a matrix of features x features", {
  model <- trained_model()
  correlations <- get_feature_correlation_matrix(model, features = c("gene1", "gene2", "gene40"), seed = 1)
  expect_identical(dimnames(correlations), rep(list(c("gene1", "gene2", "gene40")), 2))
  expect_equal(unname(diag(correlations)), rep(1, 3))
  expect_gt(correlations["gene1", "gene2"], correlations["gene1", "gene40"]) # markers of one type
  local_value("dense_limit", 8 * 59^2)
  expect_error(get_feature_correlation_matrix(model), "60 features x 60 features", class = "scelbo_argument_error")
})

test_that("library sizes are named by cells", {
  size <- get_latent_library_size(trained_model(), cells = 3:1)
  expect_equal(size, Matrix::colSums(simulate_counts())[3:1], tolerance = 1e-5)
})

test_that("the vectors of batches are a matrix of cells x dimensions", {
  expect_error(get_batch_representation(trained_model()), "no batch embedding", class = "scelbo_argument_error")
  model <- train(scvi(seurat_object(), "batch", batch_representation = "embedding", batch_embedding_dim = 2),
                 max_epochs = 1, verbose = FALSE)
  vectors <- get_batch_representation(model)
  expect_equal(dimnames(vectors), list(paste0("cell", 1:150), c("batch_1", "batch_2")))
  expect_equal(nrow(unique(vectors)), 2)
})

test_that("counterfactuals go over any covariate", {
  object <- seurat_object()
  object$donor <- rep(c(1, 2, 10), 50)
  model <- scvi(object, batch = "batch", categorical = "donor", continuous = "depth", n_latent = 2)
  train(model, max_epochs = 5, verbose = FALSE)
  ask <- function(...) get_normalized_expression(model, features = c("gene25", "gene3"), cells = 1:30, ...)
  expect_equal(ask(transform = list(batch = "y")), ask(transform_batch = "y"))
  expect_equal(ask(transform = list(depth = 7))[, 1:15], ask(transform = list(depth = 7, batch = "x"))[, 1:15])
  expect_false(isTRUE(all.equal(ask(transform = list(depth = 7)), ask())))
  expect_false(isTRUE(all.equal(ask(transform = list(donor = 10)), ask(transform = list(donor = 1)))))
  expect_error(ask(transform = list(dept = 1)), "Did you mean 'depth'", class = "scelbo_argument_error")
  expect_equal(dim(ask(n_samples = 2, return_mean = FALSE)), c(2, 30, 2))

  object$sample <- rep(c(1, 2), 75)
  by_column <- train(scvi(object, "sample", n_latent = 2), max_epochs = 2, verbose = FALSE)
  expect_equal(get_normalized_expression(by_column, transform = list(sample = 2)),
               get_normalized_expression(by_column, transform_batch = 2))
})
