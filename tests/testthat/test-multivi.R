skip_without_backend()

# Regions of the simulated cells, of which each type opens its own 15.
simulate_openness <- function() {
  open <- outer(rep(c("a", "b", "c", "none"), each = 15), cell_types(150), "==")
  counts <- withr::with_seed(5, matrix(stats::rbinom(9000, 1, ifelse(open, 0.7, 0.15)), 60))
  dimnames(counts) <- list(paste0("chr1-", 100 * 1:60, "-", 100 * 1:60 + 50), paste0("cell", 1:150))
  as_sparse(counts)
}
rna_only <- 1:40
atac_only <- 41:80

# Cells with both, with genes only and with regions only, these in batches of their own.
multiome_object <- function(peaks = "peaks") {
  genes <- simulate_counts()
  genes[, atac_only] <- 0
  regions <- simulate_openness()
  regions[, rna_only] <- 0
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(as_sparse(genes)))
  object[[peaks]] <- SeuratObject::CreateAssayObject(counts = as_sparse(regions))
  object$type <- cell_types(150)
  object$batch <- rep(c("rna", "atac", "both"), c(40, 40, 70))
  object
}

fit_multivi <- function(object, ..., max_epochs = 2) {
  model <- multivi(object, "batch", ..., n_latent = 4, n_hidden = 16)
  train(model, max_epochs = max_epochs, batch_size = 64, seed = 1, verbose = FALSE)
}
multi_model <- function() {
  if (is.null(shared$multi)) shared$multi <- fit_multivi(multiome_object(), max_epochs = 30)
  shared$multi
}

test_that("RunMULTIVI adds a reduction and the model, and changes nothing else", {
  before <- multiome_object()
  untouched <- serialize(before, NULL)
  after <- RunMULTIVI(before, "batch", n_latent = 3, n_hidden = 16, max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_equal(dim(after[["multivi"]]), c(150, 3))
  expect_identical(after[["peaks"]], before[["peaks"]])
  expect_equal(SeuratObject::Assays(after), c("RNA", "peaks"))
  model <- get_model(after)
  expect_output(print(model), "150 cells x 60 features, 60 regions")
  more <- write_back(model, before, features = c("chr1-100-150", "gene2"))
  expect_setequal(SeuratObject::Assays(more), c("RNA", "peaks", "multivi_normalized", "multivi_accessible"))
  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), SeuratObject::Embeddings(after, "multivi"), tolerance = 1e-5)
})

test_that("R and Python give the same figures at the same seed", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  with_python(multivi(multiome_object(), "batch")$python$adata$write_h5ad(path))
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import MULTIVI",
    "adata = anndata.read_h5ad(sys.argv[1])",
    "MULTIVI.setup_anndata(adata, batch_key='batch')",
    "model = MULTIVI(adata, n_hidden=16, n_latent=4)",
    "model.train(max_epochs=30, seed=1, batch_size=64, progress=False)",
    "keep = lambda name, x: np.savetxt(f'{sys.argv[2]}/{name}', np.asarray(x), fmt='%.9g')",
    "keep('latent', model.get_latent_representation())",
    "keep('expression', model.get_latent_representation(modality='expression'))",
    "keep('rna', model.get_normalized_expression())",
    "keep('open', model.get_normalized_accessibility())",
    "keep('factors', model.get_library_size_factors())"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, path, out)), stdout = FALSE), 0)
  expected <- function(name) unname(as.matrix(utils::read.table(file.path(out, name))))
  model <- multi_model()
  expect_equal(unname(get_latent_representation(model)), expected("latent"), tolerance = 1e-5)
  by_rna <- unname(get_latent_representation(model, modality = "expression"))
  expect_equal(by_rna, expected("expression"), tolerance = 1e-5)
  expect_equal(which(is.nan(by_rna[, 1])), atac_only)
  expect_equal(unname(t(get_normalized_expression(model))), expected("rna"), tolerance = 1e-5)
  open <- get_normalized_accessibility(model)
  expect_equal(dimnames(open), dimnames(simulate_openness()))
  expect_equal(unname(t(open)), expected("open"), tolerance = 1e-5)
  factors <- get_library_size_factors(model)
  expect_equal(names(factors), c("expression", "accessibility"))
  expect_equal(unname(as.matrix(factors)), expected("factors"), tolerance = 1e-5)
})

