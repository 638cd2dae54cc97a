# Does training from R cost more than from Python? CPU seconds of one and the same training, one thread, both in a process
# of their own, in turns:  Rscript benchmarks/r_overhead.R [CELLS] [GENES] [EPOCHS] [REPEATS]
asked <- as.integer(commandArgs(TRUE))
sizes <- c(cells = 5000L, genes = 2000L, epochs = 3L, repeats = 3L)
sizes[seq_along(asked)] <- asked
Sys.setenv(OMP_NUM_THREADS = 1)

folder <- tempfile("r_overhead")
dir.create(folder)
set.seed(1)
counts <- Matrix::rsparsematrix(sizes[["genes"]], sizes[["cells"]], 0.1, rand.x = function(n) stats::rpois(n, 2) + 1)
dimnames(counts) <- list(paste0("gene", seq_len(nrow(counts))), paste0("cell", seq_len(ncol(counts))))
data <- file.path(folder, c("counts.rds", "counts.h5ad"))
saveRDS(counts, data[[1]])
scelbo::write_h5ad(counts, data[[2]])
python <- reticulate::py_config()$python
core <- system.file("python", package = "scelbo")

r_code <- sprintf("
Sys.setenv(SCELBO_PYTHON = '%s')
model <- scelbo::train(scelbo::scvi(readRDS('%s')), max_epochs = 1, seed = 1, verbose = FALSE)
before <- sum(proc.time()[1:2])
scelbo::train(model, max_epochs = %d, seed = 1)
cat('CPU', sum(proc.time()[1:2]) - before, 'ELBO', scelbo::get_elbo(model, seed = 1), '\\n')
", python, data[[1]], sizes[["epochs"]])
python_code <- sprintf("
import sys, time
sys.path.insert(0, '%s')
import anndata
from scelbo import SCVI
adata = anndata.read_h5ad('%s')
SCVI.setup_anndata(adata)
model = SCVI(adata)
model.train(max_epochs=1, seed=1, progress=False)
before = time.process_time()
model.train(max_epochs=%d, seed=1)
print('CPU', time.process_time() - before, 'ELBO', model.get_elbo(seed=1))
", core, data[[2]], sizes[["epochs"]])

scripts <- file.path(folder, c("train.R", "train.py"))
writeLines(r_code, scripts[[1]])
writeLines(python_code, scripts[[2]])
measure <- function(program, script) {
  out <- grep("^CPU", system2(program, script, stdout = TRUE, stderr = FALSE), value = TRUE)
  as.numeric(strsplit(out, " ")[[1]][c(2, 4)])
}
runs <- lapply(seq_len(sizes[["repeats"]]), function(i) {
  list(r = measure(file.path(R.home("bin"), "Rscript"), scripts[[1]]), python = measure(python, scripts[[2]]))
})
seconds <- function(side) vapply(runs, function(run) run[[side]][[1]], 1)
elbo <- function(side) runs[[1]][[side]][[2]]
cat(sprintf("%d cells x %d genes, %d epochs, one thread, least of %d runs each\n",
            sizes[["cells"]], sizes[["genes"]], sizes[["epochs"]], sizes[["repeats"]]))
cat(sprintf("Python %.2f CPU s, R %.2f CPU s: %.3f times; ELBO %.4f and %.4f\n",
            min(seconds("python")), min(seconds("r")), min(seconds("r")) / min(seconds("python")),
            elbo("python"), elbo("r")))
unlink(folder, recursive = TRUE)
