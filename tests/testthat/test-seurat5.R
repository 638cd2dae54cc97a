# What only Seurat 5 has: layers that are split, assays of part of the cells, methods of IntegrateLayers().
skip_without_backend()
skip_if_not_installed("SeuratObject", "5.0.0")

# 150 cells with genes, proteins and peaks, each an Assay5.
object_v5 <- function() {
  object <- seurat_object()
  counts <- simulate_counts()
  others <- list(ADT = counts[1:6, ], peaks = as_sparse((counts > 1) + 0))
  for (assay in names(others)) {
    rownames(others[[assay]]) <- paste0(assay, seq_len(nrow(others[[assay]])))
    object[[assay]] <- SeuratObject::CreateAssay5Object(counts = others[[assay]])
  }
  object
}

split_by_batch <- function(object) {
  for (assay in SeuratObject::Assays(object)) object[[assay]] <- split(object[[assay]], f = object$batch)
  object
}

layers_of <- function(object) sapply(SeuratObject::Assays(object), function(assay) SeuratObject::Layers(object[[assay]]), simplify = FALSE)

all_in <- function(object) {
  added <- setdiff(SeuratObject::Assays(object), c("RNA", "ADT", "peaks"))
  list(object[[]], object[["RNA"]][[]], lapply(object@reductions, SeuratObject::Embeddings),
       lapply(added, function(assay) as.matrix(SeuratObject::LayerData(object, "data", assay))))
}

quick <- list(max_epochs = 2, seed = 1, verbose = FALSE)
runs <- list(
  RunSCVI = list(batch = "batch"), RunLinearSCVI = list(batch = "batch"), RunAUTOZI = list(batch = "batch"),
  RunAmortizedLDA = list(n_topics = 3), RunSCANVI = list(labels = "type", batch = "batch"),
  RunCellAssign = list(markers = list(a = paste0("gene", 1:5), other = character()), batch = "batch"),
  RunSOLO = list(batch = "batch", expected_doublet_rate = 0.1, solo_epochs = 2),
  RunPEAKVI = list(batch = "batch", assay = "peaks"), RunTOTALVI = list(batch = "batch"), RunMULTIVI = list(batch = "batch")
)

for (run in names(runs)) {
  test_that(paste(run, "takes split layers for what they are joined, and leaves them split"), {
    fit <- function(object) do.call(run, c(list(object), runs[[run]], quick))
    apart <- split_by_batch(object_v5())
    after <- fit(apart)
    expect_equal(all_in(after), all_in(fit(object_v5())), tolerance = 1e-5)
    expect_identical(layers_of(after)[c("RNA", "ADT", "peaks")], layers_of(apart))
    expect_equal(get_model(after)$cells, colnames(apart))
  })
}

for (run in c("RunGIMVI", "RunStereoscope", "RunDestVI")) {
  test_that(paste(run, "takes split layers of both objects"), {
    more <- switch(run, RunGIMVI = list(impute = "gene31"), list(labels = "type", reference_max_epochs = 2))
    fit <- function(made) {
      spots <- seurat_object(simulate_counts()[1:30, ])
      spots <- SeuratObject::RenameCells(made(spots), add.cell.id = "spot")
      do.call(run, c(list(spots, made(object_v5())), more, quick))
    }
    expect_equal(all_in(fit(split_by_batch)), all_in(fit(identity)), tolerance = 1e-5)
  })
}

test_that("objects that were merged are read as one", {
  whole <- seurat_object()
  merged <- merge(whole[, 1:75], whole[, 76:150])
  expect_setequal(SeuratObject::Layers(merged), c("counts.1", "counts.2"))
  fit <- function(object) do.call(RunSCVI, c(list(object, "batch"), quick))
  after <- fit(merged)
  expect_equal(SeuratObject::Embeddings(after, "scvi"), SeuratObject::Embeddings(fit(whole), "scvi"), tolerance = 1e-5)
  found <- FindMarkersSCVI(after, "a", group.by = "type", seed = 1)
  expect_equal(found, FindMarkersSCVI(fit(whole), "a", group.by = "type", seed = 1), tolerance = 1e-4)
})

test_that("the variable features of split layers are those that are read", {
  skip_if_not_installed("Seurat")
  object <- Seurat::FindVariableFeatures(split_by_batch(seurat_object()), nfeatures = 20, verbose = FALSE)
  expect_identical(scvi(object)$features, SeuratObject::VariableFeatures(object))
})