test_that("genes and regions are asked about and tested by name", {
  model <- multi_model()
  expect_equal(rownames(get_normalized_accessibility(model, regions = "chr1-300-350")), "chr1-300-350")
  expect_error(get_normalized_accessibility(model, regions = "gene1"), class = "scelbo_setup_error")
  expect_equal(names(get_region_factors(model)), rownames(simulate_openness()))
  object <- write_back(model, multiome_object())
  genes <- FindMarkersSCVI(object, "a", group.by = "type")
  regions <- FindMarkersPEAKVI(object, "a", group.by = "type")
  expect_setequal(rownames(genes), rownames(simulate_counts()))
  expect_setequal(rownames(regions), rownames(simulate_openness()))
  drawn <- posterior_predictive_sample(model, cells = 1:5)
  expect_equal(lapply(drawn, dim), list(rna = c(60L, 5L), atac = c(60L, 5L)))
})

test_that("regions are chosen: by name, else the variable ones", {
  object <- multiome_object()
  expect_equal(features_beside(multivi(object, regions = rownames(object[["peaks"]])[50:2]), "atac"),
               rownames(object[["peaks"]])[50:2])
  object[["peaks"]]@var.features <- rownames(object[["peaks"]])[1:55]
  model <- multivi(object, features = paste0("gene", 50:1))
  expect_equal(features_beside(model, "atac"), rownames(object[["peaks"]])[1:55])
  expect_equal(model$features, paste0("gene", 50:1))
  expect_error(multivi(object, regions = "chr1-100-151"), "Did you mean 'chr1-100-150'", class = "scelbo_setup_error")
  expect_error(multivi(object, peak_assay = "Peaks"), "Did you mean 'peaks'", class = "scelbo_setup_error")
  expect_error(multivi(object, assay = "peaks"), "another modality", class = "scelbo_argument_error")
  expect_error(multivi(seurat_object()), "no assay of peaks 'peaks'", class = "scelbo_setup_error")
})

test_that("other objects give the same model", {
  expected <- get_latent_representation(fit_multivi(multiome_object()))
  same <- function(object, ...) {
    expect_equal(get_latent_representation(fit_multivi(object, ...)), expected, tolerance = 1e-5, ignore_attr = TRUE)
  }
  object <- multiome_object()
  genes <- read_cells(object, "RNA")$counts
  regions <- read_cells(object, "peaks")$counts
  about <- S4Vectors::DataFrame(object[[]])
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = genes), colData = about)
  SingleCellExperiment::altExp(sce, "peaks") <- SummarizedExperiment::SummarizedExperiment(list(counts = regions))
  same(sce)
  adata <- multivi(object, "batch")$python$adata
  path <- withr::local_tempfile(fileext = ".h5ad")
  with_python(adata$write_h5ad(path))
  same(path)
  expect_equal(get_latent_representation(fit_multivi(path), object = object), expected, tolerance = 1e-5)
  skip_if_not_installed("MultiAssayExperiment")
  cells <- list(RNA = genes[, -atac_only], peaks = regions[, -rna_only]) # each only those that have it
  model <- fit_multivi(MultiAssayExperiment::MultiAssayExperiment(cells, about))
  expect_setequal(model$cells, colnames(object))
  expect_equal(dim(get_latent_representation(model)), c(150, 4))
})

test_that("proteins come along, also of a part of the cells", {
  object <- multiome_object()
  proteins <- withr::with_seed(1, matrix(stats::rpois(450, 9), 3))
  dimnames(proteins) <- list(c("P1", "P2", "P3"), colnames(object))
  proteins[, c(rna_only, 100)] <- 0
  object[["ADT"]] <- SeuratObject::CreateAssayObject(counts = as_sparse(proteins))
  expect_message(after <- RunMULTIVI(object, "batch", protein_assay = "ADT", n_hidden = 16, max_epochs = 2, verbose = FALSE),
                 "all 3 in batch 'rna'")
  expect_equal(dim(after[["multivi_protein"]]), c(3, 150))
  expect_equal(dim(get_protein_foreground_probability(get_model(after), proteins = "P2")), c(1, 150))
})

