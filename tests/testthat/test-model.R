# Models of other packages, which need no R code of their own.
skip_without_backend()

# A folder that Python finds packages in, until the test ends.
local_packages <- function(folder, env = parent.frame()) {
  path <- core()[["bridge"]][["sys"]]$path
  path$insert(0L, folder)
  withr::defer(path$remove(folder), envir = env)
}

# A package of a model that reads a column which R has no word for, and whose decoder sees it.
local_package <- function(env = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = env)
  writeLines(c(
    "from collections import namedtuple", "import torch", "from torch import nn",
    "from scelbo import Counts, CountsVAE, Model, analysis, fields", "from scelbo.likelihoods import Mean, Poisson",
    "from scelbo.nn import MLP, GaussianEncoder, Known", "",
    "Latents, Explained = namedtuple('Latents', 'z log_l'), namedtuple('Explained', 'x')", "",
    "class TreatedCells(fields.Batch):", "    x: Counts = fields.counts('layer')",
    "    treatment: torch.Tensor = fields.category('treatment_key', required=True)", "",
    "class Module(CountsVAE):", "    def __init__(self, model, setup):", "        super().__init__(setup.n_vars)",
    "        self.z = GaussianEncoder(setup.n_vars, model.n_latent, n_hidden=16, n_layers=1)",
    "        self.f = MLP(model.n_latent, 16, 1, categories=setup.n_categories('treatment'))",
    "        self.h = nn.Linear(16, setup.n_vars)",
    "    def inference(self, cells):",
    "        return Latents(self.z(self.seen(cells).map(torch.log1p), cells), Known(cells.x.size.log()))",
    "    def generative(self, z, cells):", "        return Explained(Poisson(Mean(self.h(self.f(z.z, cells)), z.log_l)))", "",
    "class Treated(Model):", "    n_latent: int = 3", "    Cells = TreatedCells",
    "    def build(self, setup):", "        return Module(self, setup)",
    "    get_latent_representation = analysis.latent_representation",
    "    get_normalized_expression = analysis.normalized_expression", "    get_elbo = analysis.elbo"
  ), file.path(folder, "treatedcells.py"))
  local_packages(folder, env)
}

for (dialect in c("Seurat", "SingleCellExperiment")) {
  test_that(paste("a model of another package answers of a", dialect, "object, and is kept"), {
    local_package()
    object <- if (dialect == "Seurat") seurat_object() else sce_object()
    fitted <- model(object, "treatedcells.Treated", treatment_key = "batch", n_latent = 4)
    expect_s3_class(fitted, "scelbo_treated")
    fitted <- train(fitted, max_epochs = 3, verbose = FALSE)
    z <- get_latent_representation(fitted)
    expect_identical(dimnames(z), list(colnames(object), paste0("treated_", 1:4)))
    x_y <- lapply(c("x", "y"), function(value) get_normalized_expression(fitted, transform = list(batch = value)))
    own <- get_normalized_expression(fitted)
    at <- cell_batches(150) == "x"
    expect_equal(x_y[[1]][, at], own[, at], tolerance = 1e-5)
    expect_false(isTRUE(all.equal(x_y[[1]][, !at], own[, !at], tolerance = 1e-3)))

    after <- write_back(fitted, object)
    there <- if (dialect == "Seurat") SeuratObject::Embeddings(after, "treated") else SingleCellExperiment::reducedDim(after, "Treated")
    expect_equal(unname(there), unname(z), tolerance = 1e-6, ignore_attr = TRUE)

    path <- withr::local_tempfile()
    saveRDS(fitted, path)
    expect_equal(get_latent_representation(readRDS(path), object = object), z, tolerance = 1e-6)
    folder <- withr::local_tempfile()
    save_model(fitted, folder)
    again <- load_model(folder, object, class = "treatedcells.Treated")
    expect_equal(get_latent_representation(again), z, tolerance = 1e-6)
    expect_equal(get_elbo(again, cells = 1:20, seed = 1), get_elbo(fitted, object = object, cells = 1:20, seed = 1), tolerance = 1e-5)
  })
}

