# vignettes.R FOLDER   every walk-through in vignettes/ as an HTML page in FOLDER
if (!requireNamespace("rmarkdown", quietly = TRUE) || !rmarkdown::pandoc_available("1.14")) {
  cat("the pages need the R package rmarkdown, and pandoc (https://pandoc.org)\n")
  quit(status = 3)
}
# Where the cells are is told here and not in the page: files that a page names, rmarkdown may copy, and remove the copies.
data <- c(SCELBO_ATAC = "hemato_scatac", SCELBO_CITE = "pbmc15k_cite", SCELBO_MULTIOME = "a549_multiome",
          SCELBO_SPATIAL = "osmfish", SCELBO_REFERENCE = "zeisel550", SCELBO_SPOTS = "lymph_st", SCELBO_CELLS = "lymph_sc")
for (name in names(data)) {
  cells <- Sys.getenv(name, NA)
  beside <- file.path("../shared/data", paste0(data[[name]], ".h5ad"))
  if (is.na(cells)) cells <- if (file.exists(beside)) beside else ""
  do.call(Sys.setenv, setNames(list(if (nzchar(cells)) normalizePath(cells, mustWork = TRUE) else ""), name))
}

folder <- commandArgs(TRUE)[[1]]
dir.create(folder, showWarnings = FALSE)
for (source in list.files("vignettes", "\\.Rmd$", full.names = TRUE)) {
  started <- Sys.time()
  cat("running", source, "(a few minutes)\n")
  # no intermediates_dir: rmarkdown would copy files that the page names through ../.. and delete them where they came from
  page <- rmarkdown::render(source, output_dir = folder, envir = new.env(), quiet = TRUE)
  cat(sprintf("%s  %.0f s\n", file.path(folder, basename(page)), as.numeric(Sys.time() - started, units = "secs")))
}
