skip_without_backend()

# Two lanes of cells of three types, each with a sixth of doublets; each type has genes of its own.
lane_object <- function(n = 240) {
  skip_if_not_installed("SeuratObject")
  counts <- withr::with_seed(11, {
    own <- rep_len(c("a", "b", "c", "none"), 80)
    one <- function(type) stats::rpois(80, ifelse(own == type, 6, 0.5))
    types <- t(replicate(n, sample(c("a", "b", "c"), 2)))
    types[seq_len(n) %% 6 != 0, 2] <- NA
    vapply(seq_len(n), function(i) one(types[i, 1]) + if (is.na(types[i, 2])) 0 else one(types[i, 2]), numeric(80))
  })
  dimnames(counts) <- list(paste0("gene", 1:80), paste0("cell", seq_len(n)))
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(as_sparse(counts)))
  object$lane <- rep_len(c("x", "y"), n)
  object
}
doublets <- seq_len(240) %% 6 == 0

lane_model <- function() {
  if (is.null(shared$lanes)) {
    shared$lanes <- RunSOLO(lane_object(), "lane", expected_doublet_rate = 1 / 6, n_latent = 4, max_epochs = 40,
                            verbose = FALSE)
  }
  shared$lanes
}

test_that("RunSOLO writes calls that find planted doublets, and changes nothing else", {
  before <- lane_object()
  after <- lane_model()
  expect_identical(after[[]][names(before[[]])], before[[]])
  expect_named(after[[]], c(names(before[[]]), "solo_call", "solo_probability"))
  expect_length(after@reductions, 0)
  expect_identical(levels(after$solo_call), c("doublet", "singlet"))
  expect_gt(mean(after$solo_probability[doublets]), mean(after$solo_probability[!doublets]) + 0.2)
  model <- get_model(after)
  expect_s3_class(model, "scelbo_solo")
  expect_identical(unname(predict(model)), unname(after$solo_call))
  expect_output(print(model), "batch: lane")
  expect_output(print(summary(model)), "doublet_ratio +2")
})

test_that("the doublets of a model, of its own cells and of others", {
  model <- get_model(lane_model())
  table <- get_doublets(model)
  expect_named(table, c("lane", "expected_rate", "score", "probability", "call"))
  expect_identical(rownames(table), paste0("cell", 1:240))
  expect_equal(table$expected_rate, rep(1 / 6, 240), tolerance = 1e-6)
  expect_identical(table$call, table$probability > 0.5)
  expect_equal(table$probability, unname(lane_model()$solo_probability))
  expect_equal(sum(get_doublets(model, threshold = NULL)$call), 40) # as many as expected
  expect_identical(get_doublets(model, threshold = 0.9)$call, table$probability > 0.9)
  chance <- predict(model, type = "probability")
  expect_identical(dimnames(chance), list(rownames(table), c("doublet", "singlet")))
  some <- predict(model, lane_object()[, 11:40], type = "probability")
  expect_equal(some, chance[11:40, ], tolerance = 1e-5)
  expect_equal(nrow(predict(model, type = "probability", include_simulated_doublets = TRUE)), 3 * 240)
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  expect_equal(predict(load_model(folder), lane_object(), type = "probability"), chance, tolerance = 1e-5)
})

