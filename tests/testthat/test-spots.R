skip_without_backend()

test_that("RunStereoscope adds shares that are near the known ones, and the model, and changes nothing else", {
  skip_if_not_installed("SeuratObject")
  before <- spots_object()
  expect_identical(SeuratObject::Key(before[["spatial"]]), "spatialdim_") # "spatial_" is the assay's
  untouched <- serialize(before, NULL)
  after <- fit_spots(RunStereoscope, before)
  expect_identical(serialize(before, NULL), untouched)
  expect_identical(after[["Spatial"]], before[["Spatial"]])
  types <- paste0("type", 0:3)
  expect_named(after[[]], c(names(before[[]]), paste0("stereoscope_", types)))
  shares <- get_proportions(get_model(after))
  expect_named(shares, types)
  expect_equal(rowSums(shares), setNames(rep(1, 60), colnames(before)), tolerance = 1e-5)
  expect_gt(cor(unlist(shares), unlist(simulated_spots()$shares)), 0.9)
  expect_equal(after$stereoscope_type2, setNames(shares$type2, rownames(shares)))
  values <- SeuratObject::GetAssayData(after[["stereoscope_proportions"]])
  expect_equal(as.matrix(values), t(as.matrix(shares)), ignore_attr = TRUE)
  expect_output(print(get_model(after)), "SpatialStereoscope, trained for 3")
})

test_that("R and Python give the same figures at the same seed", {
  paths <- replicate(2, withr::local_tempfile(fileext = ".h5ad", .local_envir = parent.frame()))
  with_python(simulated_spots()$cells$write_h5ad(paths[[1]]))
  with_python(simulated_spots()$spots$write_h5ad(paths[[2]]))
  out <- withr::local_tempdir()
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, anndata",
    paste0("sys.path.insert(0, ", deparse(core_path()), ")"),
    "from scelbo import CondSCVI, DestVI, RNAStereoscope, SpatialStereoscope",
    "keep = lambda name, x: np.savetxt(f'{sys.argv[3]}/{name}', np.asarray(x), fmt='%.9g')",
    "for kind, made in ((RNAStereoscope, SpatialStereoscope), (CondSCVI, DestVI)):",
    "    cells, spots = map(anndata.read_h5ad, sys.argv[1:3])",
    "    kind.setup_anndata(cells, labels_key='cell_type')",
    "    reference = kind(cells)",
    "    reference.train(max_epochs=3, seed=1, progress=False)",
    "    model = made.from_rna_model(spots, reference)",
    "    model.train(max_epochs=3, seed=1, progress=False)",
    "    keep(made.__name__, model.get_proportions(keep_noise=True))",
    "    found = model.estimate_proportions(interval=0.5)",
    "    keep(made.__name__ + 'Upper', found.upper)",
    "keep('Gamma', model.get_gamma()['type1'])",
    "keep('Scale', model.get_scale_for_ct('type1')[['gene7', 'gene3']])",
    "keep('Expression', model.get_expression_for_ct('type1')[['gene7', 'gene3']])",
    "keep('Prior', reference.get_vamp_prior(p=3).iloc[:, 1:])"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, paths, out)), stdout = FALSE, stderr = FALSE), 0)
  expected <- function(name) unname(as.matrix(utils::read.table(file.path(out, name))))
  for (object in list(spots_fitted(), dest_fitted())) {
    model <- get_model(object)
    shares <- get_proportions(model, keep_noise = TRUE)
    expect_named(shares, c(paste0("type", 0:3), "noise_term"))
    expect_equal(unname(as.matrix(shares)), expected(model$class), tolerance = 1e-4)
    sure <- estimate_proportions(model, interval = 0.5)
    expect_equal(matrix(sure$upper, 60), expected(paste0(model$class, "Upper")), tolerance = 1e-4)
    expect_identical(sure$spot[61:62], c("spot0", "spot1"))
    expect_identical(as.character(sure$cell_type[61:62]), c("type1", "type1"))
    expect_true(all(sure$lower <= sure$proportion & sure$proportion <= sure$upper))
  }
  gamma <- get_gamma(model)
  expect_named(gamma, paste0("type", 0:3))
  expect_equal(unname(gamma$type1), expected("Gamma"), tolerance = 1e-4)
  expect_equal(get_gamma(model, cells = c("spot9", "spot3"))$type1, gamma$type1[c("spot9", "spot3"), ], tolerance = 1e-5)
  genes <- c("gene7", "gene3")
  scale <- get_scale_for_ct(model, "type1", genes)
  expect_identical(dimnames(scale), list(genes, colnames(spots_object())))
  expect_equal(unname(t(scale)), expected("Scale"), tolerance = 1e-4)
  expect_equal(unname(t(get_expression_for_ct(model, "type1", genes))), expected("Expression"), tolerance = 1e-4)
  reference <- train(condscvi(cells_object(), labels = "cell_type"), max_epochs = 3, seed = 1, verbose = FALSE)
  prior <- get_vamp_prior(reference, p = 3)
  expect_equal(unname(as.matrix(prior[-1])), expected("Prior"), tolerance = 1e-4)
  expect_equal(as.vector(tapply(prior$weight, prior$cell_type, sum)), rep(1, 4))
})

