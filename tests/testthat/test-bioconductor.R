skip_without_backend()

test_that("runSCVI adds a reduced dimension and the model, and changes nothing else", {
  before <- sce_object()
  untouched <- serialize(before, NULL)
  after <- runSCVI(before, "batch", n_latent = 3, max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_equal(dim(SingleCellExperiment::reducedDim(after, "SCVI")), c(150, 3))
  expect_identical(SummarizedExperiment::colData(after), SummarizedExperiment::colData(before))
  expect_s3_class(get_model(after), "scelbo_model")

  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), SingleCellExperiment::reducedDim(after, "SCVI"),
               tolerance = 1e-6, ignore_attr = TRUE)
})

test_that("normalised expression comes as an alternative experiment", {
  object <- runSCVI(sce_object(), max_epochs = 1, verbose = FALSE)
  object <- write_back(get_model(object), object, features = c("gene4", "gene2"))
  expect_equal(dim(SingleCellExperiment::altExp(object, "scvi_normalized")), c(2, 150))
})

test_that("a SummarizedExperiment comes back as a SingleCellExperiment, which has a place for the latents", {
  before <- methods::as(sce_object(), "SummarizedExperiment")
  after <- runSCVI(before, "batch", n_latent = 3, max_epochs = 1, verbose = FALSE)
  expect_s4_class(after, "SingleCellExperiment")
  expect_equal(dim(SingleCellExperiment::reducedDim(after, "SCVI")), c(150, 3))
  expect_identical(SummarizedExperiment::assay(after), SummarizedExperiment::assay(before))
})