test_that("questions that R has no function for are asked by name", {
  fitted <- trained_model()
  expect_equal(ask_model(fitted, "get_elbo", cells = 1:20, seed = 1), get_elbo(fitted, cells = 1:20, seed = 1))
  expect_equal(ask_model(fitted, "get_latent_representation", cells = c("cell3", "cell1")),
               unname(get_latent_representation(fitted)[c("cell3", "cell1"), ]), ignore_attr = TRUE, tolerance = 1e-6)
  expect_identical(rownames(ask_model(fitted, "get_latent_representation", cells = 2:4)), paste0("cell", 2:4))
  linear <- train(linearscvi(seurat_object(), n_latent = 2), max_epochs = 1, verbose = FALSE)
  expect_equal(as.matrix(ask_model(linear, "get_loadings")), get_loadings(linear), ignore_attr = TRUE)
  expect_error(ask_model(fitted, "get_elb"), "Did you mean 'get_elbo'", class = "scelbo_argument_error")
})

test_that("one of scelbo's own is the same as by its constructor", {
  object <- seurat_object()
  by_name <- train(model(object, "SCVI", batch = "batch", n_latent = 4), max_epochs = 2, verbose = FALSE)
  by_word <- train(scvi(object, batch = "batch", n_latent = 4), max_epochs = 2, verbose = FALSE)
  expect_identical(get_latent_representation(by_name), get_latent_representation(by_word))
})

test_that("a model written in Pyro gives draws of its sites", {
  skip_if_not(reticulate::py_module_available("pyro"), "pyro-ppl is not installed")
  examples <- test_path("../../examples/models")
  skip_if_not(dir.exists(examples), "the examples are not beside an installed package")
  local_packages(normalizePath(examples))
  for (object in list(seurat_object(), sce_object())) {
    fitted <- train(model(object, "pyro_mixture.PyroMixture", n_clusters = 3), max_epochs = 3, verbose = FALSE)
    told <- sample_posterior(fitted, sites = c("pi", "cluster"), n_samples = 20, quantiles = c(0.1, 0.9), seed = 1)
    expect_named(told, c("pi", "cluster"))
    expect_named(told$cluster, c("mean", "sd", "q10", "q90"))
    expect_identical(dimnames(told$cluster$mean), list(colnames(object), paste0("cluster_", 0:2)))
    expect_equal(unname(rowSums(told$cluster$mean)), rep(1, 150), tolerance = 1e-4)
    expect_equal(sum(told$pi$mean), 1, tolerance = 1e-4)
    some <- sample_posterior(fitted, "cluster", object = object, cells = 3:5, n_samples = 20, seed = 1)
    expect_identical(rownames(some$cluster$q50), colnames(object)[3:5])
  }
})

test_that("the template's function in R makes its model", {
  template <- test_path("../../examples/template")
  skip_if_not(dir.exists(template), "the template is not beside an installed package")
  skip_if_not(reticulate::py_module_available("copier"), "copier is not installed")
  folder <- file.path(withr::local_tempdir(), "package")
  told <- c("--quiet", "--defaults", "--data=package=programmes_r", "--data=model=ProgrammesR")
  system2(reticulate::py_config()$python, c("-m", "copier", "copy", told, shQuote(normalizePath(template)), shQuote(folder)))
  local_packages(folder)
  wrapper <- new.env()
  source(file.path(folder, "r", "R", "model.R"), local = wrapper)
  expect_identical(parseNamespaceFile("r", folder)$exports, "programmesr")
  for (object in list(seurat_object(), sce_object())) {
    fitted <- train(wrapper$programmesr(object, batch = "batch", n_latent = 3), max_epochs = 2, verbose = FALSE)
    expect_equal(unname(rowSums(get_latent_representation(fitted))), rep(1, 150), tolerance = 1e-4)
  }
})

test_that("what does not fit is said", {
  local_package()
  object <- seurat_object()
  expect_snapshot({
    said(model(object, "nosuchpackage.Model"))
    said(model(object, "treatedcells.Treatde"))
    said(model(object, "SCIV"))
    said(model(object, 1))
    said(model(object, "treatedcells.Treated", treatment_key = "bach"))
    said(model(object, "treatedcells.Treated", treatment_key = "batch", n_latnet = 3))
    said(model(object, "treatedcells.Treated", treatment_key = "batch", batch = "batch"))
  })
  expect_error(sample_posterior(trained_model()), "SCVI has no sample_posterior", class = "scelbo_argument_error")
})