test_that("Bioconductor's objects hold the same, with a reference that is one", {
  skip_if_not_installed("SingleCellExperiment")
  cells <- as_sce(simulated_spots()$cells)
  spots <- as_sce(simulated_spots()$spots)
  after <- fit_spots(runStereoscope, spots, cells)
  expected <- get_proportions(get_model(spots_fitted()))
  about <- as.data.frame(SummarizedExperiment::colData(after))
  expect_equal(about$stereoscope_type1, expected$type1, tolerance = 1e-5)
  beside <- SingleCellExperiment::altExp(after, "stereoscope_proportions")
  expect_equal(SummarizedExperiment::assay(beside), t(as.matrix(expected)), tolerance = 1e-5)
  expect_s3_class(get_model(after), "scelbo_spatialstereoscope")
  skip_if_not_installed("SpatialExperiment")
  places <- SingleCellExperiment::reducedDim(spots, "spatial")
  colnames(places) <- c("pxl_col_in_fullres", "pxl_row_in_fullres")
  spatial <- SpatialExperiment::SpatialExperiment(list(counts = SummarizedExperiment::assay(spots)), spatialCoords = places)
  after <- fit_spots(runDestVI, spatial, cells)
  expect_equal(places_in(after)$y, -unname(places[, 2]))
  expect_equal(SummarizedExperiment::colData(after)$destvi_type1, get_proportions(get_model(dest_fitted()))$type1, tolerance = 1e-5)
})

test_that("a model, or an object that holds one, serves as reference; also after saveRDS", {
  reference <- train(stereoscope_reference(cells_object(), labels = "cell_type"), max_epochs = 3, seed = 1, verbose = FALSE)
  expected <- get_proportions(get_model(spots_fitted()))
  fit <- function(reference) RunStereoscope(spots_object(), reference, max_epochs = 3, seed = 1, verbose = FALSE)
  shares <- function(object) get_proportions(get_model(object), object)
  expect_equal(shares(fit(reference)), expected, tolerance = 1e-5)
  holder <- write_back(reference, cells_object(), name = "profiles")
  path <- withr::local_tempfile()
  saveRDS(list(holder, spots_fitted()), path)
  back <- readRDS(path)
  expect_equal(shares(fit(back[[1]])), expected, tolerance = 1e-5)
  expect_equal(shares(back[[2]]), expected, tolerance = 1e-5)
  expect_equal(get_proportions(get_model(back[[2]]), back[[2]][, 11:20]), expected[11:20, ], tolerance = 1e-5)
  profiles <- get_profiles(reference, c("gene3", "gene1"))
  expect_identical(dimnames(profiles), list(c("gene3", "gene1"), paste0("type", 0:3)))
  scale <- get_scale_for_ct(get_model(fit(reference)), c("type2", "type0"), c("gene3", "gene1"))
  expect_identical(dimnames(scale), list(c("gene3", "gene1"), c("type2", "type0")))

  folder <- withr::local_tempdir()
  save_model(get_model(dest_fitted()), folder, overwrite = TRUE)
  again <- load_model(folder)
  expect_equal(get_proportions(again, spots_object()), get_proportions(get_model(dest_fitted())), tolerance = 1e-5)
  save_model(reference, folder, overwrite = TRUE)
  expect_warning(model <- stereoscope(spots_object(), folder, verbose = FALSE), "Without its cells", class = "scelbo_data_warning")
  expect_s3_class(model, "scelbo_spatialstereoscope")
  states <- train(condscvi(cells_object(), labels = "cell_type"), max_epochs = 1, verbose = FALSE)
  written <- write_back(states, cells_object())
  expect_identical(dim(written[["condscvi"]]), c(150L, 5L))
  expect_identical(names(written[[]]), names(cells_object()[[]])) # it was taught no fine labels
  save_model(states, folder, overwrite = TRUE)
  expect_error(destvi(spots_object(), folder), "without its cells", class = "scelbo_setup_error")
})

