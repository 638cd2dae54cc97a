# Small simulated cells, and what tests share.

skip_without_backend <- function() {
  tryCatch(core(), scelbo_backend_error = function(cnd) skip(paste("no Python backend:", conditionMessage(cnd))))
}

# 150 cells of three types in two batches, 60 genes; genes 1 to 5 mark type "a".
simulate_counts <- function(n = 150, g = 60) {
  withr::with_seed(7, {
    rates <- matrix(stats::rgamma(g, 2, 1), g, n) * rep(stats::rgamma(n, 5, 5), each = g)
    rates[1:5, cell_types(n) == "a"] <- rates[1:5, cell_types(n) == "a"] * 8
    shifted <- intersect(20:30, 1:g) # by batch
    rates[shifted, cell_batches(n) == "y"] <- rates[shifted, cell_batches(n) == "y"] * 2
    counts <- matrix(stats::rpois(g * n, rates), g, n, dimnames = list(paste0("gene", 1:g), paste0("cell", 1:n)))
  })
  as_sparse(counts)
}
cell_types <- function(n) rep(c("a", "b", "c"), length.out = n)
cell_batches <- function(n) rep(c("x", "y"), each = 15, length.out = n)

# Metadata with everything that R's columns may be, and what is missing in each.
odd_metadata <- function(n = 6) {
  frame <- data.frame(
    factor = factor(c("b", "a", NA, "a", "b", "b"), levels = c("b", "a", "unused")),
    ordered = factor(c("lo", "hi", "lo", NA, "hi", "hi"), levels = c("lo", "hi"), ordered = TRUE),
    text = c("x", NA, "\u00e9\u4e2d", "", "NA", "x"),
    all_there = letters[1:6],
    logical = c(TRUE, NA, FALSE, TRUE, NA, FALSE),
    whole = c(1L, NA, -3L, .Machine$integer.max, 0L, 5L),
    number = c(1.5, NA, NaN, Inf, -Inf, 1e-300),
    only_na = rep(NA, 6), only_na_integer = rep(NA_integer_, 6), only_na_text = rep(NA_character_, 6),
    row.names = paste0("c", 1:6), stringsAsFactors = FALSE
  )
  frame[seq_len(n), ]
}

seurat_object <- function(counts = simulate_counts()) {
  skip_if_not_installed("SeuratObject")
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts))
  object$type <- cell_types(ncol(counts))
  object$batch <- cell_batches(ncol(counts))
  object$depth <- log(Matrix::colSums(counts))
  object
}

# Cells with genes, proteins and peaks, and every kind of column.
object_of_all <- function() {
  object <- seurat_object()
  object$donor <- rep(c("p", "q", "r"), each = 50)
  for (assay in c("ADT", "peaks")) {
    counts <- simulate_counts()[1:12, ]
    rownames(counts) <- paste0(assay, 1:12)
    object[[assay]] <- SeuratObject::CreateAssayObject(as_sparse((counts > 0) + 0))
  }
  object
}

sce_object <- function() {
  skip_if_not_installed("SingleCellExperiment")
  counts <- simulate_counts()
  about <- S4Vectors::DataFrame(type = cell_types(ncol(counts)), batch = cell_batches(ncol(counts)))
  SingleCellExperiment::SingleCellExperiment(list(counts = counts), colData = about)
}

# One model for all tests that only ask.
shared <- new.env()
trained_model <- function() {
  skip_without_backend()
  if (is.null(shared$model)) {
    object <- seurat_object()
    shared$model <- train(scvi(object, batch = "batch", n_latent = 4), max_epochs = 200, verbose = FALSE)
  }
  shared$model
}

# What an error says, for a snapshot: the same with every version of rlang.
said <- function(expr) {
  cat(conditionMessage(tryCatch(expr, scelbo_error = identity)))
}

# Code that loads this package in a child R process: tests run from the source, or with an installed package.
load_package <- function() {
  if (!"pkgload" %in% loadedNamespaces() || !pkgload::is_dev_package("scelbo")) return("library(scelbo)")
  paste0("pkgload::load_all(", deparse(pkgload::pkg_path()), ", quiet = TRUE)")
}

child_script <- function(lines, env = parent.frame()) {
  path <- withr::local_tempfile(fileext = ".R", .local_envir = env)
  libraries <- paste0(".libPaths(", paste(deparse(.libPaths()), collapse = ""), ")")
  python <- paste0("Sys.setenv(SCELBO_PYTHON = ", deparse(reticulate::py_config()$python), ")")
  writeLines(c(libraries, python, load_package(), lines), path)
  path
}

# Another value for a name of the package, until the test ends. (testthat's own is younger than Debian 12's.)
local_value <- function(name, value, env = parent.frame()) {
  namespace <- asNamespace("scelbo")
  before <- get(name, namespace)
  set <- function(value) {
    unlockBinding(name, namespace)
    assign(name, value, namespace)
    lockBinding(name, namespace)
  }
  set(value)
  withr::defer(set(before), envir = env)
}

# Runs lines of Python in a process of its own; `keep(name, values)` writes numbers whole, which the answer reads by their names.
from_python <- function(lines, ..., names) {
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata", paste0("sys.path.insert(0, ", deparse(core_path()), ")"), "import scelbo",
    "keep = lambda name, x: np.asarray(x, 'float64').ravel().tofile(f'{sys.argv[1]}/{name}')", lines
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, out, ...)), stdout = FALSE), 0)
  sapply(names, function(name) readBin(file.path(out, name), "double", 1e6), simplify = FALSE)
}

rscript <- function() file.path(R.home("bin"), "Rscript")
