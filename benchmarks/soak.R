# Does anything grow? As soak.py, in one R process: from Seurat object to Seurat object, through a file, with questions.
#   Rscript benchmarks/soak.R [CYCLES]
cycles <- c(as.integer(commandArgs(TRUE)), 200L)[[1]]
library(scelbo)
one_steps <- list(RunSCVI, RunPEAKVI, RunLinearSCVI)

cycle <- function(number) {
  run <- one_steps[[number %% length(one_steps) + 1]]
  so <- run(simulate_cells(n_cells = 500, seed = number), "batch", n_latent = 5, max_epochs = 3, seed = number, verbose = FALSE)
  path <- tempfile(fileext = ".rds")
  on.exit(unlink(path))
  saveRDS(so, path)
  again <- get_model(readRDS(path))
  stopifnot(identical(dim(get_latent_representation(again, so)), c(500L, 5L)))
  ask <- if (number %% 3 == 1) differential_accessibility else differential_expression
  ask(get_model(so), group_by = "cell_type", group1 = as.character(so$cell_type[[1]]), object = so, n_samples_overall = 500)
}

now <- function() {
  gc(FALSE)
  resident <- as.numeric(strsplit(readLines("/proc/self/statm"), " ")[[1]][[2]]) * 4096 / 1e6
  c("memory, MB" = resident, threads = length(list.files("/proc/self/task")), "open files" = length(list.files("/proc/self/fd")),
    "temporary files" = length(list.files(tempdir(), recursive = TRUE)))
}

rows <- t(vapply(seq_len(cycles), function(number) {
  cycle(number)
  found <- now()
  if (number %% 10 == 0) cat(sprintf("%4d  %s\n", number, paste(names(found), round(found), collapse = "  ")))
  found
}, numeric(4)))
quarter <- max(3, cycles %/% 4)
settled <- apply(rows[(quarter %/% 2 + 1):quarter, , drop = FALSE], 2, max)
end <- apply(utils::tail(rows, quarter), 2, stats::median)
grown <- end > settled * c(1.05, 1, 1, 1)
cat(if (any(grown)) paste("FAILED: grown are", toString(names(end)[grown])) else "passed: nothing grows", "\n")
quit(status = any(grown))
