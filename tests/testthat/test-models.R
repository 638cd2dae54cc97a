skip_without_backend()

arguments_of <- function(constructor) formals(constructor)[names(formals(constructor)) != "..."]

# Those of a Python class, with their defaults.
hyperparameters <- function(python) {
  names <- names(reticulate::py_to_r(reticulate::import_builtins(FALSE)$dict(python$hyperparameters())))
  lapply(setNames(names, names), function(name) reticulate::py_to_r(python[[name]]))
}

test_that("every constructor has its Python model's arguments and defaults", {
  for (constructor in setdiff(names(constructors), made_of_model)) {
    python <- core()[[constructors[[constructor]]]]
    defaults <- lapply(hyperparameters(python), function(value) if (is.list(value)) unlist(value) else value)
    ours <- arguments_of(constructor)
    ours <- ours[setdiff(names(ours), c(column_arguments, source_arguments))]
    ours <- ours[!startsWith(names(ours), "spatial")]
    names(ours)[names(ours) == "markers"] <- "cell_type_markers"
    expect_named(ours, names(defaults), info = constructor)
    expect_equal(lapply(ours, eval), defaults, info = constructor)
  }
})

test_that("constructors from a trained scVI have their Python method's arguments, and the defaults of what it makes", {
  words <- c(object = "adata", labels = "labels_key", unlabeled = "unlabeled_category")
  for (constructor in c("solo", "scanvi_from_scvi")) {
    python <- core()[[c(solo = "SOLO", scanvi_from_scvi = "SCANVI")[[constructor]]]]
    signature <- reticulate::import("inspect", convert = FALSE)$signature(python$from_scvi_model)
    takes <- names(reticulate::py_to_r(reticulate::import_builtins(FALSE)$dict(signature$parameters)))
    defaults <- hyperparameters(python)
    ours <- arguments_of(constructor)
    renamed <- names(ours) %in% names(words)
    names(ours)[renamed] <- words[names(ours)[renamed]]
    by_kind <- setdiff(names(defaults), c("scvi", takes, names(formals("scvi")))) # what only this class has
    expect_true(all(c(by_kind, setdiff(takes, c("hyperparameters", "arguments"))) %in% names(ours)), info = constructor)
    expect_true(all(names(ours) %in% c(takes, names(defaults))), info = constructor)
    shared <- intersect(names(ours), names(defaults))
    expect_equal(lapply(ours[shared], eval), defaults[shared], info = constructor)
  }
})

test_that("constructors of models of spots have the fields of their Python class that are not the reference's", {
  for (constructor in names(constructors)[constructors %in% names(references)]) {
    python <- core()[[constructors[[constructor]]]]
    of_spots <- reticulate::import("scelbo.models.of_reference", convert = FALSE)$SpatialModel
    defaults <- hyperparameters(python)
    sizes <- c("n_hidden", "n_latent", "n_layers", "fine_types") # DestVI's are the reference's
    defaults <- defaults[setdiff(names(defaults), c(names(hyperparameters(of_spots)), sizes))]
    ours <- arguments_of(constructor)
    ours <- ours[setdiff(names(ours), c(column_arguments, source_arguments, "reference", "verbose"))]
    expect_named(ours, names(defaults), info = constructor)
    expect_equal(lapply(ours, eval), defaults, info = constructor)
    declared <- reticulate::iterate(python$Cells$fields()$values(), function(field) reticulate::py_to_r(field$argument))
    expect_setequal(c("layer", "smoothed_layer", names(python_keys(list(batch = "b")))), unlist(declared))
    expect_true("smoothed_layer" %in% names(arguments_of(constructor)))
  }
})

test_that("every column argument is one that Python's minibatch declares", {
  columns <- list(batch = "b", labels = "l", fine_labels = "f", categorical = "c", continuous = "n", size_factor = "s", panel = "p")
  for (constructor in made_of_cells) {
    fields <- core()[[constructors[[constructor]]]]$Cells$fields()$values()
    missing <- unlist(reticulate::iterate(fields, function(field) reticulate::py_to_r(field$missing)))
    expect_identical("unlabeled" %in% names(arguments_of(constructor)), identical(missing, "unlabeled_category"))
    declared <- reticulate::iterate(fields, function(field) reticulate::py_to_r(field$argument))
    arguments <- names(arguments_of(constructor))
    beside <- beside_of(sapply(intersect(arguments, c("protein_assay", "peak_assay")), identity, simplify = FALSE))
    ours <- c(python_keys(columns[intersect(names(columns), arguments)]), beside_keys(beside, "layer"))
    expect_setequal(names(ours), unlist(declared))
  }
})

test_that("every constructor takes a formula for the nuisance factors", {
  object <- object_of_all()
  markers <- list(a = paste0("gene", 1:5), b = paste0("gene", 6:9), other = character())
  for (constructor in setdiff(made_of_cells, "amortizedlda")) { # which takes nothing out
    takes <- names(arguments_of(constructor))
    needed <- list(labels = "type", markers = markers, peak_assay = "peaks")
    make <- function(batch) do.call(constructor, c(list(object, batch = batch), needed[names(needed) %in% takes]))
    if ("categorical" %in% takes) {
      columns <- summary(make(~ batch + donor + depth))$columns
      expect_identical(columns[c("batch", "categorical", "continuous")],
                       list(batch = "batch", categorical = "donor", continuous = "depth"), info = constructor)
    } else {
      expect_error(make(~ batch + donor), "no more than the batch: 'donor'", class = "scelbo_argument_error", info = constructor)
    }
    expect_identical(summary(make(~batch))$columns$batch, "batch", info = constructor)
  }
  pair <- gimvi(object, seurat_object()[1:20, ], batch = ~donor, spatial_batch = ~batch)
  expect_identical(c(pair$recipe$columns$batch, pair$second$columns$batch), c("donor", "batch"))
  expect_error(gimvi(object, object[1:20, ], batch = ~ batch + depth), "'depth'", class = "scelbo_argument_error")
})

