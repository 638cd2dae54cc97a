skip_without_backend()

test_that("metadata survive the way to Python and back, with all that is missing", {
  frame <- odd_metadata()
  back <- from_pandas(to_pandas(frame))
  expect_identical(back, frame)
  expect_identical(is.nan(back$number), is.nan(frame$number)) # identical() takes NA and NaN for the same
})

test_that("a frame without rows or columns survives", {
  expect_identical(from_pandas(to_pandas(odd_metadata()[0, ])), odd_metadata()[0, ])
  expect_identical(from_pandas(to_pandas(odd_metadata()[, 0])), odd_metadata()[, 0])
})

test_that("a missing value is missing in Python too", {
  missing <- reticulate::py_to_r(to_pandas(odd_metadata())$isna()$sum()$to_dict())
  expect_equal(unlist(missing[c("factor", "ordered", "text", "all_there", "logical", "whole", "number", "only_na")]),
               c(factor = 1, ordered = 1, text = 1, all_there = 0, logical = 2, whole = 1, number = 2, only_na = 6))
})

test_that("dates travel as text, and run-length columns as what they hold", {
  dates <- data.frame(day = as.Date(c("2020-01-01", NA)), row.names = c("a", "b"))
  expect_identical(from_pandas(to_pandas(dates))$day, c("2020-01-01", NA))
  skip_if_not_installed("S4Vectors")
  runs <- S4Vectors::DataFrame(run = S4Vectors::Rle(c("x", "x", NA)), row.names = c("a", "b", "c"))
  expect_identical(from_pandas(to_pandas(runs))$run, c("x", "x", NA))
})

test_that("what is no plain vector is left out, and named", {
  frame <- data.frame(fine = 1:2)
  frame$lists <- list(1, "a")
  expect_warning(sent <- to_pandas(frame), "lists", class = "scelbo_data_warning")
  expect_named(from_pandas(sent), "fine")
})

test_that("metadata survive a file", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  counts <- simulate_counts(6, 5)
  frame <- odd_metadata()
  colnames(counts) <- rownames(frame)
  skip_if_not_installed("SingleCellExperiment")
  write_h5ad(SingleCellExperiment::SingleCellExperiment(list(counts = counts), colData = frame), path)
  back <- from_pandas(as_anndata(path)$obs)
  kept <- setdiff(names(frame), c("only_na", "only_na_text", "text", "all_there")) # anndata makes factors of texts
  expect_equal(back[kept], frame[kept])
  expect_identical(as.character(back$text), frame$text)
})
