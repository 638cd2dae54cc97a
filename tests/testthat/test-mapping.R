skip_without_backend()

# 60 of the simulated cells once more, without seven of the features; `kind` makes them another kind of cell.
new_cells <- function(known = TRUE) {
  counts <- simulate_counts()[8:60, 1:60]
  if (!known) counts@x <- withr::with_seed(1, sample(counts@x) * 9)
  colnames(counts) <- paste0("new", 1:60)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(counts))
  object$batch <- rep(c("x", "z", "z"), each = 20)
  object
}

mapped <- function() {
  if (is.null(shared$mapped)) {
    model <- load_query_data(trained_model(), new_cells(), verbose = FALSE)
    shared$mapped <- train(model, max_epochs = 2, verbose = FALSE)
  }
  shared$mapped
}

test_that("labels go from the reference's nearest cells to the query's", {
  reference <- trained_model()
  model <- mapped()
  found <- transfer_labels(model, seurat_object(), "type")
  expect_identical(rownames(found), paste0("new", 1:60))
  expect_s3_class(found$label, "factor")
  expect_true(all(found$probability > 1 / 3 & found$probability <= 1))
  expect_equal(transfer_labels(model, reference, cell_types(150)), found, tolerance = 1e-5)
  one <- transfer_labels(model, seurat_object(), "type", cells = c("new9", "new2"), n_neighbors = 1)
  expect_identical(rownames(one), c("new9", "new2"))
  expect_equal(one$probability, c(1, 1))
  known <- get_latent_representation(model, object = seurat_object())
  nearest <- apply(get_latent_representation(model), 1, function(z) which.min(colSums((t(known) - z)^2)))
  expect_identical(as.character(transfer_labels(model, seurat_object(), "type", n_neighbors = 1)$label),
                   cell_types(150)[nearest])
  some <- replace(cell_types(150), cell_types(150) == "b", NA)
  expect_identical(levels(transfer_labels(model, reference, some)$label), c("a", "c"))
  expect_error(transfer_labels(model, seurat_object(), "typ"), "Did you mean 'type'", class = "scelbo_setup_error")
  expect_error(transfer_labels(model, reference, rep(NA, 150)), class = "scelbo_argument_error")
})

test_that("cells of another kind score lower", {
  reference <- trained_model()
  scores <- get_mapping_score(mapped(), reference)
  expect_identical(dimnames(scores), list(paste0("new", 1:60), c("mapping_score", "near", "expected")))
  expect_true(all(scores >= 1 / 16 & scores <= 1)) # 15 cells were held out
  strange <- get_mapping_score(mapped(), reference, object = new_cells(known = FALSE))
  expect_lt(mean(strange$mapping_score), mean(scores$mapping_score) / 2)
  atlas <- write_back(reference, seurat_object())
  expect_equal(get_mapping_score(mapped(), atlas), scores, tolerance = 1e-6)
  reopened <- unserialize(serialize(atlas, NULL))
  expect_equal(get_mapping_score(mapped(), reopened), scores, tolerance = 1e-6)
  expect_equal(nrow(get_mapping_score(mapped(), atlas[, 1:40], cells = 1:3)), 3) # cells, not the model's own
  alone <- unserialize(serialize(reference, NULL))
  expect_error(get_mapping_score(mapped(), alone), "without the cells", class = "scelbo_setup_error")
})

test_that("mapping writes labels, probabilities and scores into the object", {
  atlas <- write_back(trained_model(), seurat_object())
  before <- new_cells()
  after <- MapQuerySCVI(before, atlas, labels = "type", max_epochs = 2, verbose = FALSE)
  expect_identical(after[[]][names(before[[]])], before[[]])
  expect_equal(as.character(after$scvi_label), as.character(transfer_labels(mapped(), atlas, "type")$label),
               ignore_attr = TRUE)
  expect_equal(unname(after$scvi_mapping_score), get_mapping_score(mapped(), atlas)$mapping_score, tolerance = 1e-5)
  fetched <- SeuratObject::FetchData(after, c("scvi_1", "scvi_probability")) # a column is no dimension of the reduction
  expect_equal(fetched$scvi_probability, unname(after$scvi_probability))
  expect_error(MapQuerySCVI(before, atlas, labels = "typ"), "Did you mean 'type'", class = "scelbo_setup_error")
  plain <- MapQuerySCVI(before, atlas, score = FALSE, max_epochs = 1, verbose = FALSE)
  expect_identical(names(plain[[]]), names(before[[]]))

  folder <- withr::local_tempdir()
  save_model(trained_model(), folder, overwrite = TRUE)
  expect_message(told <- MapQuerySCVI(before, folder, max_epochs = 1, verbose = FALSE), "no mapping score")
  expect_identical(names(told[[]]), names(before[[]]))
  expect_error(MapQuerySCVI(before, folder, labels = "type"), "without the cells", class = "scelbo_setup_error")

  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = read_cells(before)$counts), colData = before[[]])
  sce <- mapQuerySCVI(sce, atlas, labels = "type", max_epochs = 2, verbose = FALSE)
  expect_equal(sce$scvi_label, unname(after$scvi_label), ignore_attr = TRUE)
  expect_true(all(c("scvi_probability", "scvi_mapping_score") %in% names(SummarizedExperiment::colData(sce))))
})

test_that("a query is mapped in one call onto every model that takes one", {
  for (step in list(list(RunLinearSCVI, MapQueryLinearSCVI, "linearscvi"), list(RunAUTOZI, MapQueryAUTOZI, "autozi"))) {
    atlas <- step[[1]](seurat_object(), "batch", n_latent = 3, max_epochs = 2, verbose = FALSE)
    after <- step[[2]](new_cells(), atlas, labels = "type", max_epochs = 1, verbose = FALSE)
    expect_identical(dim(after[[step[[3]]]]), c(60L, 3L))
    expect_true(all(paste0(step[[3]], c("_label", "_probability", "_mapping_score")) %in% names(after[[]])))
    sce <- write_back(get_model(atlas), sce_object())
    map <- get(sub("^M", "m", c(linearscvi = "MapQueryLinearSCVI", autozi = "MapQueryAUTOZI")[[step[[3]]]]))
    expect_identical(dim(SingleCellExperiment::reducedDim(map(sce[8:60, 1:60], sce, max_epochs = 1, verbose = FALSE))), c(60L, 3L))
  }
})
