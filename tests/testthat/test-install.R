# Facts of a backend where all is well; a test changes what it is about.
facts <- function(..., found = list()) {
  fine <- list(
    python = "/env/bin/python", version = "3.11.7", packages = sapply(requirement_names(python_requirements()), function(name) "9.0"),
    ours = character(), asked_for = "", reticulate_python = "", openmp = "/lib/libgomp.so.1", mac = FALSE, core = "/core", blas = "own",
    found = list(python = "3.11.7", scelbo = "0.1.0", torch = "2.13.0+cpu", numpy = "1.26.4", device = "CPU", cuda = NULL, idle_gpu = FALSE,
                 loops = list(numba = "0.68.1", compiled = TRUE), onednn = FALSE, threads = 1, cores = 2)
  )
  fine$packages[c("numpy", "pandas")] <- c("1.26.4", "2.3.3")
  fine$found <- utils::modifyList(fine$found, found)
  utils::modifyList(fine, list(...))
}
cures <- function(...) {
  rows <- do.call(rbind, status_rows(facts(...)))
  setNames(rows[, 3], rows[, 1])
}
cured <- function(what, pattern, ...) {
  got <- cures(...)
  expect_match(got[[what]], pattern)
  expect_true(all(is.na(got[names(got) != what])), info = what)
}

test_that("nothing is to be cured where all is well", {
  expect_true(all(is.na(cures())))
})

test_that("an environment that is not used is named, with what stands in its way", {
  ours <- "~/.virtualenvs/r-scelbo/bin/python"
  cured("Python", "r-scelbo/bin/python .*not used.*RETICULATE_PYTHON is set", ours = ours, reticulate_python = "/env/bin/python")
  cured("Python", "Something started this one first: restart R", ours = ours)
  cured("Python", "SCELBO_PYTHON is /other/python, but", asked_for = "/other/python")
  expect_true(is.na(cures(ours = "/env/bin/python")[["Python"]]))
})

test_that("packages that are missing, too old or too new are all named, with the command that brings them", {
  versions <- facts()$packages
  versions[c("torch", "anndata", "pandas")] <- c("-", "0.8.0rc1", "3.0.1")
  cured("packages", "-m pip install 'anndata>=0.11' 'pandas>=2.0,<3' 'torch>=2.1'", packages = versions)
  expect_equal(unmet(python_requirements(), versions), c(anndata = "0.8.0rc1", pandas = "3.0.1", torch = "missing"))
  expect_match(package_row(facts(packages = versions, ours = "/env/bin/python"))[[3]], "install_backend")
  local_value("old_reticulate", function() TRUE)
  cured("packages", "'numpy>=1.24,<2'", packages = replace(facts()$packages, "numpy", "2.3.5"))
})

test_that("a GPU that is not used is explained by the build or by the driver", {
  cured("device", "built without CUDA.*pip_options = \"--index-url", found = list(idle_gpu = TRUE))
  cured("device", "for CUDA 12.6\\) cannot use it: `nvidia-smi`", found = list(idle_gpu = TRUE, cuda = "12.6"))
})

test_that("it is told who did the loops, and what brings numba", {
  cured("loops", "faster with numba. In a terminal: /env/bin/python -m pip install 'numba>=0.58'", found = list(loops = list(numba = NULL)))
  cured("loops", "install_backend", found = list(loops = list(numba = NULL)), ours = "/env/bin/python")
  value <- function(...) loops_row(facts(found = list(loops = list(...))))[[2]]
  expect_equal(value(compiled = TRUE), "compiled by numba 0.68.1")
  expect_equal(value(compiled = FALSE), "PyTorch's")
  expect_equal(value(numba = NULL), "PyTorch's")
})

test_that("libraries that do not go together are named", {
  cured("BLAS", "Restart R", blas = "loaded before")
  two <- c("/R/lib/libomp.dylib", "/env/torch/lib/libomp.dylib")
  cured("OpenMP", "OMP: Error #15", openmp = two, mac = TRUE)
  expect_true(is.na(cures(openmp = two)[["OpenMP"]])) # Linux does not mind
  cured("threads", "threads = 2", found = list(threads = 8))
})