test_that("arguments reach the model that they are of", {
  object <- fit_spots(RunDestVI, reference_n_latent = 3, reference_n_hidden = 16, variance_penalty = 2, batch = "batch")
  arguments <- summary(get_model(object))$arguments
  expect_equal(arguments[c("n_latent", "n_hidden", "variance_penalty")], list(n_latent = 3, n_hidden = 16, variance_penalty = 2))
  expect_equal(dim(get_gamma(get_model(object))$type0), c(60, 3))
  expect_equal(unlist(reticulate::py_to_r(get_model(object)$python$setup$categories[["batch"]])), c("slide0", "slide1"))
  expect_message(stereoscope(spots_object(), get_model(write_back(train(
    stereoscope_reference(cells_object()[-(1:30), ], labels = "cell_type"), max_epochs = 1, verbose = FALSE
  ), cells_object()))), "30 are not in the reference")
  genes <- get_genes(stereoscope(spots_object()[-(1:30), ], train(
    stereoscope_reference(cells_object(), labels = "cell_type"), max_epochs = 1, verbose = FALSE
  ), verbose = FALSE))
  expect_identical(genes["gene3", "left_out"], "not in the spots")
  expect_identical(genes["gene70", "used"], TRUE)
})

test_that("counts smoothed over neighbours are read where the object has them, also of other spots and of a saved model", {
  object <- spots_object()
  counts <- read_cells(object)$counts
  places <- as.matrix(stats::dist(SeuratObject::Embeddings(object, "spatial")))
  near <- t(apply(places, 1, rank, ties.method = "first")) %in% 2:9 + 0
  smoothed <- as_sparse(as.matrix(counts) %*% t(matrix(near, ncol(counts), dimnames = dimnames(places))))
  object[["smoothed"]] <- SeuratObject::CreateAssayObject(counts = smoothed[rev(seq_len(nrow(smoothed))), ])
  after <- fit_spots(RunStereoscope, object, smoothed_layer = "smoothed")
  model <- get_model(after)
  read <- as.matrix(reticulate::py_to_r(model$python$read()[["smoothed"]]$dense()$numpy()))
  expect_equal(read, unname(t(as.matrix(smoothed)))[, match(model$features, rownames(smoothed))], tolerance = 1e-5)
  shares <- get_proportions(model)
  expect_gt(reticulate::py_to_r(model$python$module$nearby$item()), 0)
  expect_equal(get_proportions(model, object[, 11:20]), shares[11:20, ], tolerance = 1e-5)
  expect_error(get_proportions(model, spots_object()), "smoothed", class = "scelbo_setup_error")
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  expect_equal(get_proportions(load_model(folder, object)), shares, tolerance = 1e-5)
  reference <- train(stereoscope_reference(cells_object(), labels = "cell_type"), max_epochs = 1, verbose = FALSE)
  fit <- function(object, layer) stereoscope(object, reference, smoothed_layer = layer, verbose = FALSE)
  expect_error(fit(object, "smoothd"), "Did you mean 'smoothed'", class = "scelbo_setup_error")
  fewer <- object
  fewer[["smoothed"]] <- SeuratObject::CreateAssayObject(counts = smoothed[-3, ])
  expect_error(fit(fewer, "smoothed"), "gene2", class = "scelbo_setup_error")
  below <- object
  below[["smoothed"]] <- SeuratObject::CreateAssayObject(data = -smoothed)
  expect_error(fit(below, "smoothed"), "negative", class = "scelbo_data_error")
  expect_error(fit(counts, "smoothed"), "smoothed", class = "scelbo_setup_error")
  skip_if_not_installed("SingleCellExperiment")
  sce <- as_sce(simulated_spots()$spots)
  SummarizedExperiment::assay(sce, "around") <- smoothed
  after <- fit_spots(runStereoscope, sce, as_sce(simulated_spots()$cells), smoothed_layer = "around")
  expect_equal(get_proportions(get_model(after)), shares, tolerance = 1e-5)
  adata <- as_anndata(spots_object())
  reticulate::py_set_item(adata$layers, "around", fit(object, "smoothed")$python$adata$layers[["smoothed"]])
  expect_gt(reticulate::py_to_r(fit(adata, "around")$python$module$nearby$item()), 0)
})

