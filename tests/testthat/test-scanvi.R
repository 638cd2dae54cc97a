skip_without_backend()

# Types of the simulated cells, of which every other cell's is known.
some_known <- function(object) {
  object$known <- ifelse(seq_len(ncol(object)) %% 2 == 0, object$type, NA)
  object
}

labelled_model <- function() {
  if (is.null(shared$labelled)) {
    model <- scanvi(some_known(seurat_object()), "known", batch = "batch", n_latent = 4)
    shared$labelled <- train(model, max_epochs = 100, train_size = 0.6, verbose = FALSE)
  }
  shared$labelled
}

query_cells <- function() {
  counts <- simulate_counts()[, 1:60]
  colnames(counts) <- paste0("new", 1:60)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts))
  object$batch <- rep(c("x", "z", "z"), 20)
  object
}

test_that("RunSCANVI adds a reduction and what the classifier says, and changes nothing else", {
  before <- some_known(seurat_object())
  after <- RunSCANVI(before, "known", batch = "batch", n_latent = 3, max_epochs = 2, verbose = FALSE)
  expect_equal(dim(after[["scanvi"]]), c(150, 3))
  expect_named(after[[]], c(names(before[[]]), "scanvi_label", "scanvi_probability", "scanvi_set_size", "scanvi_novelty"))
  expect_identical(after[[]][names(before[[]])], before[[]])
  expect_identical(after[["RNA"]], before[["RNA"]])
  model <- get_model(after)
  expect_s3_class(model, "scelbo_scanvi")
  expect_identical(levels(after$scanvi_label), c("a", "b", "c"))
  expect_equal(unname(after$scanvi_label), unname(predict(model)))
  expect_equal(unname(after$scanvi_probability), unname(apply(predict(model, type = "probability"), 1, max)))
  expect_true(all(is.na(after$scanvi_novelty))) # 7 labelled cells were held out
  expect_error(RunSCANVI(before, "knwon"), "Did you mean 'known'", class = "scelbo_setup_error")
})

test_that("runSCANVI, an AnnData and a factor make the same model; which survives saveRDS", {
  sce <- some_known(sce_object())
  after <- runSCANVI(sce, labels = "known", max_epochs = 2, verbose = FALSE)
  expect_identical(SingleCellExperiment::reducedDimNames(after), "SCANVI")
  expect_true(all(c("scanvi_label", "scanvi_probability") %in% names(SummarizedExperiment::colData(after))))
  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  expect_equal(predict(get_model(back), back, type = "probability"), predict(get_model(after), type = "probability"),
               tolerance = 1e-5)
  sce$text <- factor(ifelse(is.na(sce$known), "unknown", sce$known))
  other <- train(scanvi(as_anndata(sce), "text", unlabeled = "unknown"), max_epochs = 2, verbose = FALSE)
  expect_equal(predict(other, type = "probability"), predict(get_model(after), type = "probability"), tolerance = 1e-5)
})

test_that("labels come with probabilities, sets and novelty, of one's own cells and of others", {
  model <- labelled_model()
  truth <- cell_types(150)
  label <- predict(model)
  expect_named(label, paste0("cell", 1:150))
  expect_gt(mean(label[truth == "a"] == "a"), 0.8) # b and c are alike
  chance <- predict(model, type = "probability")
  expect_identical(dimnames(chance), list(paste0("cell", 1:150), c("a", "b", "c")))
  expect_equal(unname(rowSums(chance)), rep(1, 150), tolerance = 1e-5)
  expect_false(isTRUE(all.equal(predict(model, type = "probability", calibrated = FALSE), chance)))
  expect_equal(predict(model, some_known(seurat_object())[, 20:40], type = "probability"), chance[20:40, ], tolerance = 1e-5)
  expect_equal(predict(model, cells = c("cell9", "cell3")), label[c(9, 3)])

  sets <- predict_sets(model, coverage = 0.8)
  expect_type(sets, "logical")
  expect_identical(dimnames(sets), dimnames(chance))
  expect_true(all(predict_sets(model, coverage = 0.95) >= sets))
  trust <- annotate_cells(model, coverage = 0.8)
  expect_named(trust, c("label", "probability", "set_size", "novelty"))
  expect_identical(rownames(trust), rownames(sets))
  expect_identical(trust$label, unname(label))
  expect_identical(trust$set_size, as.integer(unname(rowSums(sets))))
  expect_true(all(trust$novelty >= 0 & trust$novelty <= 1))
})

test_that("a model starts from a trained scVI, which may be in the object", {
  object <- some_known(write_back(trained_model(), seurat_object()))
  model <- scanvi_from_scvi(trained_model(), object, labels = "known")
  expect_identical(summary(model)$arguments$n_latent, 4L)
  expect_identical(model$recipe$columns$batch, "batch")
  z <- get_latent_representation(train(model, max_epochs = 1, verbose = FALSE))
  expect_gt(cor(dist(z), dist(get_latent_representation(trained_model()))), 0.9) # after one epoch still there
  after <- RunSCANVI(object, labels = "known", from = "scvi", max_epochs = 1, verbose = FALSE)
  expect_equal(SeuratObject::Embeddings(after, "scanvi"), z, ignore_attr = TRUE)
  expect_message(RunSCANVI(object, labels = "known", from = "scvi"), "SCANVI trained for 10 epochs")
})

test_that("new cells are mapped and labelled without labels of their own", {
  reference <- write_back(labelled_model(), some_known(seurat_object()))
  before <- query_cells()
  after <- MapQuerySCANVI(before, reference, max_epochs = 2, verbose = FALSE)
  expect_named(after[[]], c(names(before[[]]), paste0("scanvi_", c("label", "probability", "set_size", "novelty",
                                                                   "mapping_score"))))
  expect_gt(mean(after$scanvi_label[cell_types(60) == "a"] == "a"), 0.7)
  expect_true(all(is.finite(after$scanvi_novelty)))
  expect_equal(dim(after[["scanvi"]]), c(60, 4))
  expect_equal(predict(get_model(after), before), predict(get_model(after)))
  expect_error(MapQuerySCANVI(before, write_back(trained_model(), seurat_object())), "is of class SCVI",
               class = "scelbo_argument_error")

  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = simulate_counts()[, 1:60]))
  sce$batch <- "new"
  mapped <- mapQuerySCANVI(sce, labelled_model(), score = FALSE, max_epochs = 1, verbose = FALSE)
  expect_named(SummarizedExperiment::colData(mapped),
               c("batch", paste0("scanvi_", c("label", "probability", "set_size", "novelty"))))
})

test_that("what is amiss with labels is said", {
  object <- some_known(seurat_object())
  object$none <- NA_character_
  object$text <- ifelse(is.na(object$known), "unknown", object$known)
  few <- train(scanvi(object, "known"), max_epochs = 1, verbose = FALSE)
  expect_snapshot({
    said(scanvi(object))
    said(scanvi(object, "none"))
    said(scanvi(object, "orig.ident"))
    said(scanvi_from_scvi(object, labels = "known"))
    said(scanvi_from_scvi(few, labels = "known"))
    said(scanvi_from_scvi(trained_model(), labels = "known"))
    said(predict_sets(few))
    said(predict(few, type = "prob"))
    said(predict(trained_model()))
    said(annotate_cells(trained_model()))
  })
  expect_warning(scanvi(object, "text", unlabeled = "unknwon"), "`unlabeled`: no cell has.*Did you mean 'unknown'",
                 class = "scelbo_data_warning")
  expect_true(check_data(object, labels = "known", model = "scanvi", forecast = FALSE)$ok)
})
