# Models whose questions are about genes: LDVAE, AutoZI, topics.
skip_without_backend()

both_ways <- function(path, object) {
  saveRDS(object, path)
  readRDS(path)
}

test_that("RunLinearSCVI brings loadings that Seurat can draw", {
  before <- seurat_object()
  after <- RunLinearSCVI(before, batch = "batch", n_latent = 3, max_epochs = 5, verbose = FALSE)
  expect_identical(after[[]], before[[]])
  loadings <- get_loadings(get_model(after))
  expect_identical(dimnames(loadings), list(rownames(before), paste0("linearscvi_", 1:3)))
  expect_equal(SeuratObject::Loadings(after[["linearscvi"]]), loadings)
  expect_identical(colnames(get_latent_representation(get_model(after))), colnames(loadings))
  more <- get_loadings(get_model(after), covariates = TRUE)
  expect_identical(colnames(more), c(colnames(loadings), "batch=x", "batch=y"))
  expect_equal(more[, 1:3], loadings)
  skip_if_not_installed("Seurat")
  drawn <- Seurat::VizDimLoadings(after, dims = 1, reduction = "linearscvi", nfeatures = 10)
  expect_length(levels(ggplot2::ggplot_build(drawn[[1]])$plot$data$feature), 10)
  expect_output(print(after[["linearscvi"]], dims = 1, nfeatures = 2), "Positive")
})

test_that("loadings are R's, of the decoder that explains the cells, at an AnnData's or a matrix's model too", {
  make <- function(object, ...) train(linearscvi(object, ..., n_latent = 2), max_epochs = 3, verbose = FALSE)
  expected <- get_loadings(make(seurat_object()))
  expect_equal(get_loadings(make(simulate_counts())), expected)
  expect_equal(get_loadings(make(as_anndata(sce_object()))), expected)
  model <- make(seurat_object())
  rho <- get_normalized_expression(model)
  z <- get_latent_representation(model)
  gaps <- log(rho) - log(rho[, 1]) # what a gene gains from cell to cell, less what all genes gain
  explained <- expected %*% (t(z) - z[1, ])
  centred <- function(x) sweep(x, 2, colMeans(x))
  expect_equal(centred(gaps), centred(explained), tolerance = 1e-3, ignore_attr = TRUE)
})

test_that("runLinearSCVI keeps loadings where scater has them, and all survives saveRDS", {
  after <- runLinearSCVI(sce_object(), batch = "batch", n_latent = 3, max_epochs = 2, verbose = FALSE)
  z <- SingleCellExperiment::reducedDim(after, "LinearSCVI")
  expect_equal(dim(z), c(150, 3))
  expect_equal(attr(z, "rotation"), get_loadings(get_model(after)))
  back <- both_ways(withr::local_tempfile(), after)
  expect_equal(get_loadings(get_model(back)), attr(z, "rotation"), tolerance = 1e-6)
})

test_that("RunAUTOZI and runAUTOZI say beside each gene whether it is zero-inflated", {
  object <- seurat_object()
  SeuratObject::VariableFeatures(object) <- paste0("gene", 40:1)
  after <- RunAUTOZI(object, batch = "batch", n_latent = 3, max_epochs = 5, verbose = FALSE)
  expect_identical(after[[]], object[[]])
  expect_equal(dim(after[["autozi"]]), c(150, 3))
  table <- get_zero_inflation(get_model(after))
  expect_named(table, c("feature", "alpha", "beta", "probability", "zero_inflated", "mean", "zeros"))
  expect_identical(rownames(table), paste0("gene", 40:1))
  beside <- after[["RNA"]][[]]
  expect_identical(rownames(beside), rownames(object))
  expect_equal(beside[paste0("gene", 40:1), "autozi_probability"], table$probability)
  expect_identical(beside[paste0("gene", 40:1), "autozi_zero_inflated"], table$zero_inflated)
  expect_true(all(is.na(beside[paste0("gene", 41:60), "autozi_probability"])))
  expect_equal(table$mean, unname(Matrix::rowMeans(simulate_counts()[40:1, ])), tolerance = 1e-6)
  expect_equal(table$zeros, unname(Matrix::rowMeans(simulate_counts()[40:1, ] == 0)), tolerance = 1e-6)
  strict <- get_zero_inflation(get_model(after), cells = 1:15, threshold = 0.99)
  expect_identical(strict$zero_inflated, strict$probability > 0.99)
  expect_equal(strict$mean, unname(Matrix::rowMeans(simulate_counts()[40:1, 1:15])), tolerance = 1e-6)

  sce <- runAUTOZI(sce_object(), batch = "batch", zero_inflation = "gene-batch", max_epochs = 2, verbose = FALSE)
  expect_named(SummarizedExperiment::rowData(sce),
               c("autozi_x.probability", "autozi_x.zero_inflated", "autozi_y.probability", "autozi_y.zero_inflated"))
  table <- get_zero_inflation(get_model(both_ways(withr::local_tempfile(), sce)))
  expect_equal(nrow(table), 120)
  expect_equal(SummarizedExperiment::rowData(sce)$autozi_y.probability, table$probability[table$batch == "y"],
               tolerance = 1e-6)
})

