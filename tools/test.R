# The tests of the installed package, and one plain line at the end: "R: 12 passed, 0 failed, 0 skipped".
only <- commandArgs(TRUE) # a pattern of files' names
results <- as.data.frame(testthat::test_dir("tests/testthat", package = "scelbo", load_package = "installed",
                                            filter = if (length(only)) only, reporter = "summary", stop_on_failure = FALSE))
failed <- sum(results$failed) + sum(results$error)
cat(sprintf("R: %d passed, %d failed, %d skipped\n", sum(results$passed), failed, sum(results$skipped)))
quit(status = failed > 0)
