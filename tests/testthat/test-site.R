test_that("the site's index names every help page, and every walk-through", {
  index <- test_path("..", "..", "_pkgdown.yml")
  skip_if_not(file.exists(index), "the repository, with its _pkgdown.yml")
  named <- unlist(strsplit(gsub("[^A-Za-z0-9_.]", " ", readLines(index)), " +"))
  pages <- list.files(test_path("..", "..", "man"), "\\.Rd$", full.names = TRUE)
  internal <- vapply(pages, function(page) any(grepl("\\keyword{internal}", readLines(page), fixed = TRUE)), NA)
  topics <- lapply(pages[!internal], function(page) {
    sub("\\\\(name|alias)\\{(.*)\\}", "\\2", grep("^\\\\(name|alias)\\{", readLines(page), value = TRUE))
  })
  absent <- !vapply(topics, function(aliases) any(aliases %in% named), NA)
  expect_equal(basename(pages[!internal])[absent], character())
  walks <- sub("\\.Rmd$", "", list.files(test_path("..", "..", "vignettes"), "\\.Rmd$"))
  expect_equal(setdiff(walks, named), character())
})
