skip_without_backend()

dense <- function(adata) t(as.matrix(reticulate::py_to_r(adata$X$toarray())))

test_that("every kind of matrix gives the same counts", {
  counts <- simulate_counts(20, 10)
  expected <- unname(as.matrix(counts))
  kinds <- list(
    sparse = counts, dense = as.matrix(counts),
    triplets = as(counts, "TsparseMatrix"), rows = as(counts, "RsparseMatrix"),
    integer = matrix(as.integer(expected), nrow(expected))
  )
  if (requireNamespace("DelayedArray", quietly = TRUE)) kinds$delayed <- DelayedArray::DelayedArray(as.matrix(counts))
  for (kind in names(kinds)) expect_equal(dense(as_anndata(kinds[[kind]])), expected, info = kind)
  expect_equal(dense(as_anndata(counts > 0)), (expected > 0) * 1)
})

test_that("an AnnData holds copies: R may free or change its own", {
  counts <- simulate_counts(20, 10)
  adata <- as_anndata(counts)
  expected <- unname(as.matrix(counts))
  counts@x[] <- -1
  invisible(gc())
  expect_equal(dense(adata), expected)
  expect_equal(reticulate::py_to_r(adata$X$dtype$name), "float32")
})

test_that("names of cells and features arrive, and features are chosen in the order asked for", {
  adata <- as_anndata(simulate_counts(20, 10), features = c("gene7", "gene2"))
  expect_equal(names_of(adata$var_names), c("gene7", "gene2"))
  expect_equal(names_of(adata$obs_names), paste0("cell", 1:20))
  expect_equal(dense(adata), unname(as.matrix(simulate_counts(20, 10)[c(7, 2), ])))
})

test_that("Seurat's counts, metadata and reductions arrive", {
  object <- seurat_object()
  adata <- as_anndata(object)
  expect_equal(dense(adata), unname(as.matrix(simulate_counts())))
  expect_equal(from_pandas(adata$obs), object[[]], ignore_attr = TRUE)
})

test_that("counts are read from slots, never log values", {
  skip_if_not_installed("Seurat")
  object <- Seurat::NormalizeData(seurat_object(), verbose = FALSE)
  expect_equal(dense(as_anndata(object)), unname(as.matrix(simulate_counts())))
  expect_false(isTRUE(all.equal(dense(as_anndata(object, layer = "data")), unname(as.matrix(simulate_counts())))))
})

test_that("split layers of Seurat 5 are joined by cells and features, and stay split", {
  if (!requireNamespace("SeuratObject", quietly = TRUE) || utils::packageVersion("SeuratObject") < "5.0.0") {
    skip("needs SeuratObject 5")
  }
  object <- seurat_object()
  object[["RNA"]] <- split(object[["RNA"]], f = object$batch)
  expect_gt(length(SeuratObject::Layers(object)), 1)
  expect_equal(dense(as_anndata(object)), unname(as.matrix(simulate_counts())))

  one <- SeuratObject::CreateAssay5Object(counts = simulate_counts()[1:40, 1:70])
  two <- SeuratObject::CreateAssay5Object(counts = simulate_counts()[21:60, 71:150])
  merged <- merge(one, two)
  joined <- read_cells(SeuratObject::CreateSeuratObject(merged))$counts
  expect_setequal(rownames(joined), rownames(simulate_counts()))
  expected <- as.matrix(simulate_counts())[rownames(joined), ]
  expected[!rownames(joined) %in% paste0("gene", 1:40), 1:70] <- 0
  expected[!rownames(joined) %in% paste0("gene", 21:60), 71:150] <- 0
  expect_equal(as.matrix(joined), expected, ignore_attr = TRUE)
})

test_that("SingleCellExperiment arrives with its metadata and reductions", {
  object <- sce_object()
  SingleCellExperiment::reducedDim(object, "PCA") <- matrix(1:300 / 7, 150)
  SummarizedExperiment::rowData(object)$symbol <- toupper(rownames(object))
  adata <- as_anndata(object)
  expect_equal(dense(adata), unname(as.matrix(simulate_counts())))
  expect_equal(from_pandas(adata$var)$symbol, toupper(rownames(object)))
  expect_equal(reticulate::py_to_r(adata$obsm[["X_PCA"]]), matrix(1:300 / 7, 150))
})

test_that("errors name what is there, and the nearest match", {
  object <- seurat_object()
  expect_snapshot({
    said(as_anndata(object, assay = "rna"))
    said(as_anndata(sce_object(), layer = "count"))
    said(as_anndata(object, features = c("gene1", "Gene2", "nonsense")))
    said(as_anndata(mtcars))
    said(as_anndata("no_such_file.h5ad"))
  })
  expect_error(as_anndata(object, layer = "count"), "no layer 'count'.*Did you mean 'counts'",
               class = "scelbo_setup_error")
})
