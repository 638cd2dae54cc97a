skip_without_backend()
skip_on_os("windows")
skip_if_not_installed("processx")

test_that("a training that was killed goes on to the same model", {
  state <- withr::local_tempfile()
  started <- function(seed = 1, ...) {
    train(scvi(simulate_counts(), n_latent = 3), max_epochs = 200, seed = seed, check_val_every_n_epoch = 5, verbose = FALSE, ...)
  }
  counts <- withr::local_tempfile(fileext = ".rds")
  saveRDS(simulate_counts(), counts)
  child <- processx::process$new(rscript(), child_script(c(
    sprintf("counts <- readRDS(%s)", deparse(counts)),
    sprintf("train(scvi(counts, n_latent = 3), max_epochs = 200, seed = 1, check_val_every_n_epoch = 5, verbose = FALSE, resume = %s)",
            deparse(state))
  )), stdout = "|", stderr = "2>&1")
  withr::defer(child$kill())
  deadline <- Sys.time() + 90
  while (child$is_alive() && !file.exists(state) && Sys.time() < deadline) Sys.sleep(0.02)
  child$signal(9L)
  child$wait(5000)
  expect_equal(child$get_exit_status(), -9, info = paste(child$read_all_output_lines(), collapse = "\n"))
  expect_true(file.exists(state))
  expect_error(started(seed = 2, resume = state), "another seed", class = "scelbo_argument_error")
  before <- readBin(state, "raw", 1e7)
  resumed <- started(resume = state)
  expect_false(identical(before, readBin(state, "raw", 1e7))) # which told of a training that had not ended
  undisturbed <- started()
  expect_identical(get_latent_representation(resumed), get_latent_representation(undisturbed))
  expect_equal(as.data.frame(resumed), as.data.frame(undisturbed))
})
