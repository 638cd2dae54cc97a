skip_without_backend()

# 150 cells of three types in two batches, 80 regions; 1 to 10 are open in type "a", 11 to 20 in "b", 21 to 30 in batch
# "y".
simulate_regions <- function(n = 150, g = 80) {
  open <- function(here) ifelse(here, 0.8, 0.1)
  withr::with_seed(7, {
    p <- matrix(stats::rbeta(g, 2, 4), g, n)
    p[1:10, ] <- rep(open(cell_types(n) == "a"), each = 10)
    p[11:20, ] <- rep(open(cell_types(n) == "b"), each = 10)
    p[21:30, ] <- rep(open(cell_batches(n) == "y"), each = 10)
    counts <- matrix(stats::rbinom(g * n, 1, p) * (1 + stats::rbinom(g * n, 2, 0.2)), g, n)
  })
  dimnames(counts) <- list(paste0("chr1-", 100 * 1:g, "-", 100 * 1:g + 50), paste0("cell", 1:n))
  as_sparse(counts)
}
regions <- function(at) rownames(simulate_regions())[at]

peaks_object <- function() {
  skip_if_not_installed("SeuratObject")
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(simulate_regions(), assay = "peaks"))
  object$type <- cell_types(150)
  object$batch <- cell_batches(150)
  object
}

peaks_sce <- function() {
  skip_if_not_installed("SingleCellExperiment")
  about <- S4Vectors::DataFrame(type = cell_types(150), batch = cell_batches(150))
  SingleCellExperiment::SingleCellExperiment(list(counts = simulate_regions()), colData = about)
}

# So few regions would let z collapse.
train_peakvi <- function(model, max_epochs = 60, ...) {
  plan <- list(lr = 5e-3, max_kl_weight = 0.1)
  train(model, max_epochs = max_epochs, plan_kwargs = plan, seed = 1, verbose = FALSE, ...)
}

peaks_model <- function() {
  if (is.null(shared$peaks)) shared$peaks <- train_peakvi(peakvi(peaks_object(), "batch", n_hidden = 32, n_latent = 4))
  shared$peaks
}

query_peaks <- function(at = 1:80) {
  counts <- simulate_regions()[at, 1:60]
  colnames(counts) <- paste0("new", 1:60)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts, assay = "peaks"))
  object$batch <- rep(c("x", "z", "z"), 20)
  object
}

test_that("RunPEAKVI adds a reduction and the model, and changes nothing else", {
  before <- peaks_object()
  untouched <- serialize(before, NULL)
  after <- RunPEAKVI(before, "batch", max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_equal(dim(after[["peakvi"]]), c(150, 2)) # 80 regions, 8 hidden units
  expect_equal(SeuratObject::Key(after[["peakvi"]]), "peakvi_", ignore_attr = TRUE)
  expect_equal(SeuratObject::DefaultAssay(after[["peakvi"]]), "peaks")
  expect_identical(after[[]], before[[]])
  expect_identical(after[["peaks"]], before[["peaks"]])
  expect_equal(SeuratObject::Embeddings(after, "peakvi"), get_latent_representation(get_model(after)))
  expect_error(RunPEAKVI(before, "bacth"), "Did you mean 'batch'", class = "scelbo_setup_error")
  expect_error(RunPEAKVI(before, n_latnt = 2), "Did you mean 'n_latent'", class = "scelbo_argument_error")
})

test_that("runPEAKVI adds a reduced dimension and the model, which survives saveRDS", {
  before <- peaks_sce()
  after <- runPEAKVI(before, ~ batch, n_latent = 3, max_epochs = 2, verbose = FALSE)
  z <- SingleCellExperiment::reducedDim(after, "PEAKVI")
  expect_equal(dim(z), c(150, 3))
  expect_identical(SummarizedExperiment::colData(after), SummarizedExperiment::colData(before))
  path <- withr::local_tempfile()
  saveRDS(after, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back), back), z, tolerance = 1e-6, ignore_attr = TRUE)
})

