# Each walk-through, run from its first chunk to its last, in a process of its own, on a few cells.
skip_without_backend()
skip_if_not_installed("Seurat")
skip_if_not_installed("ggplot2")
skip_if_not_installed("knitr")

pages <- list.files(test_path("../../vignettes"), "\\.Rmd$", full.names = TRUE)
if (!length(pages)) skip("the sources of the vignettes are not here")

# 141 cells of three types in two batches, and regions of which each type has its own.
few_cells <- function(path) {
  about <- list(types = c("B", "Mono", "CD4 T"), cells = 141, regions = 360)
  type <- rep_len(about$types, about$cells)
  own <- rep_len(c(about$types, "none", "none", "none"), about$regions)
  counts <- withr::with_seed(3, {
    open <- ifelse(outer(own, type, "=="), 0.75, 0.3)
    matrix(stats::rbinom(length(open), 1, open), about$regions)
  })
  start <- 22380000 + 1000 * seq_len(about$regions)
  dimnames(counts) <- list(sprintf("chr22:%d-%d", start, start + 500), paste0("cell", seq_len(about$cells)))
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(as_sparse(counts)))
  object$cell_type <- type
  object$batch <- rep(c("x", "y"), each = 15, length.out = about$cells)
  write_h5ad(object, path)
}

# What each page is made from, a line that it prints, and how many figures it has at least.
expected <- list(
  integration = list(from = "Made from **simulated cells**", says = "^#> scvi +0[.][0-9]+ +0[.][0-9]+$", figures = 4),
  annotation = list(from = "Made from **simulated cells**", says = "^#> +covered", figures = 4),
  differential = list(from = "Made from **simulated cells**", says = "^#> +group called called_of_nothing$", figures = 7),
  mapping = list(from = "Made from **simulated cells**", says = "^#> +agree ", figures = 4),
  atac = list(from = "Made from the cells in `few.h5ad`", says = "^#> PEAKVI trained for", figures = 5),
  citeseq = list(from = "Made from **simulated cells**", says = "all 10 in batch 'batch1'", figures = 5),
  multiome = list(from = "Made from **simulated cells**", says = "^#> +RNA +0 +[0-9]+$", figures = 2),
  spatial_imputation = list(from = "Made from **simulated cells**", says = "^#> GIMVI trained for 2 epochs", figures = 4),
  spatial = list(from = "Made from **simulated cells and spots**", says = "^#> DestVI trained for 2 epochs", figures = 5),
  new_model = list(from = "Made from **real cells**", says = "^#> \\[1\\] TRUE$", figures = 1),
  rna_models = list(from = "Made from **real cells**", says = "^#> +TRUE +[0-9]+ +[0-9]+$", figures = 5)
)

test_that("every page is looked at", {
  expect_setequal(sub("\\.Rmd$", "", basename(pages)), names(expected))
})

for (page in pages) {
  test_that(paste(basename(page), "runs"), {
    folder <- withr::local_tempdir()
    few_cells(file.path(folder, "few.h5ad"))
    script <- child_script(c(
      paste0("setwd(", deparse(folder), ")"),
      "Sys.setenv(SCELBO_ATAC = normalizePath(\"few.h5ad\"), SCELBO_QUICK = \"yes\", SCELBO_CITE = \"\")",
      "Sys.setenv(SCELBO_MULTIOME = \"\", SCELBO_SPATIAL = \"\", SCELBO_REFERENCE = \"\")",
      "Sys.setenv(SCELBO_SPOTS = \"\", SCELBO_CELLS = \"\", SCELBO_RNA = \"\", SCELBO_ATLAS = \"\", SCELBO_QUERY = \"\")",
      paste0("knitr::knit(", deparse(normalizePath(page)), ", \"page.md\", quiet = TRUE)")
    ))
    said <- system2(rscript(), c("--vanilla", script), stdout = TRUE, stderr = TRUE)
    expect(is.null(attr(said, "status")), paste(c("It stopped:", utils::tail(said, 20)), collapse = "\n"))
    made <- readLines(file.path(folder, "page.md"))
    wanted <- expected[[sub("\\.Rmd$", "", basename(page))]]
    expect_true(any(grepl(wanted$from, made, fixed = TRUE)))
    expect_true(any(grepl(wanted$says, made)))
    expect_identical(grep("^#> (Error|Warning)", made, value = TRUE), character())
    expect_gte(length(list.files(folder, "\\.png$", recursive = TRUE)), wanted$figures)
  })
}
