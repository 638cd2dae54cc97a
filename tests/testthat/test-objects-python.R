skip_without_backend()

test_that("what scanpy left opens here, graphs and all, and goes back as it was", {
  object <- read_h5ad(scanpy_cells())
  expect_setequal(names(object@graphs), c("connectivities", "distances", "dense"))
  expect_setequal(names(object@reductions), c("pca", "spatial"))
  expect_length(SeuratObject::VariableFeatures(object), 20)
  expect_equal(dim(object[["raw"]]), c(50, 80))
  expect_equal(dim(SeuratObject::Loadings(object, "pca")), c(45, 5))
  expect_named(SeuratObject::Misc(object, "rank_genes_groups")$names, c("b", "a"))
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path)
  compare_files(scanpy_cells(), path)
})

test_that("the same in a SingleCellExperiment", {
  skip_if_not_installed("SingleCellExperiment")
  object <- read_h5ad(scanpy_cells(), "sce")
  expect_setequal(SummarizedExperiment::assayNames(object), c("counts", "logcounts", "spliced"))
  expect_setequal(SingleCellExperiment::altExpNames(object), c("protein", "raw"))
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path)
  compare_files(scanpy_cells(), path)
})

test_that("scanpy and Python's models take what R wrote", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(full_seurat(), path)
  script <- withr::local_tempfile(lines = c(
    "import sys, scanpy as sc",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import TOTALVI",
    "a = sc.read_h5ad(sys.argv[1])",
    "sc.tl.leiden(a, obsp='RNA_snn', flavor='igraph', n_iterations=2, directed=False)",
    "sc.tl.rank_genes_groups(a, 'factor_too', layer='data', method='t-test')",
    "sc.pp.neighbors(a, use_rep='X_pca', n_neighbors=6, method='gauss')",
    "sc.pl.pca(a, color=['factor_too', 'gene1'], show=False)",
    "TOTALVI.setup_anndata(a, protein_expression_obsm_key='ADT'); TOTALVI(a, n_latent=2, n_hidden=8).get_latent_representation",
    "a[:30].copy().write_h5ad(sys.argv[2])"
  ))
  half <- withr::local_tempfile(fileext = ".h5ad")
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, path, half))), 0)
  object <- read_h5ad(half)
  expect_equal(ncol(object), 30)
  expect_true(all(c("RNA_snn", "connectivities", "distances") %in% names(object@graphs)))
  expect_equal(read_cells(object, "ADT", "data")$counts, read_cells(full_seurat(), "ADT", "data")$counts[, 1:30])
  expect_s3_class(object$leiden, "factor")
  expect_length(object@neighbors, 0) # of which some are gone: what is left is a graph
  expect_true("nearest" %in% names(object@graphs))
})

test_that("assays may be modalities of a MuData, and come back", {
  skip_if(makes_v5(), "compared slot by slot in Seurat 4")
  object <- full_seurat()
  mdata <- as_mudata(object)
  expect_equal(as.character(unlist(reticulate::py_to_r(bridge()$modalities(mdata)))), c("RNA", "ADT"))
  expect_equal(reticulate::py_to_r(mdata$mod[["ADT"]]$X$toarray()), t(as.matrix(read_cells(object, "ADT")$counts)), ignore_attr = TRUE)
  expect_same_seurat(as_seurat(mdata), object)
  path <- withr::local_tempfile(fileext = ".h5mu")
  write_h5mu(object, path)
  expect_same_seurat(as_seurat(path), object)
  expect_error(as_mudata(simulate_counts()), "Give a Seurat object", class = "scelbo_setup_error")
})

test_that("a MuData whose modalities have different cells opens", {
  skip_if_not_installed("SingleCellExperiment")
  tags <- simulate_counts(30, 5)
  rownames(tags) <- paste0("tag", 1:5)
  parts <- list(rna = as_anndata(simulate_counts(20, 10)), tags = as_anndata(tags))
  object <- as_sce(with_python(bridge()$mudata(as_dict(parts), to_pandas(bare_frame(paste0("cell", 1:30))))))
  expect_equal(dim(object), c(10, 30))
  expect_equal(Matrix::colSums(SummarizedExperiment::assay(object))[21:30], rep(0, 10), ignore_attr = TRUE)
  expect_equal(SummarizedExperiment::assay(SingleCellExperiment::altExp(object, "tags")), tags)
})