test_that("doubles become integers where Python declares integers", {
  model <- scvi(simulate_counts(), n_latent = 3, n_hidden = 16)
  arguments <- summary(model)$arguments
  expect_identical(arguments[c("n_latent", "n_hidden")], list(n_latent = 3L, n_hidden = 16L))
  expect_error(scvi(simulate_counts(), n_latent = 2.5), "whole number", class = "scelbo_argument_error")
})

test_that("errors say what came, what is allowed and the nearest match", {
  counts <- simulate_counts(30, 10)
  broken <- counts
  broken@x[1:3] <- c(0.5, -1, NaN)
  expect_snapshot({
    said(scvi(counts, gene_likelihood = "znb"))
    said(scvi(counts, n_latent = 2.5))
    said(scvi(broken))
    said(scvi(counts, batch = "batch"))
    said(train(scvi(counts), max_epochs = 1, bach_size = 64))
    said(train(scvi(counts), device = "gpu2"))
    said(get_latent_representation(scvi(counts)))
  })
  expect_error(scvi(broken), class = "scelbo_data_error")
  expect_error(get_elbo(scvi(counts)), class = "scelbo_training_error")
})

test_that("all problems of the data come in one error", {
  counts <- simulate_counts(30, 10)
  counts@x[1:3] <- c(0.5, -1, NaN)
  problems <- tryCatch(scvi(counts), scelbo_data_error = function(cnd) cnd$problems)
  expect_length(problems, 3)
})

test_that("variable features are the default", {
  object <- seurat_object()
  SeuratObject::VariableFeatures(object) <- paste0("gene", 20:11)
  expect_equal(scvi(object)$features, paste0("gene", 20:11))
  expect_equal(scvi(object, features = paste0("gene", 9:1))$features, paste0("gene", 9:1))
  expect_length(scvi(object, features = rownames(object))$features, 60)
})

test_that("columns of every type can be batches", {
  object <- seurat_object()
  object$numeric <- rep(c(1, 2, 10), 50)
  object$logical <- rep(c(TRUE, FALSE), 75)
  object$levels <- factor(object$batch, levels = c("y", "x"))
  categories <- function(batch) {
    unlist(reticulate::py_to_r(scvi(object, batch = batch)$python$setup$categories[["batch"]]))
  }
  expect_equal(categories("numeric"), c("1", "2", "10"))
  expect_equal(categories("logical"), c("FALSE", "TRUE"))
  expect_equal(categories("levels"), c("y", "x"))
})

test_that("an AnnData, a path and a matrix make the same model", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(seurat_object(), path)
  latent <- function(object, ...) {
    get_latent_representation(train(scvi(object, ..., n_latent = 3), max_epochs = 2, verbose = FALSE))
  }
  expected <- latent(seurat_object(), batch = "batch")
  expect_equal(latent(path, batch = "batch"), expected)
  expect_equal(latent(as_anndata(seurat_object()), batch = "batch"), expected)
  expect_equal(latent(sce_object(), batch = "batch"), expected)
  expect_false(isTRUE(all.equal(latent(simulate_counts()), expected)))
})

test_that("a model prints what it is", {
  expect_snapshot(print(trained_model()))
  expect_output(print(summary(trained_model())), "n_latent +4")
  expect_output(print(scvi(simulate_counts())), "not trained")
})

# Arguments of RunX() that are not its constructor's: what a step needs beside it.
of_steps <- list(RunSCANVI = "from", RunSOLO = c("scvi", "solo_epochs", "batch"), RunGIMVI = c("reference", "impute"),
                 RunStereoscope = "labels", RunDestVI = "labels")

test_that("RunX() and runX() have their constructor's arguments and defaults, each the same", {
  names <- grep("^Run", getNamespaceExports("scelbo"), value = TRUE)
  expect_setequal(tolower(sub("^Run", "", names)), setdiff(names(constructors), c("stereoscope_reference", "condscvi")))
  for (run in names) {
    seurat <- formals(run)
    bioconductor <- formals(sub("^R", "r", run))
    expect_identical(bioconductor[setdiff(names(bioconductor), "name")], seurat[setdiff(names(seurat), "name")], info = run)
    expect_identical(tolower(bioconductor$name), seurat$name, info = run)
    constructor <- formals(tolower(sub("^Run", "", run)))
    ours <- setdiff(names(seurat), c("object", "...", "name", of_steps[[run]]))
    expect_true(all(ours %in% names(constructor)), info = run)
    ours <- ours[!vapply(seurat[ours], identical, NA, rlang::missing_arg())] # those that must be given have no default
    expect_identical(seurat[ours], constructor[ours], info = run) # all others go through `...`
  }
  maps <- grep("^MapQuery", getNamespaceExports("scelbo"), value = TRUE)
  takes <- Filter(function(class) reticulate::py_has_attr(core()[[class]], "load_query_data"), setdiff(constructors, ""))
  expect_setequal(sub("^MapQuery", "", maps), takes)
  for (map in maps) {
    bioconductor <- formals(sub("^M", "m", map))
    expect_identical(bioconductor[names(bioconductor) != "name"], formals(map)[names(formals(map)) != "name"], info = map)
  }
})

test_that("an object that cannot hold results is refused before training", {
  expect_error(RunSCVI(simulate_counts(), max_epochs = 1e6), "class dgCMatrix", class = "scelbo_argument_error")
  expect_error(RunSOLO(simulate_counts()), "class dgCMatrix", class = "scelbo_argument_error")
})
