# Does training from R cost more than from Python? CPU seconds of one and the same training, one thread, both in a process
# of their own, in turns, for a model of each kind of data:
#   Rscript benchmarks/r_overhead.R [CELLS] [FEATURES] [EPOCHS] [REPEATS]
asked <- as.integer(commandArgs(TRUE))
sizes <- c(cells = 5000L, features = 2000L, epochs = 3L, repeats = 3L)
sizes[seq_along(asked)] <- asked
Sys.setenv(OMP_NUM_THREADS = 1)
python <- {
  invisible(scelbo::backend())
  reticulate::py_config()$python
}
core <- system.file("python", package = "scelbo")

# How each language sets a model up. `object` is a SingleCellExperiment, `adata` what write_h5ad() made of it.
kinds <- list(
  RNA = list(what = "counts", r = "scvi(object)", python = c("SCVI.setup_anndata(adata)", "model = SCVI(adata)")),
  ATAC = list(what = "counts", r = "peakvi(object)", python = c("PEAKVI.setup_anndata(adata)", "model = PEAKVI(adata)")),
  "CITE-seq" = list(
    what = "cite", r = "totalvi(object, protein_assay = protein_assay)",
    python = c("TOTALVI.setup_anndata(adata, protein_expression_obsm_key='protein_expression')", "model = TOTALVI(adata)")
  )
)

r_code <- function(kind, data) {
  sprintf("
Sys.setenv(SCELBO_PYTHON = '%s')
object <- readRDS('%s')
protein_assay <- 'protein_expression'
model <- scelbo::train(scelbo::%s, max_epochs = 1, seed = 1, verbose = FALSE)
before <- sum(proc.time()[1:2])
scelbo::train(model, max_epochs = %d, seed = 1)
cat('CPU', sum(proc.time()[1:2]) - before, 'ELBO', scelbo::get_elbo(model, seed = 1), '\\n')
", python, data, kind$r, sizes[["epochs"]])
}
python_code <- function(kind, data) {
  sprintf("
import sys, time
sys.path.insert(0, '%s')
import anndata
from scelbo import PEAKVI, SCVI, TOTALVI
adata = anndata.read_h5ad('%s')
%s
model.train(max_epochs=1, seed=1, progress=False)
before = time.process_time()
model.train(max_epochs=%d, seed=1)
print('CPU', time.process_time() - before, 'ELBO', model.get_elbo(seed=1))
", core, data, paste(kind$python, collapse = "\n"), sizes[["epochs"]])
}

measure <- function(program, script) {
  out <- grep("^CPU", system2(program, script, stdout = TRUE, stderr = FALSE), value = TRUE)
  if (!length(out)) stop("no answer from ", script)
  as.numeric(strsplit(out, " ")[[1]][c(2, 4)])
}

compare <- function(name) {
  kind <- kinds[[name]]
  folder <- tempfile("r_overhead")
  dir.create(folder)
  on.exit(unlink(folder, recursive = TRUE))
  data <- file.path(folder, c("cells.rds", "cells.h5ad"))
  object <- scelbo::simulate_cells(kind$what, as = "sce", n_cells = sizes[["cells"]], n_genes = sizes[["features"]], seed = 1)
  saveRDS(object, data[[1]])
  scelbo::write_h5ad(object, data[[2]])
  scripts <- file.path(folder, c("train.R", "train.py"))
  writeLines(r_code(kind, data[[1]]), scripts[[1]])
  writeLines(python_code(kind, data[[2]]), scripts[[2]])
  runs <- lapply(seq_len(sizes[["repeats"]]), function(i) {
    rbind(r = measure(file.path(R.home("bin"), "Rscript"), scripts[[1]]), python = measure(python, scripts[[2]]))
  })
  median_of <- function(side) stats::median(vapply(runs, function(run) run[side, 1], 1))
  cat(sprintf("| %s | %.2f | %.2f | %.3f | %.4f | %.4f |\n", name, median_of("python"), median_of("r"),
              median_of("r") / median_of("python"), runs[[1]]["python", 2], runs[[1]]["r", 2]))
}

cat(sprintf("%d cells x %d features, %d epochs, one thread, medians of %d runs each\n\n",
            sizes[["cells"]], sizes[["features"]], sizes[["epochs"]], sizes[["repeats"]]))
cat("| | Python, CPU s | R, CPU s | ratio | ELBO, Python | ELBO, R |\n|---|---|---|---|---|---|\n")
for (name in names(kinds)) compare(name)
