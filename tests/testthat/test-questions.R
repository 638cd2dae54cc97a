skip_without_backend()

test_that("latents are a matrix of cells x dimensions, in the order asked for", {
  model <- trained_model()
  z <- get_latent_representation(model)
  expect_equal(dimnames(z), list(paste0("cell", 1:150), paste0("scvi_", 1:4)))
  expect_equal(get_latent_representation(model, cells = c("cell9", "cell2")), z[c("cell9", "cell2"), ], tolerance = 1e-6)
  expect_equal(get_latent_representation(model, object = seurat_object()[, 11:40]), z[11:40, ], tolerance = 1e-6)
})

test_that("normalised expression is a matrix of features x cells", {
  model <- trained_model()
  rho <- get_normalized_expression(model, features = c("gene3", "gene1"), cells = 1:10)
  expect_equal(dimnames(rho), list(c("gene3", "gene1"), paste0("cell", 1:10)))
  expect_equal(colSums(get_normalized_expression(model, features = "all", library_size = 1e4)), rep(1e4, 150),
               tolerance = 1e-4, ignore_attr = TRUE)
  x <- get_normalized_expression(model, "gene25", transform_batch = "x", object = NULL)
  y <- get_normalized_expression(model, features = "gene25", transform_batch = "y")
  both <- get_normalized_expression(model, features = "gene25", transform_batch = c("x", "y"))
  expect_gt(mean(y), mean(x))
  expect_equal(both, (x + y) / 2, tolerance = 1e-5)
  drawn <- get_normalized_expression(model, features = c("gene3", "gene1"), n_samples_overall = 9, seed = 1)
  expect_equal(dimnames(drawn), list(c("gene3", "gene1"), paste0("draw", 1:9)))
})

test_that("a dense matrix of everything is not made unasked", {
  model <- trained_model()
  local_value("dense_limit", 8 * 60 * 149)
  expect_error(get_normalized_expression(model), "60 features x 150 cells", class = "scelbo_argument_error")
  expect_equal(dim(get_normalized_expression(model, features = "all")), c(60, 150))
})

test_that("the model's fit is told in numbers", {
  model <- trained_model()
  expect_equal(get_elbo(model), -get_reconstruction_error(model), tolerance = 0.1)
  expect_length(get_elbo(model, return_mean = FALSE), 150)
  expect_gt(get_marginal_ll(model, cells = 1:20, n_mc_samples = 50), get_elbo(model, cells = 1:20) - 1)
})

test_that("differential expression finds what differs", {
  model <- trained_model()
  table <- differential_expression(model, group_by = cell_types(150), group1 = "a", mode = "change", seed = 1)
  expect_setequal(head(table$feature, 5), paste0("gene", 1:5))
  expect_equal(rownames(table), table$feature)
  again <- differential_expression(model, object = seurat_object(), group_by = "type", group1 = "a", mode = "change",
                                   seed = 1)
  expect_equal(again, table, tolerance = 1e-5)
  by_cells <- differential_expression(model, cells1 = cell_types(150) == "a", mode = "change", seed = 1)
  expect_equal(by_cells[table$feature, "lfc_mean"], table$lfc_mean, tolerance = 0.1) # other draws, the same question
  every <- differential_expression(model, group_by = cell_types(150))
  expect_equal(sort(unique(every$group1)), c("a", "b", "c"))
  expect_equal(nrow(every), 180)
})

test_that("what else Python's test takes passes through", {
  ask <- function(...) {
    differential_expression(trained_model(), group_by = cell_types(150), group1 = "a", mode = "change", seed = 1,
                            n_samples_overall = 300, ...)["gene1", ]
  }
  weighted <- ask(weights = "importance", importance_cells = 20)
  expect_gt(weighted$lfc_mean, 1)
  expect_false(weighted$lfc_mean == ask()$lfc_mean)
  expect_false(ask(filter_outlier_cells = TRUE)$lfc_mean == ask()$lfc_mean)
  expect_false(ask(use_permutation = TRUE, m_permutation = 500)$lfc_mean == ask()$lfc_mean)
  expect_error(ask(weights = "importanc"), "Did you mean 'importance'", class = "scelbo_argument_error")
})