test_that("R and Python give the same figures at the same seed", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(peaks_object(), path)
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import PEAKVI",
    "adata = anndata.read_h5ad(sys.argv[1])",
    "PEAKVI.setup_anndata(adata, batch_key='batch')",
    "model = PEAKVI(adata, n_hidden=32, n_latent=4)",
    "model.train(max_epochs=60, seed=1, progress=False, plan_kwargs={'lr': 5e-3, 'max_kl_weight': 0.1})",
    "keep = lambda name, x: np.savetxt(f'{sys.argv[2]}/{name}', np.asarray(x), fmt='%.9g')",
    "keep('latent', model.get_latent_representation())",
    "keep('accessible', model.get_normalized_accessibility(transform_batch='y', normalize_cells=True))",
    "keep('cells', model.get_library_size_factors())",
    "keep('regions', model.get_region_factors())",
    "table = model.differential_accessibility(groupby='type', group1='a', seed=2)",
    "keep('table', table.loc[adata.var_names, ['prob_da', 'effect_size', 'emp_effect']])"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, path, out)), stdout = FALSE), 0)
  expected <- function(name) unname(as.matrix(utils::read.table(file.path(out, name))))
  model <- peaks_model()
  expect_equal(unname(get_latent_representation(model)), expected("latent"), tolerance = 1e-6)
  y <- get_normalized_accessibility(model, transform_batch = "y", normalize_cells = TRUE)
  expect_equal(unname(t(y)), expected("accessible"), tolerance = 1e-6)
  expect_equal(unname(get_library_size_factors(model)), expected("cells")[, 1], tolerance = 1e-6)
  expect_equal(unname(get_region_factors(model)), expected("regions")[, 1], tolerance = 1e-6)
  table <- differential_accessibility(model, object = peaks_object(), group_by = "type", group1 = "a", seed = 2)
  table <- as.matrix(table[regions(1:80), c("prob_da", "effect_size", "emp_effect")])
  expect_equal(unname(table), expected("table"), tolerance = 1e-5)
})

test_that("an AnnData, a path and a matrix are read, of which variable features are the default", {
  object <- peaks_object()
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path)
  latent <- function(object, ...) get_latent_representation(train_peakvi(peakvi(object, ...), 2))
  expect_equal(latent(path, "batch"), latent(object, "batch"))
  expect_equal(latent(as_anndata(object)), latent(simulate_regions()))
  SeuratObject::VariableFeatures(object) <- regions(40:1)
  expect_identical(peakvi(object)$features, regions(40:1))
  expect_identical(peakvi(object, assay = "peaks", features = regions(60:9))$features, regions(60:9))
  expect_output(print(summary(peakvi(object))), "n_hidden +NULL")
})

test_that("accessibility is a matrix of regions x cells", {
  model <- peaks_model()
  y <- get_normalized_accessibility(model)
  expect_identical(dimnames(y), dimnames(simulate_regions()))
  expect_true(all(y > 0 & y < 1))
  expect_gt(mean(y[1:10, cell_types(150) == "a"]), mean(y[1:10, cell_types(150) != "a"]) + 0.3)
  ask <- function(...) get_normalized_accessibility(model, ...)
  some <- ask(regions = regions(c(7, 2)), cells = c("cell9", "cell3"))
  expect_equal(some, y[regions(c(7, 2)), c("cell9", "cell3")], tolerance = 1e-5)
  expect_equal(ask(object = peaks_object()[, 11:40]), y[, 11:40], tolerance = 1e-5)
  both <- ask(normalize_cells = TRUE, normalize_regions = TRUE)
  expect_equal(both, y * outer(get_region_factors(model), get_library_size_factors(model)), tolerance = 1e-5)
  x <- ask(transform_batch = "x")
  expect_gt(mean(ask(transform = list(batch = "y"))[21:30, ] - x[21:30, ]), 0.2)
  expect_equal(ask(transform_batch = c("x", "y")), (x + ask(transform_batch = "y")) / 2, tolerance = 1e-5)
  expect_false(isTRUE(all.equal(ask(use_z_mean = FALSE, seed = 1), y)))
  expect_identical(colnames(ask(n_samples_overall = 30)), paste0("draw", 1:30))
})

test_that("above a threshold accessibility is sparse, and a dense matrix of everything is not made unasked", {
  model <- peaks_model()
  y <- get_normalized_accessibility(model, regions = "all")
  local_value("dense_limit", 8 * 80 * 149)
  sparse <- get_normalized_accessibility(model, threshold = 0.5)
  expect_s4_class(sparse, "dgCMatrix")
  expect_equal(as.matrix(sparse), y * (y >= 0.5), tolerance = 1e-6)
  some <- get_normalized_accessibility(model, regions = regions(9:8), cells = 5:1, threshold = 0.5)
  expect_identical(dimnames(some), dimnames(y[9:8, 5:1]))
  expect_snapshot(said(get_normalized_accessibility(model)))
})

