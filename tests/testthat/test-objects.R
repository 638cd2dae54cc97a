skip_without_backend()

test_that("a Seurat object comes back as it was, from memory and from a file", {
  skip_if(makes_v5(), "compared slot by slot in Seurat 4; see test-seurat5.R")
  object <- full_seurat()
  expect_same_seurat(as_seurat(as_anndata(object)), object)
  expect_same_seurat(through_file(object, "seurat"), object)
})

test_that("what is X may be chosen, and nothing is lost by it", {
  skip_if(makes_v5(), "compared slot by slot in Seurat 4; see test-seurat5.R")
  object <- full_seurat()
  adata <- as_anndata(object, layer = "data")
  expect_equal(reticulate::py_to_r(adata$X$toarray()), t(as.matrix(SeuratObject::GetAssayData(object, "data"))), ignore_attr = TRUE)
  back <- through_file(object, "seurat", layer = "data")
  expect_equal(SeuratObject::Misc(back, "anndata")$places$RNA[["data"]], "X") # where it goes by itself from now on
  back@misc$anndata <- NULL
  expect_same_seurat(back, object)
  expect_error(as_anndata(object, layer = "dat"), "Did you mean 'data'", class = "scelbo_setup_error")
})

test_that("one assay alone may be wanted, and some of its features", {
  object <- full_seurat()
  alone <- as_seurat(as_anndata(object, assay = "ADT"))
  expect_equal(SeuratObject::Assays(alone), "ADT")
  expect_equal(read_cells(alone, "ADT", "data")$counts, read_cells(object, "ADT", "data")$counts)
  some <- as_anndata(object, features = c("gene9", "gene1"))
  expect_equal(names_of(some$var_names), c("gene9", "gene1"))
  expect_equal(SeuratObject::Assays(suppressWarnings(as_seurat(some))), c("RNA", "ADT")) # Seurat 5 has no layer of one feature
})

test_that("Python finds what it looks for", {
  adata <- as_anndata(full_seurat())
  object <- full_seurat()
  expect_setequal(obsm_in(adata), c("X_pca", "ADT", "ADT_data", "RNA_scale.data"))
  expect_equal(reticulate::py_to_r(adata$varm[["PCs"]])[rownames(object) %in% SeuratObject::VariableFeatures(object), ],
               SeuratObject::Loadings(object, "pca")[intersect(rownames(object), SeuratObject::VariableFeatures(object)), ],
               ignore_attr = TRUE, tolerance = 1e-6)
  variance <- reticulate::py_to_r(adata$uns[["pca"]][["variance"]])
  expect_equal(as.vector(variance), SeuratObject::Stdev(object, "pca")^2)
  expect_equal(sum(from_pandas(adata$var)$highly_variable), 20)
  snn <- as.matrix(reticulate::py_to_r(adata$obsp[["RNA_snn"]]$toarray()))
  expect_equal(snn, as.matrix(as(object[["RNA_snn"]], "dgCMatrix")), ignore_attr = TRUE)
  nearest <- as.matrix(reticulate::py_to_r(adata$obsp[["nearest"]]$toarray())) # rows are cells, not columns
  expect_equal(nearest[1, object[["nearest"]]@nn.idx[1, ]], object[["nearest"]]@nn.dist[1, ])
})

expect_same_sce <- function(back, object) {
  parts <- function(x) {
    named <- SingleCellExperiment::altExpNames(x)
    beside <- lapply(setNames(named, named), SingleCellExperiment::altExp, x = x)
    list(assays = as.list(SummarizedExperiment::assays(x)), obs = SummarizedExperiment::colData(x),
         ranges = SummarizedExperiment::rowRanges(x), reductions = as.list(SingleCellExperiment::reducedDims(x)),
         pairs = as.list(SingleCellExperiment::colPairs(x)), like = as.list(SingleCellExperiment::rowPairs(x)),
         within = lapply(beside, function(x) if (methods::is(x, "SingleCellExperiment")) as.list(SingleCellExperiment::reducedDims(x))),
         main = SingleCellExperiment::mainExpName(x), metadata = S4Vectors::metadata(x), kinds = lapply(beside, class),
         tables = lapply(beside, function(x) as.list(SummarizedExperiment::assays(x))),
         rows = lapply(beside, SummarizedExperiment::rowData), columns = lapply(beside, SummarizedExperiment::colData))
  }
  now <- parts(back)
  before <- parts(object)
  for (part in names(before)) expect_identical(now[[part]], before[[part]], info = part)
}

