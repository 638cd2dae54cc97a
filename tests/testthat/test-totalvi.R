skip_without_backend()

test_that("RunTOTALVI adds a reduction, denoised proteins and the model, and changes nothing else", {
  before <- cite_object()
  untouched <- serialize(before, NULL)
  after <- RunTOTALVI(before, "batch", n_latent = 3, n_hidden = 16, max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_equal(dim(after[["totalvi"]]), c(150, 3))
  expect_equal(SeuratObject::Key(after[["totalvi"]]), "totalvi_", ignore_attr = TRUE)
  expect_identical(after[[]], before[[]])
  expect_identical(after[["RNA"]], before[["RNA"]])
  expect_identical(after[["ADT"]], before[["ADT"]])
  model <- get_model(after)
  expect_equal(SeuratObject::Embeddings(after, "totalvi"), get_latent_representation(model))
  values <- get_normalized_expression(model, features = "gene1")
  expect_equal(as.matrix(SeuratObject::GetAssayData(after[["totalvi_protein"]])), values$protein, tolerance = 1e-6)
  expect_equal(dimnames(values$rna), list("gene1", colnames(before)))
  expect_false(any(c("totalvi_normalized", "totalvi_foreground") %in% SeuratObject::Assays(after)))
  more <- write_back(model, before, name = "joint", features = c("gene2", "gene1"), foreground = TRUE)
  expect_setequal(SeuratObject::Assays(more), c("RNA", "ADT", paste0("joint_", c("normalized", "protein", "foreground"))))
  expect_equal(rownames(more[["joint_normalized"]]), c("gene2", "gene1"))
})

test_that("runTOTALVI takes proteins from an altExp and adds one, and the model survives saveRDS", {
  before <- cite_sce()
  after <- runTOTALVI(before, ~ batch, n_latent = 3, n_hidden = 16, max_epochs = 2, verbose = FALSE)
  z <- SingleCellExperiment::reducedDim(after, "TOTALVI")
  expect_equal(dim(z), c(150, 3))
  expect_equal(SingleCellExperiment::altExpNames(after), c("ADT", "totalvi_protein"))
  expect_identical(SingleCellExperiment::altExp(after, "ADT"), SingleCellExperiment::altExp(before, "ADT"))
  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  values <- get_normalized_expression(get_model(back), back, features = character())
  expect_null(values$rna)
  expect_equal(values$protein, SummarizedExperiment::assay(SingleCellExperiment::altExp(after, "totalvi_protein")),
               tolerance = 1e-5)
  nameless <- simulate_proteins()
  colnames(nameless) <- NULL
  nameless <- suppressWarnings(cite_sce(nameless)) # of which SingleCellExperiment warns
  expect_equal(get_latent_representation(get_model(after), nameless), z, tolerance = 1e-5, ignore_attr = TRUE)
})

test_that("R and Python give the same figures at the same seed", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  adata <- totalvi(cite_object(), "batch")$python$adata
  with_python(adata$write_h5ad(path))
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import TOTALVI",
    "adata = anndata.read_h5ad(sys.argv[1])",
    "TOTALVI.setup_anndata(adata, batch_key='batch', protein_expression_obsm_key='ADT')",
    "model = TOTALVI(adata, n_hidden=16, n_latent=4)",
    "model.train(max_epochs=60, seed=1, batch_size=64, progress=False)",
    "keep = lambda name, x: np.savetxt(f'{sys.argv[2]}/{name}', np.asarray(x), fmt='%.9g')",
    "keep('latent', model.get_latent_representation())",
    "rna, protein = model.get_normalized_expression(transform_batch='y', protein_list=['Pb', 'P5'])",
    "keep('rna', rna)",
    "keep('protein', protein)",
    "keep('foreground', model.get_protein_foreground_probability())",
    "keep('background', model.get_protein_background_mean())",
    "cells = np.arange(150) % 3 == 0",
    "table = model.differential_expression(idx1=cells, seed=2)",
    "table = table.loc[[*adata.var_names, *adata.obsm['ADT'].columns], ['proba_de', 'lfc_mean', 'scale1']]",
    "keep('table', table)"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, path, out)), stdout = FALSE), 0)
  expected <- function(name) unname(as.matrix(utils::read.table(file.path(out, name))))
  model <- proteins_model()
  same <- function(value, name) expect_equal(unname(t(value)), expected(name), tolerance = 1e-5, info = name)
  expect_equal(unname(get_latent_representation(model)), expected("latent"), tolerance = 1e-5)
  values <- get_normalized_expression(model, transform_batch = "y", proteins = c("Pb", "P5"))
  expect_equal(rownames(values$protein), c("Pb", "P5"))
  same(values$rna, "rna")
  same(values$protein, "protein")
  same(get_protein_foreground_probability(model), "foreground")
  same(get_protein_background_mean(model), "background")
  table <- differential_expression(model, cells1 = cell_types(150) == "a", seed = 2)
  names <- c(model$features, rownames(simulate_proteins()))
  ours <- table[match(names, table$feature), c("proba_de", "lfc_mean", "scale1")]
  expect_equal(unname(as.matrix(ours)), expected("table"), tolerance = 1e-5)
})

