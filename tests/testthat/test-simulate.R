test_that("simulated cells come as any object", {
  skip_without_backend()
  skip_if_not_installed("SeuratObject")
  so <- simulate_cells("cite", n_cells = 60, n_genes = 30, n_proteins = 4)
  expect_equal(dim(so), c(30, 60))
  expect_setequal(SeuratObject::Assays(so), c("RNA", "protein_expression"))
  expect_true(all(c("batch", "cell_type", "donor") %in% names(so[[]])))
  both <- simulate_cells("spots", n_cells = 60, n_genes = 30, n_spots = 20)
  expect_equal(lapply(both, dim), list(cells = c(30L, 60L), spots = c(30L, 20L)))
  expect_true(is_anndata(simulate_cells(as = "anndata", n_cells = 20, n_genes = 10)))
  skip_if_not_installed("SingleCellExperiment")
  sce <- simulate_cells("multiome", "sce", n_cells = 60, n_genes = 30, n_regions = 40)
  expect_equal(SingleCellExperiment::altExpNames(sce), "peaks")
})

test_that("the same seed draws the same cells", {
  skip_without_backend()
  skip_if_not_installed("SingleCellExperiment")
  draw <- function(seed) as.matrix(SingleCellExperiment::counts(simulate_cells(as = "sce", n_cells = 20, n_genes = 10, seed = seed)))
  expect_identical(draw(1), draw(1))
  expect_false(identical(draw(1), draw(2)))
})

test_that("what cannot be simulated is told, with the nearest match", {
  skip_without_backend()
  expect_error(simulate_cells("multiom"), "Did you mean 'multiome'", class = "scelbo_argument_error")
  expect_error(simulate_cells(as = "sec"), "Did you mean 'sce'", class = "scelbo_argument_error")
  expect_error(simulate_cells(n_cels = 5), "n_cels", class = "scelbo_argument_error")
})