test_that("runSOLO; a scVI that is there is used, also after saveRDS", {
  skip_if_not_installed("SingleCellExperiment")
  seurat <- lane_object()
  about <- S4Vectors::DataFrame(lane = seurat$lane)
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = read_cells(seurat)$counts), colData = about)
  expect_message(after <- runSOLO(sce, "lane", max_epochs = 2, solo_epochs = 2), "SCVI trained for 2.*SOLO trained for 2|SOLO")
  expect_named(SummarizedExperiment::colData(after), c("lane", "solo_call", "solo_probability"))

  path <- withr::local_tempfile()
  saveRDS(RunSCVI(seurat, "lane", max_epochs = 2, verbose = FALSE), path)
  object <- readRDS(path)
  with_scvi <- RunSOLO(object, scvi = "scvi", solo_epochs = 2, verbose = FALSE)
  expect_equal(unname(with_scvi$solo_probability), after$solo_probability, tolerance = 1e-4)
  some <- RunSOLO(object, scvi = "scvi", restrict_to_batch = "y", solo_epochs = 2, verbose = FALSE)
  expect_identical(is.na(unname(some$solo_probability)), object$lane == "x", ignore_attr = TRUE)
  some <- runSOLO(sce, "lane", restrict_to_batch = "x", max_epochs = 2, solo_epochs = 2, verbose = FALSE)
  expect_identical(is.na(some$solo_call), unname(sce$lane == "y"))
  back <- unserialize(serialize(with_scvi, NULL))
  expect_equal(get_doublets(get_model(back, "solo"), back)$probability, unname(with_scvi$solo_probability), tolerance = 1e-5)
})

test_that("Solo as published: latents and depth, cells for singlets", {
  reference <- train(scvi(lane_object(), "lane", n_latent = 3), max_epochs = 2, verbose = FALSE)
  model <- train(solo(reference, classifier_reads = "latent"), max_epochs = 20, plan = "scvi-tools", verbose = FALSE)
  table <- get_doublets(model)
  expect_true(all(is.na(table$expected_rate)))
  expect_equal(table$probability, stats::plogis(table$score), tolerance = 1e-5)
  expect_gt(mean(table$probability[doublets]), mean(table$probability[!doublets]))
  expect_error(get_doublets(model, threshold = NULL), "singlets", class = "scelbo_argument_error")
  expect_error(solo(reference, classifier_reads = "latnt"), "latent", class = "scelbo_argument_error")
})

test_that("solo() takes lanes, rates, and says what it cannot take", {
  reference <- train(scvi(lane_object(), "lane", n_latent = 3), max_epochs = 2, verbose = FALSE)
  one <- train(solo(reference, restrict_to_batch = "y", expected_doublet_rate = c(y = 0.1)), max_epochs = 1, verbose = FALSE)
  expect_identical(rownames(get_doublets(one)), paste0("cell", seq(2, 240, 2)))
  expect_equal(unique(get_doublets(one)$expected_rate), 0.1, tolerance = 1e-6)
  expect_identical(solo(reference, seed = 3)$cells, reference$cells)
  expect_snapshot({
    said(solo(lane_object()))
    said(solo(get_model(lane_model())))
    said(solo(scvi(lane_object())))
    said(solo(reference, restrict_to_batch = "z"))
    said(solo(reference, expected_doublet_rate = c(z = 0.1)))
    said(solo(reference, expected_doublet_rate = 2))
    said(check_data(lane_object(), model = "solo"))
    said(get_latent_representation(get_model(lane_model())))
    said(annotate_cells(get_model(lane_model())))
    said(write_back(get_model(lane_model()), lane_object(), features = "gene1"))
  })
})

test_that("RunSOLO sets the classifier, and scVI's arguments stay scVI's", {
  object <- RunSOLO(lane_object(), "lane", n_hidden = 24, classifier_reads = "latent", classifier_n_hidden = 16, classifier_n_layers = 2,
                    classifier_dropout_rate = 0.2, max_epochs = 1, solo_epochs = 1, verbose = FALSE)
  asked <- summary(get_model(object))$arguments
  expect_identical(asked[c("classifier_reads", "n_hidden", "n_layers", "dropout_rate")],
                   list(classifier_reads = "latent", n_hidden = 16L, n_layers = 2L, dropout_rate = 0.2))
  expect_identical(asked$scvi$n_hidden, 24L)
  expect_error(RunSOLO(lane_object(), "lane", classifier_reeds = "latent"), "Did you mean 'classifier_reads'",
               class = "scelbo_argument_error")
})