test_that("proteins that mark a type are found, beyond background", {
  model <- proteins_model()
  probability <- get_protein_foreground_probability(model, proteins = "Pa")["Pa", ]
  expect_gt(mean(probability[cell_types(150) == "a"]), mean(probability[cell_types(150) != "a"]) + 0.3)
  table <- differential_expression(model, object = cite_object(), group_by = "type", group1 = "a", use_field = "protein")
  expect_equal(table$modality, rep("protein", 6))
  expect_setequal(table$feature[1:3], c("Pa", "Pb", "Pc"))
  expect_gt(table["Pa", "lfc_mean"], 1)
  expect_true(all(table[c("Pb", "Pc"), "lfc_mean"] < -1))
  object <- write_back(model, cite_object())
  markers <- FindMarkersSCVI(object, "a", group.by = "type")
  expect_equal(nrow(markers), 66)
  expect_setequal(markers$modality, c("rna", "protein"))
  proteins <- markers[markers$modality == "protein", ]
  expect_equal(proteins$p_val_adj, cumsum(proteins$p_val) / seq_along(proteins$p_val))
  all <- FindAllMarkersSCVI(object, group.by = "type")
  expect_equal(dim(all)[[1]], 198)
})

test_that("a gene and a protein may have one name", {
  proteins <- simulate_proteins()
  rownames(proteins)[[1]] <- "gene1"
  object <- RunTOTALVI(cite_object(proteins), "batch", n_hidden = 8, max_epochs = 2, verbose = FALSE)
  markers <- FindMarkersSCVI(object, "a", group.by = "type")
  expect_equal(sum(markers$gene == "gene1"), 2)
  expect_setequal(rownames(markers)[markers$gene == "gene1"], c("gene1", "gene1.1"))
})

test_that("what was not measured is told, imputed, and may be written as NA, zero, or not at all", {
  zeros <- simulate_proteins(missing = "y")
  missing <- as.matrix(zeros)
  missing[, cell_batches(150) == "y"] <- NA
  expect_message(model <- fit_totalvi(cite_object(zeros)), "all 6 in batch 'y'", class = "scelbo_unmeasured")
  expect_message(by_na <- fit_totalvi(cite_sce(as_sparse(missing))), "all 6 in batch 'y'")
  expect_equal(get_latent_representation(by_na), get_latent_representation(model), tolerance = 1e-6)
  imputed <- get_normalized_expression(model, features = character())$protein
  expect_true(all(imputed[, cell_batches(150) == "y"] > 0))
  expect_silent(totalvi(cite_object(zeros), "batch", override_missing_proteins = TRUE))
  expect_silent(totalvi(cite_object(), "batch"))
  two <- zeros
  two["P6", ] <- 0
  expect_message(totalvi(cite_object(two), "batch"), "'P6' in batch 'x'; all 6 in batch 'y'")
  partly <- missing
  partly[2, c(1, 5)] <- NA
  expect_error(totalvi(cite_sce(as_sparse(partly)), "batch"), "'Pb' of 'ADT' .* batch 'x', .* 3 %",
               class = "scelbo_data_error")
  expect_error(totalvi(cite_sce(as_sparse(missing))), "only batch", class = "scelbo_data_error")
})