test_that("RunAmortizedLDA and runAmortizedLDA bring topics of cells and of genes", {
  before <- seurat_object()
  after <- RunAmortizedLDA(before, n_topics = 3, max_epochs = 20, verbose = FALSE)
  expect_identical(after[[]], before[[]])
  model <- get_model(after)
  topics <- get_latent_representation(model)
  expect_identical(dimnames(topics), list(colnames(before), paste0("topic_", 1:3)))
  expect_equal(unname(rowSums(topics)), rep(1, 150), tolerance = 1e-5)
  expect_equal(SeuratObject::Embeddings(after, "amortizedlda"), topics, ignore_attr = TRUE)
  genes <- get_feature_by_topic(model)
  expect_identical(dimnames(genes), list(rownames(before), paste0("topic_", 1:3)))
  expect_equal(unname(colSums(genes)), rep(1, 3), tolerance = 1e-5)
  expect_equal(SeuratObject::Loadings(after[["amortizedlda"]]), genes, tolerance = 0.2, ignore_attr = TRUE) # of draws
  top <- get_top_features(model, n = 4, seed = 1)
  expect_named(top, c("topic", "rank", "feature", "probability"))
  expect_identical(levels(top$topic), paste0("topic_", 1:3))
  expect_identical(top$rank, rep(1:4, 3))
  own <- get_feature_by_topic(model, seed = 1)[, "topic_2"]
  expect_identical(top$feature[top$topic == "topic_2"], names(sort(own, decreasing = TRUE))[1:4])
  perplexity <- get_perplexity(model)
  expect_gt(perplexity, 1)
  expect_lt(perplexity, 60)
  expect_false(get_perplexity(model, cells = 1:20) == perplexity)

  sce <- runAmortizedLDA(sce_object(), n_topics = 3, max_epochs = 2, verbose = FALSE)
  rotation <- attr(SingleCellExperiment::reducedDim(sce, "AmortizedLDA"), "rotation")
  expect_identical(dimnames(rotation), dimnames(genes))
  back <- both_ways(withr::local_tempfile(), sce)
  expect_equal(get_latent_representation(get_model(back), back, seed = 1),
               get_latent_representation(get_model(sce), seed = 1), tolerance = 1e-5)
})

test_that("what a model of genes cannot be asked, or made of, is said", {
  counts <- simulate_counts()
  object <- seurat_object()
  lda <- train(amortizedlda(counts, n_topics = 2), max_epochs = 1, verbose = FALSE)
  expect_snapshot({
    said(linearscvi(object, batch = "bacth"))
    said(linearscvi(counts, use_layer_norm = "both"))
    said(autozi(counts, alpha_prior = 2))
    said(autozi(counts, zero_inflation = "gene-label"))
    said(amortizedlda(counts, n_topics = 1))
    said(amortizedlda(counts, n_topics = 3, cell_topic_prior = c(1, 2)))
    said(get_loadings(lda))
    said(get_loadings(trained_model()))
    said(get_zero_inflation(lda))
    said(get_latent_kl(lda))
    said(get_top_features(lda, n = 0))
    said(get_feature_by_topic(amortizedlda(counts)))
  })
  expect_output(print(summary(amortizedlda(counts, n_topics = 3, cell_topic_prior = c(1, 2, 3)))),
                "cell_topic_prior +1, 2, 3")
  expect_true(check_data(object, model = "amortizedlda", n_topics = 3, forecast = FALSE)$ok)
})