test_that("normalised expression goes to a file, and comes back as it would without", {
  model <- trained_model()
  folder <- withr::local_tempdir()
  ask <- function(...) get_normalized_expression(model, cells = 40:1, transform_batch = "x", library_size = 1e4, ...)
  expected <- ask()
  local_value("dense_limit", 8)
  if (installed("HDF5Array")) {
    on_disk <- ask(file = file.path(folder, "all.h5ad"))
    expect_s4_class(on_disk, "DelayedMatrix")
    expect_identical(dimnames(on_disk), dimnames(expected))
    expect_equal(as.matrix(on_disk), expected, tolerance = 1e-6)
    expect_error(ask(file = file.path(folder, "all.h5ad")), "exists", class = "scelbo_argument_error")
  }
  local_value("installed", function(package) FALSE)
  path <- file.path(folder, "two.h5ad")
  expect_message(answer <- withVisible(ask(file = path, features = c("gene9", "gene2"))), "HDF5Array")
  expect_identical(answer, list(value = path, visible = FALSE))
  parts <- suppressWarnings(anndata_parts(path, "counts"))
  expect_equal(as.matrix(parts$counts), expected[c("gene9", "gene2"), ], tolerance = 1e-6)
  expect_message(ask(file = file.path(folder, "all.zarr")), "anndata")
})

test_that("case is compared with control inside every group", {
  object <- seurat_object()
  object$stim <- factor(ifelse(cell_batches(150) == "y", "STIM", "CTRL"))
  object$donor <- rep(1:3, 50)
  ask <- function(contrast, ...) {
    differential_expression(trained_model(), ..., contrast = contrast, mode = "change", n_samples_overall = 500,
                            seed = 1)
  }
  table <- ask(c("stim", "STIM", "CTRL"), object = object, group_by = "type", replicates = "donor", n_permutations = 2)
  expect_equal(table(table$type), table(rep(c("a", "b", "c"), each = 60)), ignore_attr = TRUE)
  found <- head(table$feature[table$type == "b"], 11)
  expect_gte(sum(found %in% paste0("gene", 20:30)), 9) # what differs between the batches
  expect_gt(min(table$lfc_mean[table$feature == "gene25"]), 0)
  expect_true(all(c("lfc_replicates_mean", "replicates_agree", "n_replicates") %in% names(table)))
  permutations <- attr(table, "permutations")
  expect_s3_class(permutations, "data.frame")
  expect_equal(permutations$group, c("a", "b", "c"))
  expect_true(all(permutations$called_of_nothing < permutations$called))

  by_vectors <- ask(list(as.character(object$stim), "CTRL", "STIM"), group_by = object$type, group1 = "b")
  expect_equal(unique(by_vectors$group), "b")
  expect_lt(by_vectors["gene25", "lfc_mean"], 0)
  expect_equal(ask(object$stim)$group1, rep("STIM", 60)) # of two levels the second is the case
  expect_null(attr(by_vectors, "permutations"))
  expect_snapshot({
    said(ask("stm", object = object))
    said(ask(c("stim", "stim", "CTRL"), object = object))
    said(ask(cell_types(150)))
    said(ask(object$stim[1:9]))
    said(ask(ifelse(1:150 > 149, "STIM", "CTRL"), group_by = cell_types(150)))
    said(differential_expression(trained_model(), group_by = cell_types(150), replicates = object$donor))
  })
})

# Methods of a Python model that answer questions: those that the analysis layer wrote.
python_questions <- function(python) {
  public <- grep("^[a-z]", names(python), value = TRUE)
  module <- function(name) {
    method <- python[[name]]
    if (reticulate::py_has_attr(method, "__module__")) reticulate::py_to_r(method[["__module__"]]) else ""
  }
  public[startsWith(vapply(public, module, ""), "scelbo.analysis")]
}

# Their names in R.
in_r <- function(questions) {
  other <- match(questions, asked_as)
  ifelse(is.na(other), questions, names(asked_as)[other])
}

