skip_without_backend()

test_that("a model survives saveRDS and readRDS", {
  model <- trained_model()
  path <- withr::local_tempfile()
  saveRDS(model, path)
  back <- readRDS(path)
  expect_true(reticulate::py_is_null_xptr(back$python))
  expect_output(print(back), "trained for 200 epochs")
  expect_identical(as.data.frame(back), as.data.frame(model))
  z <- get_latent_representation(model)
  expect_equal(get_latent_representation(back, object = seurat_object()), z, tolerance = 1e-6)
  expect_error(get_latent_representation(back), "object =", class = "scelbo_setup_error")
  expect_error(train(back), class = "scelbo_setup_error")
})

test_that("a model that was never trained says so after readRDS", {
  back <- unserialize(serialize(scvi(simulate_counts()), NULL))
  expect_error(get_elbo(back), "not trained", class = "scelbo_storage_error")
})

test_that("a model opens from its folder, with its data and without", {
  model <- trained_model()
  folder <- withr::local_tempdir()
  expect_error(save_model(model, folder), class = "scelbo_storage_error")
  save_model(model, folder, overwrite = TRUE)
  expect_setequal(list.files(folder), c("model.json", "weights.safetensors"))
  without <- load_model(folder)
  with <- load_model(folder, object = seurat_object())
  z <- get_latent_representation(model)
  expect_equal(get_latent_representation(with), z, tolerance = 1e-6)
  expect_equal(get_latent_representation(without, object = seurat_object()), z, tolerance = 1e-6)
  expect_equal(without$recipe$columns, list(batch = "batch"))
  expect_error(load_model(file.path(folder, "nowhere")), class = "scelbo_storage_error")
})

test_that("features are matched by name", {
  model <- trained_model()
  turned <- seurat_object()[sample(60), ]
  expect_equal(get_latent_representation(model, object = turned), get_latent_representation(model), tolerance = 1e-5)
  expect_error(get_latent_representation(model, object = seurat_object()[3:60, ]), "gene1",
               class = "scelbo_setup_error")
})

answers <- c(
  "keep('latent', model.get_latent_representation())", "keep('elbo', model.get_elbo(seed=1))",
  "keep('expression', model.get_normalized_expression(gene_list=['gene1', 'gene9']))"
)
answers_of <- function(model) {
  list(latent = as.vector(t(get_latent_representation(model))), elbo = get_elbo(model, seed = 1),
       expression = as.vector(get_normalized_expression(model, features = c("gene1", "gene9"))))
}

test_that("a model trained in R answers the same in Python, to the last digit", {
  model <- trained_model()
  folder <- withr::local_tempdir()
  save_model(model, folder, overwrite = TRUE)
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(seurat_object(), path)
  lines <- c("model = scelbo.load(sys.argv[2], anndata.read_h5ad(sys.argv[3]))", answers)
  expect_identical(from_python(lines, folder, path, names = c("latent", "elbo", "expression")), answers_of(model))
})

test_that("a model trained in Python answers the same in R, to the last digit", {
  folder <- file.path(withr::local_tempdir(), "model")
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(seurat_object(), path)
  told <- from_python(c(
    "adata = anndata.read_h5ad(sys.argv[3])", "scelbo.SCVI.setup_anndata(adata, batch_key='batch')",
    "model = scelbo.SCVI(adata, n_latent=3)", "model.train(max_epochs=5, seed=1, progress=False)", "model.save(sys.argv[2])", answers
  ), folder, path, names = c("latent", "elbo", "expression"))
  expect_identical(answers_of(load_model(folder, object = seurat_object())), told)
  expect_identical(answers_of(load_model(folder, object = read_h5ad(path))), told)
})

test_that("where nothing can be written is said before training, and the model stays", {
  place <- file.path(withr::local_tempfile(lines = "mine"), "model")
  model <- scvi(simulate_counts(), n_latent = 3)
  expect_error(train(model, max_epochs = 1, checkpoint = place, verbose = FALSE), "cannot be written", class = "scelbo_storage_error")
  expect_error(train(model, max_epochs = 1, resume = place, verbose = FALSE), "cannot be written", class = "scelbo_storage_error")
  expect_false(summary(model)$trained)
  expect_error(save_model(trained_model(), place), "cannot be written", class = "scelbo_storage_error")
  expect_equal(readLines(dirname(place)), "mine")
})

