# Counts on disk: the same answers as in memory.

skip_without_backend()
skip_if_not_installed("SingleCellExperiment")
skip_if_not_installed("HDF5Array")

# The counts as 10x's files have them. (Once: Debian 12's HDF5Array opens no second such file.)
tenx_matrix <- function() {
  if (is.null(shared$tenx)) {
    counts <- simulate_counts()
    path <- tempfile(fileext = ".h5")
    file <- reticulate::import("h5py", convert = FALSE)$File(path, "w")
    parts <- list(data = as.integer(counts@x), indices = counts@i, indptr = counts@p, shape = dim(counts))
    for (name in names(parts)) file$create_dataset(paste0("matrix/", name), data = as.array(parts[[name]]))
    file$close()
    shared$tenx <- HDF5Array::TENxMatrix(path, "matrix")
    dimnames(shared$tenx) <- dimnames(counts)
  }
  shared$tenx
}

sce_on_disk <- function(counts) {
  object <- sce_object()
  SummarizedExperiment::assay(object, "counts", withDimnames = FALSE) <- counts
  object
}

latent <- function(object, ...) {
  model <- train(scvi(object, batch = "batch", n_latent = 3, n_hidden = 16, ...), max_epochs = 2, seed = 1, verbose = FALSE)
  get_latent_representation(model)
}

test_that("counts in a 10x file are read where they are", {
  on_disk <- sce_on_disk(tenx_matrix())
  expect_true(stays_on_disk(SummarizedExperiment::assay(on_disk)))
  expect_no_message(here <- latent(on_disk), class = "scelbo_written")
  expect_equal(here, latent(sce_object()))
  some <- rownames(on_disk)[c(9, 2:7, 30:50)]
  expect_equal(latent(on_disk, features = some), latent(sce_object(), features = some))
})

test_that("a model on disk is asked like any other, also about other cells", {
  on_disk <- sce_on_disk(tenx_matrix())
  some <- rownames(on_disk)[11:40]
  ask <- function(object) {
    model <- train(scvi(object, batch = "batch", n_latent = 3, features = some), max_epochs = 2, seed = 1, verbose = FALSE)
    list(
      get_latent_representation(model, on_disk[, 40:1]), get_normalized_expression(model, features = some[4:6]),
      differential_expression(model, group_by = cell_types(150), group1 = "a", seed = 1),
      SingleCellExperiment::reducedDim(write_back(model, object), "SCVI"), model$features,
      get_latent_representation(minify(model))
    )
  }
  expect_equal(suppressMessages(ask(on_disk)), suppressMessages(ask(sce_object())))
})

test_that("what cannot be read where it is is written once, and a message says where", {
  counts <- simulate_counts()
  dense <- HDF5Array::writeHDF5Array(as.matrix(counts), with.dimnames = TRUE)
  for (x in list(dense, tenx_matrix() * 1)) {
    expect_message(here <- latent(sce_on_disk(x)), "were written to a file of .*removed when R ends", class = "scelbo_written")
    expect_equal(here, latent(sce_object()))
  }
  local_value("cell_blocks", function(x) list(1:100, 101:ncol(x)))
  expect_equal(suppressMessages(latent(sce_on_disk(dense), features = rownames(counts)[40:11])),
               latent(sce_object(), features = rownames(counts)[40:11]))
})

test_that("blocks cover all cells once", {
  x <- tenx_matrix()
  before <- DelayedArray::getAutoBlockSize()
  withr::defer(suppressMessages(DelayedArray::setAutoBlockSize(before)))
  suppressMessages(DelayedArray::setAutoBlockSize(8 * 60 * 40))
  blocks <- cell_blocks(x)
  expect_gt(length(blocks), 1)
  expect_equal(unlist(blocks), 1:150, ignore_attr = TRUE)
})

test_that("delayed arrays in memory, and counts beside those of genes, are read", {
  skip_if_not_installed("DelayedArray")
  expect_false(stays_on_disk(DelayedArray::DelayedArray(simulate_counts())))
  expect_false(stays_on_disk(simulate_counts()))
  expect_s4_class(read_modality(local({
    object <- sce_object()
    SingleCellExperiment::altExp(object, "adt") <- sce_on_disk(tenx_matrix())
    object
  }), "adt", "counts", NULL), "dgCMatrix")
  expect_equal(as.matrix(as_sparse(tenx_matrix())), as.matrix(simulate_counts()))
  adata <- as_anndata(sce_on_disk(tenx_matrix()))
  expect_false(reticulate::py_to_r(bridge()$stays_on_disk(adata)))
})

test_that("h5ad files stay on disk where they are asked to", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(sce_object(), path)
  backed <- read_backed(path)
  expect_true(reticulate::py_to_r(bridge()$stays_on_disk(backed)))
  expect_false(reticulate::py_to_r(bridge()$stays_on_disk(python_anndata(path))))
  some <- paste0("gene", c(9, 2:7, 30:50))
  expect_equal(latent(backed, features = some), latent(path, features = some))
  model <- train(scvi(backed, batch = "batch", features = some), max_epochs = 1, verbose = FALSE)
  expect_equal(get_latent_representation(model, backed, cells = 9:3), get_latent_representation(model, path, cells = 9:3))
  expect_equal(dim(as_sce(backed)), c(60L, 150L))
  expect_true(check_data(backed, batch = "batch", features = some, forecast = FALSE)$ok)
  expect_error(scvi(backed, features = c("gene1", "Gene2")), "'gene2'", class = "scelbo_setup_error")
  expect_error(read_backed("nowhere.h5ad"), "no file", class = "scelbo_setup_error")
})

test_that("a file with more counts than memory should hold is left on disk, and a message says so", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(sce_object(), path)
  disk <- core()$data$disk
  before <- disk$memory
  withr::defer(reticulate::py_set_attr(disk, "memory", before))
  reticulate::py_set_attr(disk, "memory", reticulate::py_eval("lambda: 1.0", convert = FALSE))
  expect_message(adata <- python_anndata(path), "stay in .*quarter of the memory", class = "scelbo_on_disk")
  expect_true(reticulate::py_to_r(bridge()$stays_on_disk(adata)))
  expect_s4_class(as_sce(path), "SingleCellExperiment")
})

test_that("BPCells' matrices stay on disk", {
  skip_if_not_installed("BPCells")
  counts <- simulate_counts()
  folder <- withr::local_tempfile()
  x <- BPCells::write_matrix_dir(methods::as(counts, "IterableMatrix"), folder)
  expect_true(stays_on_disk(x))
  expect_false(stays_on_disk(methods::as(counts, "IterableMatrix")))
  expect_message(here <- latent(sce_on_disk(x)), class = "scelbo_written")
  expect_equal(here, latent(sce_object()))
})
