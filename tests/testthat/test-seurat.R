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

test_that("markers come of the last model of expression, or the one that is named", {
  object <- object_of_all()
  of <- function(constructor, ...) train(constructor(object, ...), max_epochs = 1, seed = 1, verbose = FALSE)
  made <- list(of(scvi), of(scanvi, "type"), of(linearscvi), of(autozi), of(totalvi, n_hidden = 16), of(multivi, n_hidden = 16),
               of(gimvi, object[1:20, ]), of(condscvi, "type"), of(peakvi, assay = "peaks"), of(amortizedlda, n_topics = 2))
  holds <- object
  for (model in made) if (model$class != "GIMVI") holds <- write_back(model, holds) # whose cells are those of two objects
  markers <- lapply(c("scvi", "scanvi", "linearscvi", "autozi", "totalvi", "multivi", "condscvi"), function(name) {
    FindMarkersSCVI(holds, "a", "b", group.by = "type", name = name, seed = 1)
  })
  for (found in markers) {
    expect_identical(names(found)[1:5], c("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj"))
    expect_true(all(paste0("gene", 1:60) %in% rownames(found)))
  }
  expect_setequal(unique(markers[[5]]$modality), c("rna", "protein"))
  expect_equal(FindMarkersSCVI(holds, "a", "b", group.by = "type", seed = 1), markers[[7]], tolerance = 1e-5) # not PEAKVI's, nor topics
  expect_identical(names(FindMarkersPEAKVI(holds, "a", group.by = "type"))[1:5], names(markers[[1]])[1:5])
  expect_error(FindMarkersSCVI(holds, "a", group.by = "type", name = "amortizedlda"), "no differential_expression",
               class = "scelbo_argument_error")
  expect_error(FindMarkersSCVI(sce_object(), "a", group.by = "type"), "get_model", class = "scelbo_argument_error")
})

test_that("values of all cells are matched by name to those that a model reads, as of a sketch", {
  groups <- setNames(factor(c("a", "b", "a", "c")), paste0("c", 1:4))
  some <- c("c4", "c1")
  expect_identical(as.character(find_values(NULL, groups, NULL, some, "group_by")), c("c", "a"))
  object <- seurat_object()
  some <- colnames(object)[c(9, 3)]
  expect_identical(as.character(find_values(NULL, "type", object, some, "group_by")), unname(object$type[c(9, 3)]))
  expect_identical(cell_positions(c(c1 = TRUE, c2 = FALSE, c3 = TRUE, c4 = FALSE), c("c3", "c2", "c1")), c(0L, 2L))
  expect_error(find_values(NULL, unname(groups), NULL, c("c4", "c1"), "group_by"), "4 values for 2 cells", class = "scelbo_argument_error")
})

test_that("whatever is asked first of a model from a file, in a new session, starts the right Python", {
  path <- withr::local_tempfile(fileext = ".rds")
  saveRDS(list(trained_model(), write_back(trained_model(), seurat_object())), path)
  for (asked in c("print(back[[1]])", "as.data.frame(back[[1]])$epoch", "dim(get_normalized_expression(back[[1]], back[[2]], 'gene1'))")) {
    script <- child_script(c(paste0("back <- readRDS(", deparse(path), ")"), paste0("cat('answer:', capture.output(", asked, ")[1])")))
    said <- withr::with_envvar(c(RETICULATE_PYTHON = NA), system2(rscript(), script, stdout = TRUE, stderr = TRUE))
    expect_match(paste(said, collapse = " "), "answer: .*(SCVI|1|150)", info = asked)
  }
})
