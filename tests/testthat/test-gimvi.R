skip_without_backend()

# A panel of 25 of the simulated genes, of 70 other cells.
spatial_object <- function() {
  counts <- simulate_counts(220)[c(1:5, 31:50), 151:220]
  colnames(counts) <- paste0("spot", 1:70)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts, assay = "panel"))
  object$type <- cell_types(220)[151:220]
  object
}

fit_gimvi <- function(object, spatial, ..., max_epochs = 2) {
  train(gimvi(object, spatial, ..., n_latent = 4), max_epochs = max_epochs, batch_size = 64, seed = 1, verbose = FALSE)
}
spatial_model <- function() {
  if (is.null(shared$spatial)) shared$spatial <- fit_gimvi(seurat_object(), spatial_object(), max_epochs = 20)
  shared$spatial
}

test_that("RunGIMVI adds a reduction, imputed genes and the model to the spatial cells, and changes nothing else", {
  before <- spatial_object()
  untouched <- serialize(before, NULL)
  after <- RunGIMVI(before, seurat_object(), c("gene6", "gene51"), n_latent = 4, batch_size = 64, seed = 1,
                    max_epochs = 20, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_identical(after[["panel"]], before[["panel"]])
  expect_equal(dim(after[["gimvi"]]), c(70, 4))
  expect_equal(dimnames(after[["gimvi_imputed"]]), list(c("gene6", "gene51"), colnames(before)))
  model <- get_model(after)
  z <- get_latent_representation(spatial_model())
  expect_equal(rownames(z), c(colnames(seurat_object()), colnames(before)))
  expect_equal(SeuratObject::Embeddings(after, "gimvi"), z[151:220, ], tolerance = 1e-5)
  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), z[151:220, ], tolerance = 1e-5)
  reference <- write_back(model, seurat_object())
  expect_equal(SeuratObject::Embeddings(reference, "gimvi"), z[1:150, ], tolerance = 1e-5)
})

test_that("R and Python give the same figures at the same seed", {
  paths <- replicate(2, withr::local_tempfile(fileext = ".h5ad", .local_envir = parent.frame()))
  write_h5ad(seurat_object(), paths[[1]])
  write_h5ad(spatial_object(), paths[[2]])
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import GIMVI",
    "seq, spatial = map(anndata.read_h5ad, sys.argv[1:3])",
    "GIMVI.setup_anndata(seq)",
    "GIMVI.setup_anndata(spatial)",
    "model = GIMVI(seq, spatial, n_latent=4)",
    "model.train(max_epochs=20, seed=1, batch_size=64, progress=False)",
    "keep = lambda name, x: np.savetxt(f'{sys.argv[3]}/{name}', np.asarray(x), fmt='%.9g')",
    "keep('latent', np.concatenate(model.get_latent_representation()))",
    "found = model.impute(['gene60', 'gene7'], seed=2)",
    "[keep(name, getattr(found, name)) for name in found._fields]"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, paths, out)), stdout = FALSE), 0)
  expected <- function(name) unname(as.matrix(utils::read.table(file.path(out, name))))
  model <- spatial_model()
  expect_equal(unname(get_latent_representation(model)), expected("latent"), tolerance = 1e-5)
  expect_equal(unname(get_latent_representation(model, cells = c(1, 151))), expected("latent")[c(1, 151), ],
               tolerance = 1e-5)
  found <- impute(model, c("gene60", "gene7"), seed = 2)
  expect_equal(dimnames(found$mean), list(c("gene60", "gene7"), colnames(spatial_object())))
  for (part in names(found)) expect_equal(unname(t(found[[part]])), expected(part), tolerance = 1e-5, info = part)
  expect_equal(impute(model, c("gene60", "gene7"), spatial_object(), seed = 2), found, tolerance = 1e-5)
  from_paths <- fit_gimvi(paths[[1]], paths[[2]], max_epochs = 20)
  expect_equal(unname(get_latent_representation(from_paths)), expected("latent"), tolerance = 1e-5)
})

test_that("genes are imputed that the panel lacks", {
  model <- spatial_model()
  found <- impute(model, n_samples = 5)
  expect_equal(rownames(found$mean), setdiff(paste0("gene", 1:60), rownames(spatial_object())))
  expect_true(all(found$lower <= found$upper))
  expect_equal(dim(impute(model, "gene6", cells = c("spot9", "spot3"), n_samples = 5)$std), c(1, 2))
  expect_error(impute(model, "gene61"), "Did you mean 'gene", class = "scelbo_setup_error")
  expect_error(impute(trained_model(), "gene6"), "has no impute", class = "scelbo_argument_error")
  expect_output(print(model), "220 cells x 60 features")
  reference <- seurat_object()
  table <- differential_expression(model, cells1 = 1:30, cells2 = 31:60)
  expect_equal(nrow(table), 60)
  SeuratObject::VariableFeatures(reference) <- paste0("gene", 1:20)
  expect_setequal(gimvi(reference, spatial_object())$features, paste0("gene", c(1:20, 31:50)))
})

test_that("other objects and a folder are as good", {
  z <- get_latent_representation(spatial_model())
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = read_cells(spatial_object())$counts))
  after <- runGIMVI(sce, sce_object(), impute = "gene6", n_latent = 4, batch_size = 64, seed = 1, max_epochs = 20,
                    verbose = FALSE)
  expect_equal(SingleCellExperiment::reducedDim(after, "GIMVI"), z[151:220, ], tolerance = 1e-5, ignore_attr = TRUE)
  expect_equal(dim(SingleCellExperiment::altExp(after, "gimvi_imputed")), c(1, 70))
  folder <- withr::local_tempdir()
  save_model(spatial_model(), folder, overwrite = TRUE)
  model <- load_model(folder)
  expect_equal(get_latent_representation(model, seurat_object()), z[1:150, ], tolerance = 1e-5)
  expect_equal(get_latent_representation(model, spatial_object()), z[151:220, ], tolerance = 1e-5)
})

test_that("batches are each data set's own, and what does not fit is told", {
  spatial <- spatial_object()
  spatial$slice <- rep(c("s1", "s2"), 35)
  model <- gimvi(seurat_object(), spatial, batch = "batch", spatial_batch = "slice")
  batches <- unlist(reticulate::py_to_r(model$python$setup$categories[["batch"]]))
  expect_equal(batches, c("x", "y", "s1", "s2"))
  expect_error(gimvi(seurat_object(), spatial, spatial_batch = "slic"), "Did you mean 'slice'",
               class = "scelbo_setup_error")
  few <- seurat_object()[-3, ]
  expect_error(gimvi(few, spatial), "1 of the panel's 25 genes .* 'gene3'", class = "scelbo_data_error")
  expect_error(gimvi(seurat_object(), spatial, generative_distributions = "nb"), "pair", class = "scelbo_argument_error")
  expect_error(gimvi(seurat_object()), "`spatial` is missing", class = "scelbo_argument_error")
})