test_that("on a Mac it is said before PyTorch is loaded that another OpenMP is there", {
  local_value("on_mac", function() TRUE)
  withr::local_envvar(KMP_DUPLICATE_LIB_OK = NA)
  local_value("openmp_runtimes", function() "/R/lib/libomp.dylib")
  expect_message(warn_of_openmp(), "OMP: Error #15")
  local_value("openmp_runtimes", function() character())
  expect_silent(warn_of_openmp())
})

test_that("what messages of failed starts mean", {
  expect_match(cause_of("ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found"), "LD_LIBRARY_PATH")
  expect_match(cause_of("Python shared library not found, Python bindings not loaded."), "libpython3.11")
  expect_match(cause_of("dlopen: mach-o file, but is an incompatible architecture"), "arm64")
  expect_match(cause_of("OSError: [WinError 126] c10.dll"), "Redistributable")
  expect_match(cause_of("A module that was compiled using NumPy 1.x cannot be run in NumPy 2"), "another NumPy")
  expect_null(cause_of("ValueError: odd"))
})

test_that("a Python that is too old is refused before anything is loaded", {
  skip_without_backend()
  local_value("oldest_python", "3.99")
  expect_error(check_python(), "too old.*install_python", class = "scelbo_backend_error")
})

test_that("a Python without the packages: what is missing is told, and no error stops backend_status()", {
  skip_without_backend()
  folder <- withr::local_tempdir()
  system2(reticulate::py_config()$python, c("-m", "venv", "--without-pip", shQuote(folder)))
  script <- child_script(c(
    paste0("Sys.setenv(SCELBO_PYTHON = ", deparse(existing_python(folder)), ")"),
    "cat(backend_available(), '\\n')",
    "print(backend_status())"
  ))
  said <- system2(rscript(), c("--vanilla", script), stdout = TRUE, stderr = TRUE)
  expect_null(attr(said, "status"))
  said <- paste(said, collapse = " ")
  expect_match(said, "FALSE")
  expect_match(said, "trouble .*No module named|trouble .*NumPy")
  expect_match(said, "Python +3[.][0-9]+")
  expect_match(said, "anndata \\(missing\\).*torch \\(missing\\)")
  expect_match(said, "-m pip install")
})

test_that("a Python that does not run is told apart from one that lacks packages", {
  rows <- trouble_rows(list(headline = "It fails.", hint = NULL), facts(python = "/none", version = ask_python("/none")["python"]))
  expect_match(rows[[2]][[3]], "does not run")
  expect_match(rows[[1]][[3]], "install_backend")
})

test_that("a Python that R starts does not load what R put into LD_LIBRARY_PATH, but what the user did", {
  skip_on_os(c("windows", "mac", "solaris"))
  rs <- Sys.getenv("LD_LIBRARY_PATH")
  skip_if_not(startsWith(rs, R.home("lib")), "R set no LD_LIBRARY_PATH")
  withr::local_envvar(LD_LIBRARY_PATH = paste0(rs, ":/the/user's"))
  said <- outside_r(system2("sh", c("-c", shQuote("echo $LD_LIBRARY_PATH")), stdout = TRUE))
  expect_equal(said, "/the/user's")
  expect_equal(Sys.getenv("LD_LIBRARY_PATH"), paste0(rs, ":/the/user's"))
})

test_that("an environment is made of a Python that is new enough, or it is said how to get one", {
  skip_without_backend()
  version <- system2(starter_python(), c("-c", shQuote("import sys; print('%d.%d' % sys.version_info[:2])")), stdout = TRUE)
  expect_false(too_old(version))
  withr::local_envvar(PATH = withr::local_tempdir())
  expect_error(starter_python(), "python3-venv.*conda", class = "scelbo_backend_error")
  expect_error(install_backend(method = "virtualenf"), "Did you mean 'virtualenv'", class = "scelbo_argument_error")
})
