# Where the cells of the walk-throughs are: each variable is a file, else one beside the checkout, else empty (then cells are simulated).
# It is told here and not in the page: files that a page names, rmarkdown may copy, and remove the copies.
data <- c(SCELBO_ATAC = "hemato_scatac", SCELBO_CITE = "pbmc15k_cite", SCELBO_MULTIOME = "a549_multiome",
          SCELBO_SPATIAL = "osmfish", SCELBO_REFERENCE = "zeisel550", SCELBO_SPOTS = "lymph_st", SCELBO_CELLS = "lymph_sc",
          SCELBO_RNA = "kang_ifnb", SCELBO_ATLAS = "pbmc_facs", SCELBO_QUERY = "pbmc3k")
for (name in names(data)) {
  cells <- Sys.getenv(name, NA)
  beside <- file.path("../shared/data", paste0(data[[name]], ".h5ad"))
  if (is.na(cells)) cells <- if (file.exists(beside)) beside else ""
  do.call(Sys.setenv, setNames(list(if (nzchar(cells)) normalizePath(cells, mustWork = TRUE) else ""), name))
}