test_that("every question of Python's can be asked in R", {
  only_python <- c(
    with_data = "a model in R takes other cells by `object =`",
    get_imputed_values = "impute() says it, and how sure the model is",
    get_alphas_betas = "scvi-tools' name for what get_zero_inflation() says"
  )
  few <- c(CellAssign = 1, SOLO = 1, RNAStereoscope = 1, SpatialStereoscope = 4, DestVI = 7)
  left <- lapply(constructors, function(class) {
    questions <- in_r(python_questions(core()[[class]]))
    expect_gte(length(questions), if (class %in% names(few)) few[[class]] else 9)
    setdiff(questions, c(getNamespaceExports("scelbo"), "predict"))
  })
  expect_setequal(unlist(left), names(only_python))
})

test_that("every question has its Python method's arguments and defaults", {
  words <- c(object = "adata", cells = "indices", features = "gene_list", regions = "region_list",
             group_by = "groupby", cells1 = "idx1", cells2 = "idx2", labels = "labels_key", sample = "sample_key",
             proteins = "protein_list", pair = "pair_key", newdata = "adata")
  own_words <- list(load_query_data = c(reference = "reference_model"), report = c(file = "path"),
                    get_normalized_expression = c(file = "out"), get_scale_for_ct = c(type = "label"),
                    get_expression_for_ct = c(type = "label"))
  beside <- c("protein_assay", "protein_layer", "peak_assay", "peak_layer")
  only_r <- list(get_likelihood_parameters = "features", load_query_data = c("assay", "layer", "verbose", beside),
                 report = "open", predict = c("object", "type"), get_scale_for_ct = "features",
                 get_expression_for_ct = "features")
  own_defaults <- list(report = "path") # R writes the page unless told not to
  inspect <- reticulate::import("inspect", convert = FALSE)
  parameters_of <- function(method) {
    parameters <- reticulate::iterate(inspect$signature(method)$parameters$values(), identity)
    setNames(parameters, vapply(parameters, function(one) reticulate::py_to_r(one$name), ""))
  }
  passed_on <- list(differential_accessibility = parameters_of(core()$SCVI$differential_expression)) # its **more
  for (class in constructors) {
    python <- core()[[class]]
    asked <- intersect(in_r(python_questions(python)), c(getNamespaceExports("scelbo"), "predict"))
    for (question in c(asked, if (reticulate::py_has_attr(python, "load_query_data")) "load_query_data")) {
      methods <- c(paste0(question, ".scelbo_", c(tolower(class), "model")), question)
      ours <- formals(Find(function(name) exists(name, asNamespace("scelbo"), inherits = FALSE), methods))
      ours <- ours[setdiff(names(ours), c("model", "...", only_r[[question]]))]
      said <- c(own_words[[question]], words)
      renamed <- names(ours) %in% names(said)
      names(ours)[renamed] <- said[names(ours)[renamed]]
      parameters <- utils::modifyList(as.list(passed_on[[question]]), parameters_of(python[[python_question(question)]]))
      expect_equal(setdiff(names(ours), names(parameters)), character(), info = question)
      for (name in setdiff(names(ours), own_defaults[[question]])) {
        if (identical(ours[[name]], rlang::missing_arg())) next # it must be given
        default <- reticulate::py_to_r(parameters[[name]]$default)
        expect_equal(eval(ours[[name]]), default, info = paste(question, name))
      }
    }
  }
  forecast <- parameters_of(core()$SCVI$check)$forecast
  expect_equal(formals(check_data)$forecast, reticulate::py_to_r(forecast$default))
})

test_that("errors name the nearest match", {
  model <- trained_model()
  expect_snapshot({
    said(get_normalized_expression(model, features = c("gene1", "gen2")))
    said(get_normalized_expression(model, transform_batch = "z"))
    said(get_latent_representation(model, cells = "cel3"))
    said(differential_expression(model, group_by = "typ", object = seurat_object()))
    said(differential_expression(model, group_by = cell_types(150), group1 = "A"))
    said(differential_expression(model, group_by = cell_types(10)))
    said(differential_expression(model, mode = "chance", group_by = cell_types(150)))
  })
})