test_that("a model of several modalities is checked, reported and scored", {
  model <- multi_model()
  check <- posterior_predictive_check(model, cells = 1:150, n_samples = 5, seed = 1)
  expect_equal(c(table(check$modality)), c(atac = 60L, rna = 60L))
  expect_equal(check["gene3", "mean_observed"], mean(simulate_counts()[3, -atac_only]), tolerance = 1e-6)
  expect_equal(check["chr1-300-350", "zeros_observed"], mean(simulate_openness()[3, -rna_only] == 0), tolerance = 1e-6)
  parts <- get_reconstruction_error(model, seed = 1)
  expect_named(parts, c("reconstruction_loss", "rna", "atac"))
  each <- get_reconstruction_error(model, return_mean = FALSE, seed = 1)
  expect_equal(which(is.nan(each$rna)), atac_only)
  expect_equal(parts$atac, mean(each$atac[-rna_only]), tolerance = 1e-5)
  expect_s3_class(report(model, file = NULL, n_samples = 5), "scelbo_report")
  scores <- get_mapping_score(model, model)
  expect_equal(rownames(scores), model$cells)
  expect_true(all(scores$mapping_score > 0 & scores$mapping_score <= 1))
})

test_that("a SingleCellExperiment of peaks alone is mapped, as its experiment or beside it", {
  atlas <- write_back(multi_model(), multiome_object())
  regions <- simulate_openness()[5:60, 1:50]
  colnames(regions) <- paste0("new", 1:50)
  about <- S4Vectors::DataFrame(batch = rep("new", 50), row.names = colnames(regions))
  main <- SingleCellExperiment::SingleCellExperiment(list(counts = regions), colData = about)
  beside <- SingleCellExperiment::SingleCellExperiment(list(counts = regions[0, ]), colData = about)
  SingleCellExperiment::altExp(beside, "peaks") <- SummarizedExperiment::SummarizedExperiment(list(counts = regions))
  map <- function(query) suppressMessages(mapQueryMULTIVI(query, atlas, labels = "type", max_epochs = 1, seed = 1))
  mapped <- map(main)
  expect_equal(dim(SingleCellExperiment::reducedDim(mapped, "MULTIVI")), c(50, 4))
  expect_gt(mean(as.character(mapped$multivi_label) == cell_types(50)), 0.5)
  expect_true(all(mapped$multivi_mapping_score > 0 & mapped$multivi_mapping_score <= 1))
  expect_equal(SingleCellExperiment::reducedDim(map(beside), "MULTIVI"), SingleCellExperiment::reducedDim(mapped, "MULTIVI"),
               tolerance = 1e-5)
  path <- withr::local_tempfile()
  saveRDS(mapped, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), SingleCellExperiment::reducedDim(mapped, "MULTIVI"),
               tolerance = 1e-5, ignore_attr = TRUE)
  expect_equal(dim(get_normalized_expression(get_model(mapped), features = "gene1")), c(1, 50))
})

test_that("cells with one modality are mapped onto a reference of both", {
  atlas <- write_back(multi_model(), multiome_object())
  regions <- simulate_openness()[5:60, 1:50]
  colnames(regions) <- paste0("new", 1:50)
  query <- suppressWarnings(SeuratObject::CreateSeuratObject(regions, assay = "peaks"))
  query$batch <- "new"
  mapped <- suppressMessages(MapQueryMULTIVI(query, atlas, labels = "type", max_epochs = 1))
  expect_equal(dim(mapped[["multivi"]]), c(50, 4))
  expect_gt(mean(as.character(mapped$multivi_label) == cell_types(50)), 0.5)
  expect_true(all(mapped$multivi_mapping_score > 0 & mapped$multivi_mapping_score <= 1))
  expect_equal(dim(get_normalized_expression(get_model(mapped), features = "gene1")), c(1, 50))
  path <- withr::local_tempfile()
  saveRDS(mapped, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), SeuratObject::Embeddings(mapped, "multivi"),
               tolerance = 1e-5)
  folder <- withr::local_tempdir()
  save_model(multi_model(), folder, overwrite = TRUE)
  expect_equal(get_latent_representation(load_model(folder, multiome_object())), get_latent_representation(multi_model()),
               tolerance = 1e-6)
})