test_that("cells that only came by merge() have no proteins", {
  object <- cite_object()
  proteins <- object[, object$batch == "x"]
  bare <- object[, object$batch == "y"]
  bare[["ADT"]] <- NULL
  both <- merge(proteins, bare)
  expect_message(model <- fit_totalvi(both), "all 6 in batch 'y'", class = "scelbo_unmeasured")
  expect_equal(length(model$cells), 150)
  imputed <- RunTOTALVI(both, "batch", n_hidden = 16, max_epochs = 1, verbose = FALSE) |> suppressMessages()
  expect_equal(dim(imputed[["totalvi_protein"]]), c(6, 150))
})

test_that("errors say what came and the nearest match", {
  object <- cite_object()
  object[["ADT"]]@data <- log1p(object[["ADT"]]@counts)
  beside <- cite_object()
  SeuratObject::DefaultAssay(beside) <- "ADT"
  sce <- cite_sce()
  SummarizedExperiment::assay(SingleCellExperiment::altExp(sce, "ADT"), "clr") <- as.matrix(simulate_proteins()) / 3
  expect_snapshot({
    said(totalvi(seurat_object(), "batch"))
    said(totalvi(object, "batch", protein_assay = "adt"))
    said(totalvi(object, "batch", protein_layer = "data"))
    said(totalvi(object, "batch", protein_layer = "cuonts"))
    said(totalvi(beside, "batch"))
    said(totalvi(cite_sce(), "batch", protein_assay = "protein"))
    said(totalvi(sce, "batch", protein_layer = "clr"))
    said(totalvi(simulate_counts()))
    said(totalvi(as_anndata(object), protein_assay = "proteins"))
    said(totalvi(object, gene_dispersion = "gene-label"))
    said(get_protein_background_mean(trained_model()))
    said(get_protein_foreground_probability(proteins_model(), proteins = "Pd"))
    said(get_latent_representation(proteins_model(), seurat_object()))
  })
  expect_error(totalvi(object, "batch", protein_layer = "data"), class = "scelbo_data_error")
  checked <- check_data(object, "batch", protein_layer = "data", model = "totalvi")
  expect_match(checked$problems$what, "no counts")
  expect_true(check_data(object, "batch", model = "totalvi", n_hidden = 8, forecast = FALSE)$ok)
})

test_that("cells with RNA only are mapped onto a reference with proteins", {
  atlas <- write_back(proteins_model(), cite_object())
  counts <- simulate_counts()[8:60, 1:60]
  colnames(counts) <- paste0("new", 1:60)
  query <- suppressWarnings(SeuratObject::CreateSeuratObject(counts))
  query$batch <- "z"
  expect_message(mapped <- MapQueryTOTALVI(query, atlas, labels = "type", max_epochs = 2, score = FALSE), "6 of 6")
  expect_equal(dim(mapped[["totalvi"]]), c(60, 4))
  expect_equal(dim(mapped[["totalvi_protein"]]), c(6, 60))
  expect_s3_class(mapped$totalvi_label, "factor")
  path <- withr::local_tempfile()
  saveRDS(mapped, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), SeuratObject::Embeddings(mapped, "totalvi"),
               tolerance = 1e-5)
  stained <- query
  proteins <- simulate_proteins()[1:5, 1:60]
  colnames(proteins) <- colnames(query)
  stained[["Ab"]] <- SeuratObject::CreateAssayObject(counts = proteins)
  expect_message(model <- load_query_data(atlas, stained, protein_assay = "Ab"), "1 of 6 features")
  expect_false(isTRUE(all.equal(get_latent_representation(model), get_latent_representation(get_model(back), back))))
  expect_equal(get_latent_representation(model, stained), get_latent_representation(model), tolerance = 1e-6)
})

test_that("a folder, an AnnData and a path are as good as the object", {
  model <- proteins_model()
  z <- get_latent_representation(model)
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  expect_equal(get_latent_representation(load_model(folder, cite_object())), z, tolerance = 1e-6)
  object <- cite_object()
  object[["Ab"]] <- SeuratObject::CreateAssayObject(counts = simulate_proteins())
  object[["ADT"]] <- NULL
  expect_equal(get_latent_representation(load_model(folder, object, protein_assay = "Ab")), z, tolerance = 1e-6)
  expect_error(load_model(folder, object), "There is no assay of proteins 'ADT'", class = "scelbo_setup_error")
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(cite_object(), path, protein_assay = "ADT")
  expect_equal(get_latent_representation(model, path), z, tolerance = 1e-6)
  expect_equal(get_latent_representation(fit_totalvi(path)), get_latent_representation(fit_totalvi(cite_object())),
               tolerance = 1e-5)
  back <- as_seurat(path)
  expect_equal(as.matrix(read_cells(back, "ADT")$counts), as.matrix(simulate_proteins()))
  sce <- as_sce(path)
  expect_equal(get_latent_representation(model, sce), z, tolerance = 1e-6, ignore_attr = TRUE)
})