test_that("differential accessibility finds what differs", {
  model <- peaks_model()
  ask <- function(...) differential_accessibility(model, ..., seed = 1)
  table <- ask(group_by = cell_types(150), group1 = "a")
  expect_named(table, c("feature", "prob_da", "is_da_fdr", "bayes_factor", "effect_size", "emp_effect", "est_prob1",
                        "est_prob2", "emp_prob1", "emp_prob2", "comparison", "group1", "group2"))
  expect_identical(rownames(table), table$feature)
  expect_setequal(head(table$feature[order(-table$effect_size)], 10), regions(1:10))
  expect_equal(table$effect_size, table$est_prob1 - table$est_prob2, tolerance = 1e-6)
  seen <- as.matrix(simulate_regions()) > 0
  in_a <- cell_types(150) == "a"
  shares <- rowMeans(seen[, in_a]) - rowMeans(seen[, !in_a])
  expect_equal(table$emp_effect, unname(shares[table$feature]), tolerance = 1e-6)
  expect_equal(ask(object = peaks_object(), group_by = "type", group1 = "a"), table, tolerance = 1e-5)
  expect_equal(nrow(ask(group_by = cell_types(150), n_samples_overall = 300)), 240)

  up <- ask(cells1 = in_a, two_sided = FALSE, delta = 0.1, fdr_target = 0.1, batch_correction = TRUE)
  expect_gte(sum(up$feature[1:10] %in% regions(1:10)), 8)
  expect_false("group1" %in% names(up))
  higher <- ask(cells1 = in_a, cells2 = cell_types(150) == "b", mode = "vanilla", all_stats = FALSE)
  expect_false(any(c("is_da_fdr", "emp_prob1") %in% names(higher)))
  expect_gte(sum(head(higher$feature, 10) %in% regions(1:10)), 8)

  changes <- ask(object = peaks_object(), group_by = "type", contrast = c("batch", "y", "x"), n_permutations = 2,
                 replicates = rep(1:3, 50), n_samples_overall = 500)
  expect_equal(table(changes$type), table(rep(c("a", "b", "c"), each = 80)), ignore_attr = TRUE)
  found <- head(changes$feature[changes$type == "c"], 10)
  expect_gte(sum(found %in% regions(21:30)), 8)
  expect_identical(attr(changes, "permutations")$group, c("a", "b", "c"))
  expect_error(ask(group_by = cell_types(150), group1 = "A"), "Did you mean 'a'", class = "scelbo_setup_error")
})

test_that("markers have FindMarkers' columns", {
  object <- write_back(peaks_model(), peaks_object(), features = regions(1:2))
  expect_equal(dim(object[["peakvi_normalized"]]), c(2, 150))
  markers <- FindMarkersPEAKVI(object, "a", group.by = "type", seed = 1)
  expect_equal(names(markers), c("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj", "prob_da", "is_da_fdr",
                                 "bayes_factor", "effect_size", "emp_effect", "est_prob1", "est_prob2"))
  expect_equal(markers$p_val, 1 - markers$prob_da)
  expect_equal(markers$avg_log2FC, log2(markers$est_prob1) - log2(markers$est_prob2))
  expect_equal(markers$pct.1 - markers$pct.2, markers$emp_effect)
  expect_true(all(diff(markers$p_val_adj) >= 0))
  up <- FindMarkersPEAKVI(object, "a", group.by = "type", only.pos = TRUE, two_sided = FALSE, seed = 1)
  expect_gte(sum(head(rownames(up), 10) %in% regions(1:10)), 8)
  expect_true(all(up$effect_size > 0))

  SeuratObject::Idents(object) <- object$type
  every <- FindAllMarkersPEAKVI(object, only.pos = TRUE, two_sided = FALSE, n_samples_overall = 1000)
  expect_equal(levels(every$cluster), c("a", "b", "c"))
  expect_setequal(head(every$gene[every$cluster == "b"], 10), regions(11:20))
  changes <- FindConditionMarkersPEAKVI(object, c("batch", "y", "x"), n_samples_overall = 1000)
  expect_equal(levels(changes$cluster), c("a", "b", "c"))
  expect_gte(sum(head(changes$gene[changes$cluster == "c"], 10) %in% regions(21:30)), 8)
  skip_if_not_installed("ggplot2")
  drawn <- plot_volcano(markers)
  expect_identical(drawn$labels$x, "difference of probabilities")
  expect_no_error(ggplot2::ggplot_build(drawn))
})

