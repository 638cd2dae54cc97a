# What R itself and lintr find in the package: its help pages, its exports, its functions, its style.
found <- character()
note <- function(lines) found <<- c(found, sub("\\n$", "", lines[nzchar(lines)]))

for (page in list.files("man", "\\.Rd$", full.names = TRUE)) note(format(tools::checkRd(page, listOK = FALSE)))
note(utils::capture.output(print(tools::undoc(dir = "."))))
library(scelbo)
codetools::checkUsagePackage("scelbo", report = note)

if (requireNamespace("lintr", quietly = TRUE)) {
  for (folder in c("R", "vignettes", "tests", "tools", "benchmarks")) {
    for (lint in lintr::lint_dir(folder)) note(sprintf("%s/%s:%d: %s", folder, lint$filename, lint$line_number, lint$message))
  }
} else {
  cat("lintr is not installed, so style is not checked\n")
}
if (length(found)) writeLines(found) else cat("help pages, functions and style are clean\n")
quit(status = length(found) > 0)