test_that("draws, parameters and correlations have proteins beside genes", {
  model <- proteins_model()
  drawn <- posterior_predictive_sample(model, cells = 1:7, seed = 1)
  expect_equal(dim(drawn$rna), c(60, 7))
  expect_equal(dimnames(drawn$protein), list(rownames(simulate_proteins()), paste0("cell", 1:7)))
  parameters <- get_likelihood_parameters(model, features = c("gene9", "gene1"), cells = 1:5)
  expect_equal(rownames(parameters$mean), c("gene9", "gene1"))
  expect_equal(dim(parameters$protein_background), c(6, 5))
  together <- get_feature_correlation_matrix(model, features = c("gene1", "gene2"), seed = 1)
  expect_equal(rownames(together), c("gene1", "gene2", rownames(simulate_proteins())))
  check <- posterior_predictive_check(model, n_samples = 5)
  expect_true(all(c("mean_observed", "mean_drawn") %in% names(check)))
  expect_s3_class(report(model, file = NULL, n_samples = 5), "scelbo_report")
})

test_that("a model tells of its proteins, and draws them", {
  expect_output(print(proteins_model()), "150 cells x 60 features, 6 proteins")
  skip_if_not_installed("ggplot2")
  figure <- plot_proteins(proteins_model(), proteins = c("Pb", "P4"), n_cells = 40)
  expect_equal(nrow(figure$data), 80)
  shown <- figure$data[figure$data$protein == "Pb", ]
  at <- round(seq(1, 150, length.out = 40))
  last <- plot_proteins(proteins_model(), proteins = "P4", cells = c("cell2", "cell150"))$data
  expect_equal(last$measured, unname(as.matrix(simulate_proteins())["P4", c(2, 150)]))
  expect_equal(shown$measured, unname(as.matrix(simulate_proteins())["Pb", at]))
  expect_equal(shown$denoised, unname(get_normalized_expression(proteins_model(), features = "gene1")$protein["Pb", at]),
               tolerance = 1e-5)
})

test_that("a MultiAssayExperiment is as good as a SingleCellExperiment", {
  skip_if_not_installed("MultiAssayExperiment")
  counts <- simulate_counts()
  about <- S4Vectors::DataFrame(batch = cell_batches(150), type = cell_types(150), row.names = colnames(counts))
  some <- withr::with_seed(1, sample(150)) # in another order
  object <- MultiAssayExperiment::MultiAssayExperiment(list(rna = counts, adt = simulate_proteins()[, some]), about)
  model <- fit_totalvi(object, assay = "rna", protein_assay = "adt")
  expected <- get_latent_representation(fit_totalvi(cite_object()))
  expect_equal(get_latent_representation(model), expected, tolerance = 1e-5)
  expect_error(totalvi(object, "batch", protein_assay = "atd"), "Did you mean 'adt'", class = "scelbo_setup_error")
  expect_error(totalvi(object, "batch", assay = "ran", protein_assay = "adt"), "Did you mean 'rna'",
               class = "scelbo_setup_error")
  after <- runTOTALVI(object, "batch", protein_assay = "adt", n_latent = 4, n_hidden = 16, max_epochs = 2,
                      batch_size = 64, seed = 1, verbose = FALSE)
  expect_setequal(names(after), c("rna", "adt", "TOTALVI", "totalvi_protein"))
  expect_equal(t(after[["TOTALVI"]]), expected, tolerance = 1e-5)
  expect_equal(get_latent_representation(get_model(after), after), expected, tolerance = 1e-5)
  table <- differential_expression(get_model(after), object = after, group_by = "type", group1 = "a")
  expect_equal(nrow(table), 66)
})
