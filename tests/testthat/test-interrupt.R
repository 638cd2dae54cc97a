skip_without_backend()
skip_on_os("windows")
skip_if_not_installed("processx")

test_that("Ctrl-C keeps the model, again and again, and R's own interrupts work afterwards", {
  script <- child_script(c(
    "counts <- Matrix::rsparsematrix(200, 400, 0.2, rand.x = function(n) stats::rpois(n, 3) + 1)",
    "model <- train(scvi(counts), max_epochs = 1, verbose = FALSE)", # imports and compiles what training needs
    "for (k in 1:2) {",
    "  cat('ready\\n')",
    "  train(model, max_epochs = 100000, verbose = FALSE)",
    "  cat('kept', nrow(as.data.frame(model)), 'trained', summary(model)$trained, '\\n')",
    "}",
    "cat('ready\\n')",
    "tryCatch({ Sys.sleep(30); cat('slept\\n') }, interrupt = function(cnd) cat('R interrupted\\n'))",
    "train(model, max_epochs = 1, verbose = FALSE)",
    "cat('done\\n')"
  ))
  child <- processx::process$new(rscript(), script, stdout = "|", stderr = "2>&1")
  withr::defer(child$kill())
  lines <- character()
  heard <- 0
  deadline <- Sys.time() + 90
  while (child$is_alive() && Sys.time() < deadline) {
    child$poll_io(200)
    lines <- c(lines, child$read_output_lines())
    if (sum(lines == "ready") > heard) {
      heard <- heard + 1
      Sys.sleep(1.5)
      child$interrupt()
    }
  }
  lines <- c(lines, child$read_all_output_lines())
  expect_match(lines, "^kept [0-9]+ trained TRUE", all = FALSE)
  expect_equal(sum(grepl("^kept", lines)), 2)
  expect_true("R interrupted" %in% lines)
  expect_equal(tail(lines, 1), "done")
})