test_that("fine labels are told of cells, and of what is in spots", {
  cells <- cells_object()
  of <- as.character(cells$cell_type)
  known <- ifelse(of == "type1", ifelse(seq_along(of) %% 2, "odd", "even"), ifelse(of == "type2", "two", "?"))
  cells$fine <- ifelse(seq_along(of) %% 3 > 0, known, "?")
  object <- fit_spots(RunDestVI, reference = cells, reference_fine_labels = "fine", reference_unlabeled = "?", reference_prior = "mog")
  found <- get_fine_celltypes(get_model(object), cells = c("spot9", "spot3"))
  expect_named(found, c("type1", "type2"))
  expect_identical(dimnames(found$type1), list(c("spot9", "spot3"), c("even", "odd")))
  expect_equal(rowSums(found$type1), c(spot9 = 1, spot3 = 1), tolerance = 1e-5)
  expect_equal(unname(found$type2[, "two"]), c(1, 1))
  reference <- train(condscvi(cells, labels = "cell_type", fine_labels = "fine", unlabeled = "?"), max_epochs = 3, verbose = FALSE)
  labels <- predict(reference)
  expect_identical(write_back(reference, cells)$condscvi_label, labels)
  folder <- withr::local_tempdir()
  save_model(reference, folder, overwrite = TRUE)
  columns <- Filter(length, reference$recipe$columns)
  expect_identical(load_model(folder, cells)$recipe$columns, columns) # which of its cells have a fine label too
  expect_identical(levels(labels), c("even", "odd", "two"))
  expect_identical(names(labels), colnames(cells))
  expect_identical(is.na(unname(labels)), !of %in% c("type1", "type2"))
  expect_true(all(labels[of == "type2"] == "two"))
  chance <- predict(reference, cells[, 1:5], type = "probability")
  expect_identical(rownames(chance), colnames(cells)[1:5])
  expect_equal(unname(rowSums(chance)), as.numeric(of[1:5] %in% c("type1", "type2")), tolerance = 1e-5)
  expect_error(get_fine_celltypes(get_model(dest_fitted())), "without fine labels", class = "scelbo_argument_error")
  cells$fine <- ifelse(seq_along(of) %% 2, "odd", "even")
  expect_error(condscvi(cells, labels = "cell_type", fine_labels = "fine"), "odd \\(in ", class = "scelbo_data_error")
})

test_that("what cannot be is told", {
  model <- get_model(spots_fitted())
  reference <- train(stereoscope_reference(cells_object(), labels = "cell_type"), max_epochs = 1, verbose = FALSE)
  renamed <- read_cells(spots_object())$counts
  rownames(renamed) <- paste0("ENSG", seq_len(nrow(renamed)))
  states <- get_model(dest_fitted())
  expect_error(get_expression_for_ct(states, "typ1"), "Did you mean 'type1'", class = "scelbo_argument_error")
  expect_error(get_scale_for_ct(model, "typ1"), "Did you mean 'type1'", class = "scelbo_argument_error")
  expect_error(stereoscope(renamed, reference), "share no gene", class = "scelbo_data_error")
  expect_error(stereoscope(spots_object()), "`reference` is missing", class = "scelbo_argument_error")
  expect_error(stereoscope(spots_object(), scvi(cells_object())), "is a model of class SCVI; SpatialStereoscope is made of RNAStereoscope",
               class = "scelbo_argument_error")
  expect_error(RunDestVI(spots_object(), cells_object()), "holds no such model", class = "scelbo_argument_error")
  expect_error(RunStereoscope(spots_object(), reference, reference_max_epochs = 3), "Give `labels`", class = "scelbo_argument_error")
  expect_error(stereoscope(spots_object(), stereoscope_reference(cells_object(), labels = "cell_type")), class = "scelbo_training_error")
  expect_error(stereoscope_reference(cells_object(), labels = "cell_tipe"), "Did you mean 'cell_type'", class = "scelbo_setup_error")
  expect_error(get_gamma(model), "has no get_gamma", class = "scelbo_argument_error")
  expect_error(get_proportions(states, spots_object()[-2, ]), "gene1", class = "scelbo_setup_error")
  expect_error(write_back(model, spots_object(), features = "gene1"), "get_scale_for_ct|get_expression_for_ct",
               class = "scelbo_argument_error")
})