test_that("a SingleCellExperiment comes back as it was, from memory and from a file", {
  skip_if_not_installed("SingleCellExperiment")
  object <- full_sce()
  expect_same_sce(as_sce(as_anndata(object)), object)
  expect_same_sce(through_file(object, "sce"), object)
  skip_if_not_installed("GenomicRanges")
  ranges <- GenomicRanges::GRanges("chr1", IRanges::IRanges(1:40, width = 10), strand = "+")
  names(ranges) <- rownames(object)
  S4Vectors::mcols(ranges) <- SummarizedExperiment::rowData(object)
  SummarizedExperiment::rowRanges(object) <- ranges
  expect_same_sce(through_file(object, "sce"), object)
  expect_equal(from_pandas(as_anndata(object)$var)$start, 1:40)
})

test_that("each class reads what the other wrote", {
  skip_if_not_installed("SingleCellExperiment")
  sce <- through_file(full_seurat(), "sce")
  expect_setequal(SummarizedExperiment::assayNames(sce), c("counts", "logcounts"))
  expect_setequal(SingleCellExperiment::altExpNames(sce), c("ADT", "RNA_scale.data"))
  expect_setequal(SingleCellExperiment::colPairNames(sce), c("RNA_nn", "RNA_snn", "nearest", "nearest_ranks"))
  object <- through_file(full_sce(), "seurat")
  expect_equal(SeuratObject::DefaultAssay(object), "gene")
  expect_equal(read_cells(object, "gene", "data")$counts@x, SummarizedExperiment::assay(full_sce(), "logcounts")@x)
  expect_setequal(names(object@graphs), c("nearest", "bare"))
  expect_equal(SeuratObject::DefaultAssay(object[["peaks_LSI"]]), "peaks")
  expect_equal(read_cells(object, "peaks")$counts@x, SummarizedExperiment::assay(SingleCellExperiment::altExp(full_sce(), "peaks"))@x)
})

test_that("cells and features without names stay so", {
  skip_if_not_installed("SingleCellExperiment")
  back <- as_sce(as_anndata(SingleCellExperiment::SingleCellExperiment(list(counts = matrix(1:6, 2)))))
  expect_null(dimnames(back))
  expect_identical(unname(SummarizedExperiment::assay(back)), matrix(1:6, 2))
})

test_that("what AnnData cannot hold is named", {
  object <- seurat_object()
  SeuratObject::Misc(object, "fine") <- 1
  SeuratObject::Misc(object, "steps") <- list(how = function(x) x)
  expect_warning(adata <- as_anndata(object), "'steps/how'", class = "scelbo_data_warning")
  expect_equal(SeuratObject::Misc(as_seurat(adata), "fine"), 1)
})

test_that("peaks beside genes are an assay, and go back beside them", {
  adata <- core()$data$simulate$multiome(30L, 20L, 25L, 3L)
  object <- as_seurat(adata)
  expect_equal(SeuratObject::Assays(object), c("RNA", "peaks", "protein_expression"))
  back <- as_anndata(object)
  expect_identical(names_of(back$var_names), names_of(adata$var_names))
  expect_equal(reticulate::py_to_r(back$X$toarray()), reticulate::py_to_r(adata$X$toarray()))
  expect_equal(as.character(from_pandas(back$var)$feature_types), as.character(from_pandas(adata$var)$feature_types))
})

test_that("X without counts is no counts, unless told", {
  values <- as_anndata(simulate_counts(9, 9) / 2)
  expect_warning(object <- as_sce(values), "no counts", class = "scelbo_data_warning")
  expect_equal(SummarizedExperiment::assayNames(object), "logcounts")
  expect_equal(SummarizedExperiment::assayNames(as_sce(values, layer = "X")), "counts")
  expect_error(read_h5ad("x.h5ad", "seurrat"), "Did you mean 'seurat'", class = "scelbo_argument_error")
})
