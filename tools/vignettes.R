# vignettes.R FOLDER   every walk-through in vignettes/ as an HTML page in FOLDER
if (!requireNamespace("rmarkdown", quietly = TRUE) || !rmarkdown::pandoc_available("1.14")) {
  cat("the pages need the R package rmarkdown, and pandoc (https://pandoc.org)\n")
  quit(status = 3)
}
data <- Sys.getenv("SCELBO_ATAC") # a vignette runs in its own folder
if (nzchar(data)) Sys.setenv(SCELBO_ATAC = normalizePath(data, mustWork = TRUE))
folder <- commandArgs(TRUE)[[1]]
dir.create(folder, showWarnings = FALSE)
for (source in list.files("vignettes", "\\.Rmd$", full.names = TRUE)) {
  started <- Sys.time()
  cat("running", source, "(a few minutes)\n")
  page <- rmarkdown::render(source, output_dir = folder, intermediates_dir = tempfile(), envir = new.env(), quiet = TRUE)
  cat(sprintf("%s  %.0f s\n", file.path(folder, basename(page)), as.numeric(Sys.time() - started, units = "secs")))
}