test_that("writing that fails or is interrupted leaves the old file, and the session lives", {
  skip_on_os("windows")
  folder <- withr::local_tempdir()
  path <- file.path(folder, "cells.h5ad")
  write_h5ad(seurat_object(simulate_counts(30)), path)
  before <- tools::md5sum(path)
  expect_as_before <- function() {
    expect_identical(tools::md5sum(path), before)
    expect_identical(list.files(folder, all.files = TRUE, no.. = TRUE), "cells.h5ad")
  }
  largest_file <- function(size) { # as on a disk that is full
    reticulate::py_run_string(paste0("import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n",
                                     "resource.setrlimit(resource.RLIMIT_FSIZE, (", size, ", resource.RLIM_INFINITY))"), local = TRUE)
  }
  withr::defer(largest_file("resource.RLIM_INFINITY"))
  for (object in list(seurat_object(), as_anndata(seurat_object()))) {
    for (size in c(1, 5000, 50000)) {
      largest_file(size)
      expect_error(write_h5ad(object, path), "cannot be written: File too large", class = "scelbo_storage_error")
      expect_as_before()
    }
    largest_file("resource.RLIM_INFINITY")
  }
  disk <- core()$data$disk
  write <- disk$write_elem
  withr::defer(reticulate::py_set_attr(disk, "write_elem", write))
  half <- "def half(file, *rest):\n  file.create_group('obs')\n  raise KeyboardInterrupt"
  reticulate::py_set_attr(disk, "write_elem", reticulate::py_run_string(half, local = TRUE, convert = FALSE)$half)
  expect_identical(tryCatch(write_h5ad(seurat_object(), path), interrupt = function(cnd) "interrupted"), "interrupted")
  expect_as_before()
  reticulate::py_set_attr(disk, "write_elem", write)
  write_h5ad(seurat_object(), path)
  expect_equal(ncol(read_h5ad(path)), 150)
})

# Files that scvi-tools 1.4.2 wrote, which the tests of the core keep; an installed package does not carry them.
of_scvi_tools <- function(name) {
  folder <- test_path("..", "python", "scvi_tools")
  skip_if_not(dir.exists(folder), "no checkout around the tests")
  normalizePath(file.path(folder, name))
}

test_that("a model that scvi-tools saved opens, and says what it said there", {
  folder <- of_scvi_tools("scanvi")
  adata <- reticulate::import("anndata", convert = FALSE)$read_h5ad(of_scvi_tools("cells.h5ad"))
  model <- load_model(folder, object = adata)
  said <- reticulate::import("numpy")$load(of_scvi_tools("answers.npz"))
  z <- get_latent_representation(model)
  expect_equal(unname(as.matrix(z)), unname(as.matrix(said$f[["scanvi"]])), tolerance = 1e-5, ignore_attr = TRUE)
  expect_length(predict(model), 40)
  expect_equal(get_latent_representation(load_model(folder), object = adata), z, tolerance = 1e-6)
  back <- file.path(withr::local_tempdir(), "back")
  save_model(model, back, format = "scvi-tools")
  expect_setequal(list.files(back), "model.pt")
  expect_equal(get_latent_representation(load_model(back, object = adata)), z, tolerance = 1e-6)
  expect_error(save_model(model, back, format = "scvi-tools"), class = "scelbo_storage_error")
})

test_that("a file that would run code is an error, and runs nothing", {
  folder <- withr::local_tempdir()
  witness <- file.path(folder, "ran")
  reticulate::py_run_string(sprintf("
import pickle, zipfile
class Hostile:
    def __reduce__(self):
        return exec, (\"open(r'%s', 'w')\",)
with zipfile.ZipFile(r'%s', 'w') as file:
    file.writestr('model/data.pkl', pickle.dumps(Hostile(), protocol=2))
", witness, file.path(folder, "model.pt")))
  expect_error(load_model(folder), "Nothing was run", class = "scelbo_storage_error")
  expect_false(file.exists(witness))
})

test_that("what scvi-tools has no counterpart of is named", {
  expect_error(save_model(trained_model(), withr::local_tempfile(), format = "loom"), "format")
  model <- scvi(simulate_counts(), activation = "gelu") |> train(max_epochs = 1, verbose = FALSE)
  expect_error(save_model(model, withr::local_tempfile(), format = "scvi-tools"), "activation", class = "scelbo_storage_error")
})
