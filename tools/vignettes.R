# vignettes.R FOLDER [NAME...]   the walk-throughs in vignettes/, all or those named, as HTML pages in FOLDER
if (!requireNamespace("rmarkdown", quietly = TRUE) || !rmarkdown::pandoc_available("1.14")) {
  cat("the pages need the R package rmarkdown, and pandoc (https://pandoc.org)\n")
  quit(status = 3)
}
source("tools/data.R")

folder <- commandArgs(TRUE)[[1]]
dir.create(folder, showWarnings = FALSE)
wanted <- commandArgs(TRUE)[-1]
sources <- list.files("vignettes", "\\.Rmd$", full.names = TRUE)
if (length(wanted)) sources <- sources[sub("\\.Rmd$", "", basename(sources)) %in% wanted]
for (source in sources) {
  started <- Sys.time()
  cat("running", source, "(a few minutes)\n")
  # no intermediates_dir: rmarkdown would copy files that the page names through ../.. and delete them where they came from
  page <- rmarkdown::render(source, output_dir = folder, envir = new.env(), quiet = TRUE)
  cat(sprintf("%s  %.0f s\n", file.path(folder, basename(page)), as.numeric(Sys.time() - started, units = "secs")))
}
