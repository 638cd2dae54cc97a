# bioccheck.R TARBALL   what Bioconductor advises. Fails on its errors and warnings, but for those named here with the reason.
accepted <- c(
  "Avoid 'Sys.setenv'" = paste("reticulate has no other way to be told a Python that works inside a folder with a pyproject.toml,",
                               "and children of R none to be rid of its LD_LIBRARY_PATH")
)
off <- c(
  "CRAN", "bioc-help", "remotes", "deprecated", "dependencies", # ask the network
  "version-num", # 0.99.x is for packages under review there
  "R-ver", # the oldest R that works, not Bioconductor's last
  "formatting" # 2 spaces and lines of 140 characters: `make lint` checks that
)
switches <- setNames(rep(list(TRUE), length(off)), paste0("no-check-", off))
log <- tempfile("bioccheck")
dir.create(log)
found <- suppressWarnings(do.call(BiocCheck::BiocCheck, c(list(commandArgs(TRUE)[[1]], checkDir = log), switches)))
grave <- vapply(c(found$error, found$warning), function(finding) paste(trimws(unlist(finding)), collapse = " "), "")
grave <- grave[!vapply(grave, function(text) any(vapply(names(accepted), grepl, NA, x = text, fixed = TRUE)), NA)]
cat(if (length(grave)) paste("BiocCheck:", grave) else "BiocCheck: nothing but notes, and what tools/bioccheck.R accepts", sep = "\n")
quit(status = length(grave) > 0)
