skip_without_backend()

# 10 genes mark types "a" and "b"; "c" shows none of them.
marked_counts <- function() {
  counts <- as.matrix(simulate_counts())
  withr::with_seed(5, {
    mark <- function(genes, type) {
      at <- cell_types(150) == type
      counts[genes, at] <<- counts[genes, at] + stats::rpois(length(genes) * sum(at), 8)
    }
    mark(41:45, "a")
    mark(46:50, "b")
  })
  as_sparse(counts)
}

marked_object <- function() {
  skip_if_not_installed("SeuratObject")
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(marked_counts()))
  object$batch <- cell_batches(150)
  object$type <- cell_types(150)
  object
}

marked_sce <- function() {
  skip_if_not_installed("SingleCellExperiment")
  about <- S4Vectors::DataFrame(batch = cell_batches(150))
  SingleCellExperiment::SingleCellExperiment(list(counts = marked_counts()), colData = about)
}

genes <- function(at) paste0("gene", at)
marker_list <- list(a = genes(41:45), b = genes(46:50), other = character())
marker_table <- vapply(marker_list, function(of) as.numeric(genes(41:50) %in% of), numeric(10))
rownames(marker_table) <- genes(41:50)

assigned <- function() {
  if (is.null(shared$assigned)) {
    shared$assigned <- train(cellassign(marked_object(), marker_list, batch = "batch"), max_epochs = 150, verbose = FALSE)
  }
  shared$assigned
}

test_that("types are found by their markers", {
  label <- predict(assigned())
  expect_identical(levels(label), c("a", "b", "other"))
  expect_gt(mean(label == ifelse(cell_types(150) == "c", "other", cell_types(150))), 0.9)
  chance <- predict(assigned(), type = "probability")
  expect_identical(dimnames(chance), list(paste0("cell", 1:150), c("a", "b", "other")))
  expect_equal(unname(rowSums(chance)), rep(1, 150), tolerance = 1e-5)
  effects <- get_marker_effects(assigned())
  expect_named(effects, c("gene", "cell_type", "log_fold_change", "level"))
  expect_setequal(effects$gene, genes(41:50))
  expect_identical(levels(effects$cell_type), c("a", "b"))
  expect_true(all(effects$log_fold_change >= log(2) - 1e-6))
  expect_type(get_elbo(assigned()), "double")
})

test_that("a list, a matrix, a data.frame, logicals and a sparse matrix are the same markers", {
  expected <- predict(train(cellassign(marked_counts(), marker_list), max_epochs = 2, verbose = FALSE), type = "probability")
  for (markers in list(marker_table, as.data.frame(marker_table), marker_table == 1, Matrix::Matrix(marker_table))) {
    model <- train(cellassign(marked_sce(), markers), max_epochs = 2, verbose = FALSE)
    expect_equal(predict(model, type = "probability"), expected, tolerance = 1e-5)
  }
})

test_that("RunCellAssign and runCellAssign write labels; there is no reduction", {
  before <- marked_object()
  after <- RunCellAssign(before, marker_list, batch = "batch", max_epochs = 5, verbose = FALSE)
  expect_named(after[[]], c(names(before[[]]), "cellassign_label", "cellassign_probability"))
  expect_length(after@reductions, 0)
  expect_equal(unname(after$cellassign_label), unname(predict(get_model(after))))
  expect_equal(unname(after$cellassign_probability), unname(apply(predict(get_model(after), type = "probability"), 1, max)))
  expect_output(print(get_model(after)), "markers = 'a', 'b', 'other'")

  sce <- runCellAssign(marked_sce(), marker_table, max_epochs = 5, verbose = FALSE)
  expect_length(SingleCellExperiment::reducedDims(sce), 0)
  expect_s3_class(sce$cellassign_label, "factor")
  path <- withr::local_tempfile()
  saveRDS(sce, path)
  back <- readRDS(path)
  expect_equal(unname(predict(get_model(back), back)), sce$cellassign_label)
})

test_that("library sizes are of all features, also of other cells and of a model from a folder", {
  object <- marked_object()
  SeuratObject::VariableFeatures(object) <- genes(1:20) # which hold no marker
  model <- train(cellassign(object, marker_list), max_epochs = 3, verbose = FALSE)
  expect_identical(sort(model$features), sort(genes(41:50)))
  chance <- predict(model, type = "probability")
  expect_equal(predict(model, marked_object()[, 5:30], type = "probability"), chance[5:30, ], tolerance = 1e-5)
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  expect_equal(predict(load_model(folder), object, type = "probability"), chance, tolerance = 1e-5)
  expect_equal(predict(load_model(folder, object), type = "probability"), chance, tolerance = 1e-5)
  chosen <- train(cellassign(object, marker_list, features = genes(41:50)), max_epochs = 3, verbose = FALSE)
  expect_false(isTRUE(all.equal(predict(chosen, type = "probability"), chance, tolerance = 1e-3)))
})

test_that("markers that cannot be used are told, all problems at once", {
  counts <- marked_counts()
  wrong <- marker_table
  wrong[1:2, 1] <- c(2, NA)
  twice <- cbind(marker_table, a = 0)
  expect_snapshot({
    said(cellassign(counts))
    said(cellassign(counts, genes(1:5)))
    said(cellassign(counts, list("gene1", "gene2")))
    said(cellassign(counts, unname(marker_table)))
    said(cellassign(counts, twice))
    said(cellassign(counts, wrong))
    said(cellassign(counts, t(marker_table)))
    said(cellassign(counts, list(a = "gene1", b = character())))
    said(cellassign(counts, list(a = "gene1", b = "Gene2")))
    said(cellassign(counts, marker_list, min_log_fold_change = 0))
    said(get_latent_representation(assigned()))
    said(get_normalized_expression(assigned()))
    said(predict_sets(assigned()))
  })
  expect_warning(cellassign(counts, c(marker_list[1:2], list(c = c("gene1", "gene2", "gene3", "gene99")))), "gene99",
                 class = "scelbo_data_warning")
  expect_true(check_data(marked_object(), markers = marker_list, model = "cellassign", forecast = FALSE)$ok)
})
