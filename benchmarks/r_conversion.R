# What does it cost to hand a Seurat object or a SingleCellExperiment to Python, and to take it back? CPU seconds, and memory that
# the process keeps, of one thread; each in a process of its own:  Rscript benchmarks/r_conversion.R [CELLS] [GENES] [MILLIONS]
# Fails where more than a second or 200 MB is needed for the counts of 20,000 x 20,000 with 20 million stored values.
asked <- as.numeric(commandArgs(TRUE))
sizes <- c(cells = 20000, genes = 20000, millions = 20)
sizes[seq_along(asked)] <- asked
invisible(loadNamespace("Matrix"))
Sys.setenv(OMP_NUM_THREADS = 1)

folder <- tempfile("r_conversion")
dir.create(folder)
each <- as.integer(sizes[["millions"]] * 1e6 / sizes[["cells"]]) # stored values of a cell
set.seed(1)
rows <- vapply(seq_len(sizes[["cells"]]), function(cell) sort.int(sample.int(sizes[["genes"]], each), method = "radix"), integer(each))
names <- list(paste0("gene", seq_len(sizes[["genes"]])), paste0("cell", seq_len(sizes[["cells"]])))
counts <- methods::new("dgCMatrix", i = as.vector(rows) - 1L, p = as.integer(each * 0:sizes[["cells"]]),
                       x = rep(c(1, 2, 1, 3), length.out = length(rows)), Dim = lengths(names), Dimnames = names)
saveRDS(counts, file.path(folder, "counts.rds"), compress = FALSE)
rm(counts, rows)
invisible(scelbo::backend()) # finds the Python
python <- reticulate::py_config()$python

code <- "
Sys.setenv(SCELBO_PYTHON = '%s')
suppressMessages(library(scelbo))
counts <- readRDS('%s')
make <- list(matrix = identity, Seurat = SeuratObject::CreateSeuratObject,
             SingleCellExperiment = function(x) SingleCellExperiment::SingleCellExperiment(list(counts = x)))[['%s']]
object <- make(counts)
few <- as_anndata(make(counts[, 1:9])) # all that is needed is loaded
invisible(list(as_seurat(few), as_sce(few)))
kept <- function() {
  invisible(gc())
  as.numeric(sub('[^0-9]*([0-9]+).*', '\\\\1', grep('^VmRSS', readLines('/proc/self/status'), value = TRUE))) / 1024
}
timed <- function(expr) {
  before <- kept()
  seconds <- sum(system.time(value <- expr)[1:2])
  list(value = value, seconds = seconds, kept = kept() - before)
}
there <- timed(as_anndata(object))
back <- if ('%s' == 'Seurat') timed(as_seurat(there$value)) else timed(as_sce(there$value))
cat('TIMES', there$seconds, there$kept, back$seconds, back$kept, '\\n')
"
costs <- function(kind) {
  script <- file.path(folder, "convert.R")
  writeLines(sprintf(code, python, file.path(folder, "counts.rds"), kind, kind), script)
  out <- grep("^TIMES", system2(file.path(R.home("bin"), "Rscript"), script, stdout = TRUE), value = TRUE)
  as.numeric(strsplit(out, " ")[[1]][2:5])
}
cat(sprintf("%d cells x %d genes, %g million values stored\n", sizes[["cells"]], sizes[["genes"]], sizes[["millions"]]))
dear <- FALSE
for (kind in c("matrix", "Seurat", "SingleCellExperiment")) {
  cost <- costs(kind)
  cat(sprintf("%-20s to Python %.2f s, %.0f MB kept; back %.2f s, %.0f MB kept\n", kind, cost[[1]], cost[[2]], cost[[3]], cost[[4]]))
  dear <- dear || (cost[[1]] > sizes[["millions"]] / 20 || cost[[2]] > 10 * sizes[["millions"]])
}
unlink(folder, recursive = TRUE)
quit(status = as.integer(dear))