integrate <- function(object, method, ...) {
  skip_if_not_installed("Seurat", "5.0.0")
  suppressWarnings(Seurat::IntegrateLayers( # it looks for normalised values
    object, method = method, orig.reduction = NULL, features = rownames(object), new.reduction = "joint", ..., n_latent = 3,
    max_epochs = 2, verbose = FALSE
  ))
}

test_that("IntegrateLayers takes scVI as a method, and the object keeps the model", {
  object <- integrate(split_by_batch(seurat_object()), SCVIIntegration)
  joined <- train(scvi(seurat_object(), "batch", n_latent = 3), max_epochs = 2, verbose = FALSE)
  expect_equal(SeuratObject::Embeddings(object, "joint"), get_latent_representation(joined), tolerance = 1e-5, ignore_attr = TRUE)
  expect_equal(unname(object$joint_batch), seurat_object()$batch, ignore_attr = TRUE)
  path <- withr::local_tempfile()
  saveRDS(object, path)
  back <- readRDS(path)
  expect_equal(get_latent_representation(get_model(back, "joint"), back), get_latent_representation(joined), tolerance = 1e-5,
               ignore_attr = TRUE)
  both <- write_back(joined, object)
  expect_named(models_in(both), c("joint", "scvi"))
  expect_error(integrate(seurat_object(), SCVIIntegration), "nothing to integrate.*Split them", class = "scelbo_setup_error")
})

test_that("IntegrateLayers takes scANVI as a method, with labels in any order", {
  object <- split_by_batch(seurat_object())
  object$known <- factor(ifelse(1:150 %% 2 == 0, object$type, NA))
  alone <- RunSCANVI(object, "known", "batch", n_latent = 3, max_epochs = 2, verbose = FALSE, name = "joint")
  after <- integrate(object, SCANVIIntegration, labels = rev(object$known))
  expect_equal(SeuratObject::Embeddings(after, "joint"), SeuratObject::Embeddings(alone, "joint"), tolerance = 1e-5)
  expect_equal(after[[]][c("joint_label", "joint_probability")], alone[[]][c("joint_label", "joint_probability")], tolerance = 1e-5)
  expect_equal(annotate_cells(get_model(after), after[, 1:20]), annotate_cells(get_model(alone), alone[, 1:20]), tolerance = 1e-5)
  expect_error(integrate(object, SCANVIIntegration, labels = "known"), "1 values for 150 cells", class = "scelbo_argument_error")
})

test_that("a query may be split, on a reference that is", {
  reference <- do.call(RunSCVI, c(list(split_by_batch(object_v5()), "batch"), quick))
  query <- SeuratObject::RenameCells(object_v5(), add.cell.id = "new")
  query$batch <- ifelse(query$batch == "x", "x", "z")
  map <- function(object) do.call(MapQuerySCVI, c(list(object, reference, labels = "type"), quick))
  expect_equal(all_in(map(split_by_batch(query))), all_in(map(query)), tolerance = 1e-5)
})

test_that("an assay may have part of the cells, as a sketch has", {
  object <- some <- seurat_object()
  object[["sketch"]] <- SeuratObject::CreateAssay5Object(counts = simulate_counts()[, 31:130])
  fit <- function(object, ...) do.call(RunSCANVI, c(list(object, "type", "batch", ...), quick))
  after <- fit(object, assay = "sketch")
  alone <- fit(some[, 31:130])
  expect_equal(SeuratObject::Embeddings(after, "scanvi"), SeuratObject::Embeddings(alone, "scanvi"), tolerance = 1e-5)
  expect_equal(after$scanvi_probability[31:130], alone$scanvi_probability, tolerance = 1e-5)
  expect_identical(is.na(after$scanvi_label), setNames(!1:150 %in% 31:130, colnames(object)))
  found <- FindMarkersSCVI(after, "a", group.by = "type", seed = 1)
  expect_equal(found, FindMarkersSCVI(alone, "a", group.by = "type", seed = 1), tolerance = 1e-5)
  every <- FindAllMarkersSCVI(after, group.by = "type", seed = 1)
  expect_equal(every, FindAllMarkersSCVI(alone, group.by = "type", seed = 1), tolerance = 1e-5)
  changes <- FindConditionMarkersSCVI(after, c("batch", "y", "x"), group.by = "type", seed = 1)
  expect_equal(changes, FindConditionMarkersSCVI(alone, c("batch", "y", "x"), group.by = "type", seed = 1), tolerance = 1e-5)
})

