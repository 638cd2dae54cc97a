skip_without_backend()

# 60 other cells, 40 of them in a batch that the reference has not seen; `genes` are the rows that were measured.
query_object <- function(genes = 1:60) {
  counts <- simulate_counts()[genes, 1:60]
  colnames(counts) <- paste0("new", 1:60)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts))
  object$batch <- rep(c("x", "z", "z"), 20)
  object
}

test_that("a query leaves its reference as it was, and learns", {
  reference <- trained_model()
  z <- get_latent_representation(reference)
  model <- load_query_data(reference, query_object())
  start <- get_latent_representation(model)
  expect_identical(rownames(start), paste0("new", 1:60))
  train(model, max_epochs = 3, verbose = FALSE)
  expect_false(isTRUE(all.equal(get_latent_representation(model), start)))
  expect_identical(get_latent_representation(model, object = seurat_object()),
                   get_latent_representation(reference, object = seurat_object()))
  expect_identical(get_latent_representation(reference), z)
  free <- train(load_query_data(reference, query_object(), unfrozen = TRUE), max_epochs = 3, verbose = FALSE)
  expect_false(isTRUE(all.equal(get_latent_representation(free, object = seurat_object()), z)))
})

test_that("R and Python give a query the same latents at the same seed", {
  paths <- replicate(2, withr::local_tempfile(fileext = ".h5ad", .local_envir = parent.frame()))
  write_h5ad(seurat_object(), paths[[1]])
  write_h5ad(query_object(8:60), paths[[2]])
  out <- withr::local_tempfile()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import SCVI",
    "adata, query = map(anndata.read_h5ad, sys.argv[1:3])",
    "adata.layers['raw'], adata.X = adata.X, None",
    "query.layers['raw'], query.X = query.X, None",
    "SCVI.setup_anndata(adata, layer='raw', batch_key='batch')",
    "model = SCVI(adata, n_latent=3)",
    "model.train(max_epochs=5, seed=11, progress=False)",
    "model.save(sys.argv[3] + '/model')",
    "model = SCVI.load_query_data(query, model)",
    "model.train(max_epochs=5, seed=12, progress=False)",
    "np.savetxt(sys.argv[3] + '/latent', model.get_latent_representation(), fmt='%.9g')"
  ))
  dir.create(out)
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, paths, out)), stdout = FALSE), 0)
  expected <- unname(as.matrix(utils::read.table(file.path(out, "latent"))))
  latent <- function(reference, query) {
    model <- train(load_query_data(reference, query, verbose = FALSE), max_epochs = 5, seed = 12, verbose = FALSE)
    unname(get_latent_representation(model))
  }
  reference <- train(scvi(seurat_object(), "batch", n_latent = 3), max_epochs = 5, seed = 11, verbose = FALSE)
  expect_equal(latent(reference, query_object(8:60)), expected, tolerance = 1e-6)
  # Python's folder keeps its counts in a layer, R's objects know none of that name
  expect_equal(latent(file.path(out, "model"), query_object(8:60)), expected, tolerance = 1e-6)
  expect_equal(latent(reference, paths[[2]]), expected, tolerance = 1e-6)
})

test_that("features that were not measured are counted, and never asked for again", {
  reference <- trained_model()
  expect_message(model <- load_query_data(reference, query_object(8:60)), "7 of 60 features were not measured")
  expect_silent(load_query_data(reference, query_object(8:60), verbose = FALSE))
  expect_output(print(model), "7 of them not measured")
  z <- get_latent_representation(model)
  expect_equal(get_latent_representation(model, object = query_object(60:8)), z, tolerance = 1e-5)
  expect_error(get_latent_representation(model, object = query_object(8:50)), "gene51", class = "scelbo_setup_error")
  expect_error(load_query_data(reference, query_object(40:60)), "39 of the model's 60 features",
               class = "scelbo_data_error")

  back <- unserialize(serialize(model, NULL)) # before any training
  expect_equal(get_latent_representation(back, object = query_object(8:60)), z, tolerance = 1e-6)
  folder <- withr::local_tempdir()
  save_model(train(model, max_epochs = 1, verbose = FALSE), folder, overwrite = TRUE)
  expect_equal(get_latent_representation(load_model(folder, object = query_object(8:60))),
               get_latent_representation(model), tolerance = 1e-6)
})

test_that("what a query lacks is told with the nearest match", {
  object <- query_object()
  object$Batch <- object$batch
  object$batch <- NULL
  expect_error(load_query_data(trained_model(), object), "'batch'. Did you mean 'Batch'",
               class = "scelbo_setup_error")
  expect_error(load_query_data(scvi(seurat_object()), object), "not been trained", class = "scelbo_training_error")
  expect_error(load_query_data(seurat_object(), object), "no scelbo model", class = "scelbo_setup_error")
  expect_error(load_query_data(trained_model(), object, assay = "rna"), "Did you mean 'RNA'",
               class = "scelbo_setup_error")
  expect_error(get_elbo(trained_model(), object = query_object()), "load_query_data\\(model, object\\)|not seen: z",
               class = "scelbo_data_error")
})

test_that("MapQuerySCVI and mapQuerySCVI go from object to object", {
  atlas <- write_back(trained_model(), seurat_object())
  before <- query_object()
  untouched <- serialize(before, NULL)
  after <- MapQuerySCVI(before, atlas, max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_identical(after[[]][names(before[[]])], before[[]])
  z <- get_latent_representation(train(load_query_data(trained_model(), before), max_epochs = 2, verbose = FALSE))
  expect_equal(SeuratObject::Embeddings(after, "scvi"), z)
  expect_equal(nrow(FindMarkersSCVI(after, "z", group.by = "batch")), 60)
  both <- merge(atlas, after, merge.dr = "scvi")
  expect_equal(dim(SeuratObject::Embeddings(both, "scvi")), c(210, 4))

  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = read_cells(before)$counts), colData = before[[]])
  expect_message(mapped <- mapQuerySCVI(sce, atlas, max_epochs = 2, freeze_dropout = TRUE), "trained for 2 epochs")
  expect_equal(dim(SingleCellExperiment::reducedDim(mapped, "SCVI")), c(60, 4))
})
