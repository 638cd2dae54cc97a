skip_without_backend()

test_that("RunSCVI adds a reduction and the model, and changes nothing else", {
  before <- seurat_object()
  untouched <- serialize(before, NULL)
  after <- RunSCVI(before, "batch", n_latent = 3, max_epochs = 2, verbose = FALSE)
  expect_identical(serialize(before, NULL), untouched)
  expect_equal(dim(after[["scvi"]]), c(150, 3))
  expect_equal(SeuratObject::Key(after[["scvi"]]), "scvi_", ignore_attr = TRUE)
  expect_identical(after[[]], before[[]])
  expect_identical(after[["RNA"]], before[["RNA"]])
  expect_equal(SeuratObject::Embeddings(after[["scvi"]]), get_latent_representation(get_model(after)))
})

test_that("the model in an object survives saveRDS, and answers with the object's cells", {
  object <- RunSCVI(seurat_object(), ~ batch + depth, max_epochs = 20, n_latent = 4, verbose = FALSE)
  markers <- FindMarkersSCVI(object, "a", group.by = "type", seed = 1)
  path <- withr::local_tempfile()
  saveRDS(object, path)
  expect_equal(FindMarkersSCVI(readRDS(path), "a", group.by = "type", seed = 1), markers, tolerance = 1e-5)
  part <- FindMarkersSCVI(object[, 1:90], "a", group.by = "type")
  expect_equal(nrow(part), 60)
})

test_that("markers have FindMarkers' columns", {
  object <- write_back(trained_model(), seurat_object())
  markers <- FindMarkersSCVI(object, ident.1 = "a", group.by = "type")
  expect_equal(names(markers)[1:7], c("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj", "proba_de", "bayes_factor"))
  expect_setequal(head(rownames(markers), 5), paste0("gene", 1:5))
  expect_equal(markers$p_val, 1 - markers$proba_de)
  expect_true(all(diff(markers$p_val_adj) >= 0))
  counts <- as.matrix(simulate_counts())
  expect_equal(markers["gene1", "pct.1"], mean(counts["gene1", cell_types(150) == "a"] > 0), tolerance = 1e-6)
  expect_true(all(FindMarkersSCVI(object, "a", group.by = "type", only.pos = TRUE)$avg_log2FC > 0))
  two <- FindMarkersSCVI(object, c("a", "b"), "c", group.by = "type")
  expect_equal(nrow(two), 60)
})

test_that("markers of all groups come at once", {
  object <- write_back(trained_model(), seurat_object())
  SeuratObject::Idents(object) <- object$type
  markers <- FindAllMarkersSCVI(object)
  expect_equal(levels(markers$cluster), c("a", "b", "c"))
  expect_setequal(head(markers$gene[markers$cluster == "a"], 5), paste0("gene", 1:5))
})

test_that("case against control comes for all groups at once", {
  object <- write_back(trained_model(), seurat_object())
  object$stim <- toupper(object$batch) # no column of the model's
  object$donor <- rep(1:3, 50)
  changes <- FindConditionMarkersSCVI(object, c("stim", "Y", "X"), group.by = "type", replicates = "donor",
                                      n_permutations = 1, seed = 1)
  expect_true("replicates_agree" %in% names(changes))
  by_vectors <- FindConditionMarkersSCVI(object, object$stim, group.by = "type", replicates = object$donor, seed = 1)
  expect_equal(by_vectors, changes, ignore_attr = TRUE)
  expect_error(FindConditionMarkersSCVI(object, "stm"), "Did you mean 'stim'", class = "scelbo_setup_error")
  expect_equal(names(changes)[1:5], c("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj"))
  expect_equal(tail(names(changes), 2), c("cluster", "gene"))
  expect_equal(levels(changes$cluster), c("a", "b", "c"))
  planted <- tapply(changes$gene, changes$cluster, function(genes) sum(head(genes, 11) %in% paste0("gene", 20:30)))
  expect_true(all(planted > 8))
  counts <- as.matrix(simulate_counts())
  here <- cell_types(150) == "b" & cell_batches(150) == "y"
  expect_equal(changes$pct.1[changes$cluster == "b" & changes$gene == "gene25"], mean(counts["gene25", here] > 0))
  expect_equal(nrow(attr(changes, "permutations")), 3)
})

test_that("normalised expression comes as an assay of the chosen features", {
  object <- write_back(trained_model(), seurat_object(), features = c("gene1", "gene2"))
  expect_equal(dim(object[["scvi_normalized"]]), c(2, 150))
  expect_equal(SeuratObject::DefaultAssay(object), "RNA")
})

test_that("models go by name", {
  object <- write_back(trained_model(), seurat_object(), name = "first")
  object <- write_back(trained_model(), object, name = "second")
  expect_true(all(c("first", "second") %in% names(object@reductions)))
  expect_s3_class(get_model(object, "first"), "scelbo_model")
  expect_error(get_model(object, "frist"), "Did you mean 'first'", class = "scelbo_setup_error")
  expect_error(get_model(seurat_object()), "RunSCVI", class = "scelbo_setup_error")
  expect_error(FindMarkersSCVI(object, "A", group.by = "type"), class = "scelbo_setup_error")
  expect_error(write_back(trained_model(), mtcars), class = "scelbo_argument_error")
})
