skip_without_backend()

test_that("Seurat's counts, metadata and reductions survive a file", {
  object <- write_back(trained_model(), seurat_object())
  object$odd <- rep(odd_metadata()$logical, 25)
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path)
  back <- as_seurat(path)
  expect_equal(read_cells(back)$counts, read_cells(object)$counts)
  kept <- c("nCount_RNA", "nFeature_RNA", "depth", "odd")
  expect_equal(back[[]][kept], object[[]][kept], ignore_attr = TRUE)
  expect_equal(SeuratObject::Embeddings(back, "scvi"), SeuratObject::Embeddings(object, "scvi"))
})

test_that("cells without metadata become a Seurat object", {
  skip_if_not_installed("SeuratObject")
  expect_equal(dim(as_seurat(as_anndata(simulate_counts()))), c(60, 150))
  expect_equal(SeuratObject::Assays(as_seurat(as_anndata(simulate_counts()), assay = "peaks")), "peaks")
})

test_that("what is known of features comes along", {
  skip_if_not_installed("SeuratObject")
  skip_if_not_installed("SingleCellExperiment")
  object <- sce_object()
  SummarizedExperiment::rowData(object)$symbol <- toupper(rownames(object))
  back <- as_seurat(as_anndata(object))
  expect_equal(as.character(back[["RNA"]][["symbol"]][, 1]), toupper(rownames(object)))
})

test_that("a SingleCellExperiment comes back as it was", {
  object <- sce_object()
  SummarizedExperiment::rowData(object)$symbol <- toupper(rownames(object))
  SingleCellExperiment::reducedDim(object, "PCA") <- matrix(1:300 / 7, 150)
  back <- as_sce(as_anndata(object))
  expect_equal(SummarizedExperiment::assay(back), SummarizedExperiment::assay(object))
  expect_equal(SummarizedExperiment::colData(back), SummarizedExperiment::colData(object))
  expect_equal(SummarizedExperiment::rowData(back), SummarizedExperiment::rowData(object))
  expect_equal(SingleCellExperiment::reducedDim(back), SingleCellExperiment::reducedDim(object), ignore_attr = TRUE)
})

test_that("values that are no counts are told", {
  expect_warning(as_sce(as_anndata(simulate_counts(9, 9) / 2)), "no counts", class = "scelbo_data_warning")
})
