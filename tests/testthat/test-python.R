test_that("SCELBO_PYTHON must be a Python", {
  withr::local_envvar(SCELBO_PYTHON = "no/such/python")
  expect_error(choose_python(), "no Python program", class = "scelbo_backend_error")
})

test_that("the requirements are those of the Python package", {
  toml <- test_path("..", "..", "pyproject.toml")
  skip_if_not(file.exists(toml), "the repository, with its pyproject.toml")
  lines <- readLines(toml)
  from <- grep("^dependencies = \\[", lines)
  block <- lines[(from + 1):(from + which(lines[-(1:from)] == "]")[1] - 1)]
  expect_setequal(requirement_names(python_requirements()), requirement_names(gsub('[ ",]', "", block)))
})

test_that("the backend's state is told, with cures", {
  skip_without_backend()
  status <- backend_status()
  expect_equal(status$what, c("Python", "packages", "scelbo", "PyTorch", "NumPy", "device", "loops", "BLAS", "OpenMP", "threads"))
  expect_equal(status$cure[status$what == "packages"], NA_character_)
  expect_output(print(status), "PyTorch +[0-9]")
})

test_that("Python's exceptions become conditions with a class, a hint and the problems", {
  skip_without_backend()
  errors <- core()$errors
  raise <- function(exception) {
    with_python(reticulate::py_run_string("def throw(e): raise e", local = TRUE, convert = FALSE)[["throw"]](exception))
  }
  cnd <- tryCatch(raise(errors$DataError("All is wrong", "Mend it.", list("one", "two"))), error = identity)
  expect_s3_class(cnd, c("scelbo_data_error", "scelbo_error", "rlang_error"))
  expect_equal(cnd[c("hint", "problems")], list(hint = "Mend it.", problems = c("one", "two")))
  expect_match(conditionMessage(cnd), "All is wrong.*one.*two.*Mend it")
  plain <- tryCatch(raise(reticulate::import_builtins(FALSE)$ValueError("odd")), error = identity)
  expect_s3_class(plain, c("scelbo_python_error", "scelbo_error"))
  expect_match(conditionMessage(plain), "ValueError: odd")
  expect_error(with_python(stop("of R")), "of R", class = "simpleError")
})

test_that("torch uses its own matrix products, not R's", {
  skip_without_backend()
  skip_on_os(c("windows", "mac", "solaris"))
  log <- withr::local_tempfile()
  script <- child_script(c(
    "torch <- { core <- scelbo:::core(); reticulate::import('torch', convert = FALSE) }",
    "invisible(torch$mm(torch$ones(2L, 2L), torch$ones(2L, 2L)))" # lazy binding: the product must be taken
  ))
  withr::with_envvar(c(LD_DEBUG = "bindings", LD_DEBUG_OUTPUT = log), system2(rscript(), script))
  logs <- list.files(dirname(log), paste0("^", basename(log)), full.names = TRUE)
  pattern <- "binding file [^ ]*libtorch_cpu[^ ]* .*`sgemm_'"
  bound <- system2("grep", c("-h", shQuote(pattern), logs), stdout = TRUE)
  unlink(logs)
  skip_if(!length(bound), "the loader tells no binding of sgemm_")
  expect_false(any(grepl("to [^ ]*lib(R)?blas|to [^ ]*libR[.]so", bound)), info = bound)
})
