# The site of the package, in site/: run by tools/site.sh.
if (!requireNamespace("pkgdown", quietly = TRUE)) {
  cat("the site needs the R package pkgdown\n")
  quit(status = 3)
}
source("tools/data.R")
options(pkgdown.internet = FALSE) # else it asks CRAN whether it has this package
site <- pkgdown::as_pkgdown(".", override = list(destination = "site"))
pkgdown::check_pkgdown(site) # stops where the index of functions or of articles lacks one
pkgdown::init_site(site)
pkgdown::build_home(site, preview = FALSE)
pkgdown::build_reference(site, lazy = FALSE, devel = FALSE, preview = FALSE) # with what the examples print and draw
pkgdown::build_articles(site, lazy = FALSE, preview = FALSE)
pkgdown::build_news(site, preview = FALSE)

# The pages in docs/, which the front page points to, and their pictures.
for (page in list.files("docs", "\\.md$", recursive = TRUE)) {
  html <- file.path("site/docs", sub("md$", "html", page))
  dir.create(dirname(html), showWarnings = FALSE, recursive = TRUE)
  title <- sub("^#+ *", "", readLines(file.path("docs", page), 1))
  options <- c("--standalone", "--mathml", "--wrap=none", "--metadata", paste0("pagetitle=", title))
  rmarkdown::pandoc_convert(normalizePath(file.path("docs", page)), to = "html", from = "gfm+tex_math_dollars",
                            output = file.path(getwd(), html), options = options)
  lines <- readLines(html)
  lines <- gsub('(href="(?!https?:)[^"]*)[.]md', "\\1.html", lines, perl = TRUE)
  code <- '<a href="[.][^"]*/(python|R|tests|tools|benchmarks|examples)/[^"]*">(.*?)</a>' # is not in the site
  writeLines(gsub(code, "\\2", lines, perl = TRUE), html)
}
file.copy("docs/images", "site/docs", recursive = TRUE)

# What points to pages as they stand in the repository.
for (page in file.path("site", c("index.html", "CHANGELOG.html"))) {
  lines <- gsub('href="vignettes/([a-z_]+)[.]Rmd"', 'href="articles/\\1.html"', readLines(page))
  writeLines(gsub('href="NEWS[.]html"', 'href="news/index.html"', lines), page)
}

# Links within the site lead somewhere.
pages <- list.files("site", "\\.html$", recursive = TRUE)
for (page in pages) {
  text <- paste(readLines(file.path("site", page), warn = FALSE), collapse = "\n")
  links <- unlist(regmatches(text, gregexpr('(?<=href="|src=")(?![a-z]+:|#|//)[^"#?]+', text, perl = TRUE)))
  gone <- unique(links[!file.exists(file.path("site", dirname(page), utils::URLdecode(links)))])
  if (length(gone)) cat("in", page, "these links lead nowhere:", gone, "\n")
}
cat("the site is at site/index.html\n")