test_that("images of Seurat 5 know places; rows of a VisiumV2 go down", {
  skip_if_not_installed("Seurat", "5.0.0")
  object <- seurat_object()
  places <- data.frame(x = rep(1:15, 10), y = rep(1:10, each = 15), cell = colnames(object))
  field <- SeuratObject::CreateFOV(places, type = "centroids", assay = "RNA", key = "fov_")
  object[["fov"]] <- field
  expect_equal(places_in(object)[c("x", "y")], places[c("x", "y")], ignore_attr = TRUE)
  object[["fov"]] <- NULL
  factors <- Seurat::scalefactors(spot = 1, fiducial = 1, hires = 0.5, lowres = 0.1)
  object[["slice"]] <- methods::new(structure("VisiumV2", package = "Seurat"), boundaries = list(centroids = field[["centroids"]]),
                                    assay = "RNA", key = "slice_", image = array(0, c(2, 2, 3)), scale.factors = factors)
  expect_equal(places_in(object), data.frame(x = places$y, y = -places$x, slide = "slice"), ignore_attr = TRUE)
})

# Layers by assay, as matrices with names.
layers_in_v5 <- function(object) {
  sapply(SeuratObject::Assays(object), function(assay) {
    from <- object[[assay]]
    sapply(SeuratObject::Layers(from), function(layer) SeuratObject::LayerData(from, layer = layer, fast = FALSE), simplify = FALSE)
  }, simplify = FALSE)
}

test_that("an object of Seurat 5 comes back as it was from a file", {
  skip_if_not_installed("Seurat", "5.0.0")
  object <- full_seurat()
  SeuratObject::LayerData(object, assay = "RNA", layer = "twice") <- SeuratObject::LayerData(object, "counts") * 2
  back <- through_file(object, "seurat")
  expect_equal(vapply(SeuratObject::Assays(back), function(assay) class(back[[assay]])[[1]], ""),
               vapply(SeuratObject::Assays(object), function(assay) class(object[[assay]])[[1]], ""))
  now <- layers_in_v5(back)
  before <- layers_in_v5(object)
  for (assay in c("RNA", "ADT")) {
    expect_setequal(names(now[[assay]]), names(before[[assay]]))
    for (layer in names(before[[assay]])) expect_equal(now[[assay]][[layer]], before[[assay]][[layer]], info = paste(assay, layer))
  }
  for (part in c("meta.data", "active.assay", "active.ident", "project.name", "misc", "reductions", "graphs", "neighbors")) {
    expect_equal(slot(back, part), slot(object, part), info = part)
  }
  expect_identical(SeuratObject::VariableFeatures(back), SeuratObject::VariableFeatures(object))
  expect_identical(SeuratObject::Key(back[["ADT"]]), SeuratObject::Key(object[["ADT"]]))
})

test_that("split layers come back joined, an assay of some of the cells as it was", {
  object <- split_by_batch(seurat_object())
  back <- through_file(object, "seurat")
  expect_identical(SeuratObject::Layers(back), "counts")
  expect_equal(SeuratObject::LayerData(back, "counts"), simulate_counts())
  object <- seurat_object()
  object[["sketch"]] <- SeuratObject::CreateAssay5Object(counts = simulate_counts()[, 31:130])
  back <- through_file(object, "seurat")
  expect_equal(SeuratObject::LayerData(back[["sketch"]], "counts"), SeuratObject::LayerData(object[["sketch"]], "counts"))
  SeuratObject::DefaultAssay(object) <- "sketch" # X has all cells, whatever the default is
  expect_equal(reticulate::py_to_r(as_anndata(object)$n_obs), 150)
  expect_equal(reticulate::py_to_r(as_anndata(object, assay = "sketch")$n_obs), 100)
})

test_that("layers of an AnnData are layers of the assay", {
  object <- read_h5ad(scanpy_cells())
  expect_setequal(SeuratObject::Layers(object[["RNA"]]), c("counts", "data", "spliced"))
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path)
  compare_files(scanpy_cells(), path)
})