test_that("what other models are asked, it answers too", {
  model <- peaks_model()
  expect_equal(colnames(get_latent_representation(model)), paste0("peakvi_", 1:4))
  expect_lt(get_elbo(model), -get_reconstruction_error(model))
  expect_gt(get_marginal_ll(model, cells = 1:20, n_mc_samples = 50), get_elbo(model, cells = 1:20) - 1)
  expect_named(get_latent_kl(model), paste0("peakvi_", 1:4))
  drawn <- posterior_predictive_sample(model, features = regions(9:2), seed = 1)
  expect_identical(dimnames(drawn), list(regions(9:2), paste0("cell", 1:150)))
  expect_true(all(drawn@x == 1)) # whether there are counts is all that is explained
  cells <- paste(cell_batches(150), rep(1:3, 50))
  expect_equal(nrow(differential_abundance(model, cells, cell_batches(150))), 150)
  expect_identical(transfer_labels(model, peaks_object(), "type")$label, factor(cell_types(150)))

  small <- unserialize(serialize(minify(model), NULL))
  questions <- list(get_latent_representation, get_normalized_accessibility, get_library_size_factors)
  for (ask in questions) expect_equal(ask(small), ask(model), tolerance = 1e-5)
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  expect_equal(get_normalized_accessibility(load_model(folder), object = peaks_object()),
               get_normalized_accessibility(model), tolerance = 1e-5)
  expect_true(check_data(peaks_object(), "batch", model = "peakvi", n_latent = 4)$ok)
  expect_output(print(check_data(peaks_object(), "bacth", model = "peakvi")), "PEAKVI.*Did you mean 'batch'")
  expect_error(check_data(peaks_object(), model = "peakvy"), "Did you mean 'peakvi'", class = "scelbo_setup_error")
})

test_that("what a model does not offer is told with what it does", {
  model <- peaks_model()
  object <- write_back(model, peaks_object())
  local_value("dense_limit", 8)
  expect_snapshot({
    said(get_normalized_expression(model))
    said(differential_expression(model, object = object, group_by = "type"))
    said(FindMarkersSCVI(object, "a", group.by = "type"))
    said(get_library_size_factors(trained_model()))
  })
  expect_error(get_region_factors(trained_model()), "class SCVI has no get_region_factors.*It has .*, get_elbo\\(\\), ",
               class = "scelbo_argument_error")
  for (ask in c(get_latent_library_size, get_likelihood_parameters, get_feature_correlation_matrix)) {
    expect_error(ask(model), "class PEAKVI has no get_", class = "scelbo_argument_error")
  }
  expect_error(peakvi(peaks_object(), n_hidden = 2.5), "whole number", class = "scelbo_argument_error")
  expect_error(peakvi(peaks_object(), use_layer_norm = "non"), "Did you mean 'none'", class = "scelbo_argument_error")
  expect_error(get_region_factors(peakvi(peaks_object())), "not been trained", class = "scelbo_training_error")
})

test_that("an object may hold models of expression and of accessibility", {
  object <- write_back(trained_model(), seurat_object())
  object[["peaks"]] <- SeuratObject::CreateAssayObject(simulate_regions())
  object <- write_back(peaks_model(), object)
  expect_setequal(head(rownames(FindMarkersSCVI(object, "a", group.by = "type")), 5), paste0("gene", 1:5))
  expect_setequal(rownames(FindMarkersPEAKVI(object, "a", group.by = "type")), regions(1:80))
  object <- write_back(trained_model(), object)
  SeuratObject::DefaultAssay(object) <- "peaks"
  mapped <- MapQueryPEAKVI(query_peaks(), object, labels = "type", max_epochs = 1, verbose = FALSE)
  expect_identical(get_model(mapped)$class, "PEAKVI")
  expect_error(MapQueryPEAKVI(query_peaks(), trained_model()), "of class SCVI, not PEAKVI",
               class = "scelbo_argument_error")
})

test_that("new cells are mapped onto a reference", {
  reference <- peaks_model()
  y <- get_normalized_accessibility(reference)
  expect_message(model <- load_query_data(reference, query_peaks(8:80)), "7 of 80 features were not measured")
  start <- get_latent_representation(model)
  train_peakvi(model, 3)
  expect_false(isTRUE(all.equal(get_latent_representation(model), start)))
  expect_identical(get_normalized_accessibility(model, object = peaks_object()), y)

  atlas <- write_back(reference, peaks_object())
  before <- query_peaks()
  after <- MapQueryPEAKVI(before, atlas, labels = "type", max_epochs = 2, verbose = FALSE)
  expect_identical(after[[]][names(before[[]])], before[[]])
  expect_setequal(setdiff(names(after[[]]), names(before[[]])), c("peakvi_label", "peakvi_probability", "peakvi_mapping_score"))
  expect_gt(mean(after$peakvi_label == cell_types(60)), 0.9)
  expect_equal(dim(after[["peakvi"]]), c(60, 4))
  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = read_cells(before)$counts), colData = before[[]])
  sce <- mapQueryPEAKVI(sce, atlas, labels = "type", max_epochs = 2, verbose = FALSE)
  expect_equal(sce$peakvi_label, unname(after$peakvi_label), ignore_attr = TRUE)
  expect_equal(SingleCellExperiment::reducedDim(sce, "PEAKVI"), SeuratObject::Embeddings(after, "peakvi"),
               tolerance = 1e-5)
})
