# What the backend is, and what ails it. Facts are gathered in one place and judged in another, which tests can reach.

#' Whether the backend can be used
#'
#' `TRUE` where a Python with all that the models need is found; it is started then. Nothing is downloaded. Use it in
#' examples, tests and reports that shall pass also where there is none.
#'
#' @return `TRUE` or `FALSE`. Where it is `FALSE`, [backend_status()] says why.
#' @examples
#' backend_available()
#' @export
backend_available <- function() {
  # reticulate from 1.41 on would otherwise fetch a Python and all of its packages
  named <- nzchar(Sys.getenv(c("SCELBO_PYTHON", "RETICULATE_PYTHON")))
  if (!any(named) && !reticulate::py_available() && !length(own_pythons())) return(FALSE)
  tryCatch(inherits(core(), "python.builtin.module"), scelbo_backend_error = function(cnd) FALSE)
}

#' Say what the backend is
#'
#' Starts it if need be, and lists Python, its packages, PyTorch, NumPy, the device, whose loops and matrix products training
#' uses, which OpenMP is loaded and the number of threads, each with one line of cure where something is amiss: another Python
#' than the one meant, packages that are missing or too old, a GPU that is not used, libraries that do not go together.
#'
#' @return A data.frame with the columns `what`, `value` and `cure` (`NA` where all is well), of a class that prints.
#'   Where the backend does not start, its first row says why; what could be found out about that Python follows.
#' @seealso [install_backend()], [backend_available()].
#' @examplesIf backend_available()
#' backend_status()
#' @export
backend_status <- function() {
  trouble <- tryCatch({
    core()
    NULL
  }, scelbo_backend_error = identity)
  facts <- backend_facts(is.null(trouble))
  rows <- if (is.null(trouble)) status_rows(facts) else trouble_rows(trouble, facts)
  table <- as.data.frame(do.call(rbind, rows))
  structure(setNames(table, c("what", "value", "cure")), class = c("scelbo_status", "data.frame"))
}

# All that is judged. `found` is what the running core says of itself.
backend_facts <- function(runs) {
  python <- chosen_python()
  asked <- if (length(python)) ask_python(python) else character()
  list(
    python = python, version = asked["python"], packages = asked[names(asked) != "python"],
    ours = c(virtualenv_python(), conda_python()), asked_for = Sys.getenv("SCELBO_PYTHON"),
    reticulate_python = Sys.getenv("RETICULATE_PYTHON"), openmp = openmp_runtimes(), mac = on_mac(), core = core_path(),
    blas = session$blas, found = if (runs) to_r(bridge()$status())
  )
}

status_rows <- function(facts) {
  found <- facts$found
  gpu <- if (found$idle_gpu) idle_gpu_cure(found)
  crowd <- if (found$threads > found$cores) paste0("There are ", found$cores, " cores: train(threads = ", found$cores, ").")
  list(
    c("Python", paste0(found$python, " (", facts$python, ")"), other_python_cure(facts) %||% NA),
    package_row(facts),
    c("scelbo", paste0(found$scelbo, " (", facts$core, ")"), NA),
    c("PyTorch", found$torch, NA),
    c("NumPy", found$numpy, NA),
    c("device", found$device, gpu %||% NA),
    loops_row(facts),
    c("BLAS", paste0(switch(facts$blas, own = "PyTorch's own", system = "the system's", "perhaps R's (slow)"),
                     if (found$onednn) ", large products by oneDNN"),
      if (facts$blas == "loaded before") "Restart R and call scelbo before anything else imports torch." else NA),
    c("OpenMP", if (length(facts$openmp)) some_of(basename(facts$openmp)) else "not told", openmp_cure(facts) %||% NA),
    c("threads", found$threads, crowd %||% NA)
  )
}

# The backend did not start: why, and what its Python is.
trouble_rows <- function(trouble, facts) {
  rows <- list(c("trouble", trouble$headline, trouble$hint %||% backend_hint()))
  if (!length(facts$python)) return(rows)
  version <- facts$version
  if (is.na(version)) {
    return(c(rows, list(c("Python", facts$python, "It does not run: choose another by SCELBO_PYTHON, or install_backend()."))))
  }
  cure <- if (too_old(version)) old_python_cure else other_python_cure(facts)
  c(rows, list(c("Python", paste0(version, " (", facts$python, ")"), cure %||% NA), package_row(facts)))
}

# ---------------------------------------------------------------------- what may be amiss, and its cure

oldest_python <- "3.11"
too_old <- function(version) numeric_version(version) < oldest_python
old_python_cure <- paste("scelbo needs Python", oldest_python, "or newer: reticulate::install_python(\"3.12:latest\"), then",
                         "install_backend(); or install_backend(method = \"conda\"), which brings one.")

# Another Python runs than the one that was asked for, or than the one that install_backend() made.
other_python_cure <- function(facts) {
  folder <- function(python) normalizePath(dirname(python), mustWork = FALSE)
  is <- function(others) any(folder(others) == folder(facts$python))
  if (nzchar(facts$asked_for)) {
    if (is(Sys.which(facts$asked_for))) return(NULL)
    return(paste0("SCELBO_PYTHON is ", facts$asked_for, ", but something had started this one before: restart R, and call scelbo first."))
  }
  if (!length(facts$ours) || is(facts$ours)) return(NULL)
  why <- if (nzchar(facts$reticulate_python)) {
    "RETICULATE_PYTHON is set (perhaps in ~/.Renviron, or by RStudio's project options): take it out and restart R"
  } else {
    "Something started this one first: restart R and call scelbo before other packages start Python"
  }
  paste0(facts$ours[[1]], " (made for scelbo) is not used. ", why, "; or set SCELBO_PYTHON.")
}

package_row <- function(facts) {
  bad <- unmet(python_requirements(), facts$packages)
  if (!length(bad)) return(c("packages", paste("all", length(facts$packages), "that are needed"), NA))
  value <- paste0(names(bad), " (", bad, ")", collapse = ", ")
  c("packages", value, install_cure(facts, names(bad)))
}

install_cure <- function(facts, packages) {
  if (facts$python %in% facts$ours) return("Run install_backend() again.")
  wanted <- python_requirements()
  wanted <- wanted[requirement_names(wanted) %in% packages]
  paste("In a terminal:", facts$python, "-m pip install", paste(shQuote(wanted), collapse = " "))
}

# Who did the loops where training spends its time. Without numba PyTorch does the same, more slowly.
loops_row <- function(facts) {
  loops <- facts$found$loops
  if (is.null(loops$numba)) return(c("loops", "PyTorch's", paste("Training is faster with numba.", install_cure(facts, "numba"))))
  c("loops", if (loops$compiled) paste("compiled by numba", loops$numba) else "PyTorch's", NA)
}

requirement_names <- function(requirements) sub("[^A-Za-z0-9_-].*", "", requirements)

# Which requirements a Python's packages (name -> version, "-" where absent) do not meet: name -> what is there.
unmet <- function(requirements, versions) {
  met <- vapply(requirements, function(requirement) {
    version <- versions[[requirement_names(requirement)]]
    if (version == "-") return(FALSE)
    version <- numeric_version(sub("^([0-9]+([.][0-9]+)*).*", "\\1", version)) # without "+cpu", "rc1"
    bounds <- regmatches(requirement, gregexpr("(>=|<)[0-9.]+", requirement))[[1]]
    all(vapply(bounds, function(bound) match.fun(sub("[0-9.]+", "", bound))(version, sub("[<>=]+", "", bound)), NA))
  }, NA)
  names <- requirement_names(requirements[!met])
  setNames(ifelse(versions[names] == "-", "missing", versions[names]), names)
}

idle_gpu_cure <- function(found) {
  if (is.null(found$cuda)) {
    return(paste0("There is a GPU, but this PyTorch (", found$torch, ") is built without CUDA: install_backend(gpu = TRUE, pip_options = ",
                  "\"--index-url https://download.pytorch.org/whl/cu126\"), or the index that pytorch.org names for your driver."))
  }
  paste0("There is a GPU, but this PyTorch (for CUDA ", found$cuda, ") cannot use it: `nvidia-smi` tells which CUDA the driver knows; ",
         "update the driver, or install_backend(gpu = TRUE, pip_options = ...) with a PyTorch for that CUDA.")
}

# Two copies of LLVM's or Intel's OpenMP in one process end it on macOS ("OMP: Error #15"); elsewhere copies get along.
openmp_cure <- function(facts) {
  if (!facts$mac || sum(grepl("lib(iomp5|omp)[.]", facts$openmp)) < 2) return(NULL)
  paste("Two OpenMP libraries are loaded, which may stop R with \"OMP: Error #15\": restart R and call scelbo::backend() before other",
        "packages load theirs; or Sys.setenv(KMP_DUPLICATE_LIB_OK = \"TRUE\") before it starts.")
}

# Said before torch is imported, as R may not live to say it afterwards.
warn_of_openmp <- function() {
  if (!on_mac() || nzchar(Sys.getenv("KMP_DUPLICATE_LIB_OK"))) return(invisible())
  loaded <- grep("lib(iomp5|omp)[.]", openmp_runtimes(), value = TRUE)
  if (!length(loaded)) return(invisible())
  cli::cli_inform(c(
    "!" = "R has loaded an OpenMP library already ({.path {loaded}}), and PyTorch brings its own.",
    i = "Should R stop now with \"OMP: Error #15\": restart it, and call {.fn scelbo::backend} before other packages load theirs."
  ))
}

# What messages of failed starts mean.
causes <- c(
  "GLIBCXX|CXXABI" = paste("R has loaded an older C++ library than this Python's packages were built with: use install_backend()'s",
                           "virtualenv, or start R with LD_LIBRARY_PATH set to the `lib` folder of the conda environment."),
  "shared library|libpython|enable-shared" = paste(
    "R needs Python as a library. Debian and Ubuntu pack it apart: apt install libpython3.11 (or of the version that it is);",
    "pyenv builds it with PYTHON_CONFIGURE_OPTS=--enable-shared; install_backend(method = \"conda\") brings it."),
  "architecture|mach-o" = paste("R and this Python are built for different processors (arm64, x86_64): install R for arm64, or a",
                                "Python of R's kind."),
  "WinError|DLL load failed" = "Install Microsoft's Visual C++ Redistributable, and restart R.",
  "compiled using NumPy 1|dtype size changed|multiarray failed" =
    "A package was built for another NumPy: install_backend() again, or `pip install --upgrade --force-reinstall` that package."
)

cause_of <- function(message) {
  at <- which(vapply(names(causes), grepl, NA, x = message, ignore.case = TRUE))
  if (length(at)) causes[[at[[1]]]]
}

# ---------------------------------------------------------------------- facts

# The Python that runs, else the one that would be started.
chosen_python <- function() {
  if (reticulate::py_available()) return(reticulate::py_config()$python)
  named <- Sys.getenv(c("SCELBO_PYTHON", "RETICULATE_PYTHON"))
  c(Sys.which(named[nzchar(named)]), own_pythons()) |> unname() |> head(1)
}

# Asks a Python, in a process of its own, for its version and those of the packages: "python" is NA where it does not run.
ask_python <- function(python, packages = requirement_names(python_requirements())) {
  script <- tempfile(fileext = ".py")
  on.exit(unlink(script))
  writeLines(c(
    "import sys",
    "print('python %d.%d.%d' % sys.version_info[:3])",
    "for name in sys.argv[1:]:",
    "    try:",
    "        from importlib.metadata import version",
    "        print(name, version(name))",
    "    except Exception:",
    "        print(name, '-')"
  ), script)
  said <- tryCatch(outside_r(suppressWarnings(system2(python, c(shQuote(script), packages), stdout = TRUE, stderr = FALSE))),
                   error = function(cnd) NULL)
  said <- strsplit(grep("^[A-Za-z0-9_-]+ [0-9-]", said, value = TRUE), " ", fixed = TRUE)
  versions <- setNames(vapply(said, `[[`, "", 2), vapply(said, `[[`, "", 1))
  setNames(versions[c("python", packages)], c("python", packages))
}

on_mac <- function() identical(Sys.info()[["sysname"]], "Darwin")

# Files of the OpenMP libraries in this process.
openmp_runtimes <- function() {
  maps <- sprintf("/proc/%d/maps", Sys.getpid())
  lines <- if (file.exists(maps)) readLines(maps)
  else if (nzchar(Sys.which("lsof"))) suppressWarnings(system2("lsof", c("-p", Sys.getpid()), stdout = TRUE, stderr = FALSE))
  unique(unlist(regmatches(lines, gregexpr("/[^ ]*lib(iomp5|omp|gomp)[^ /]*$", lines))))
}

#' @export
print.scelbo_status <- function(x, ...) {
  cli::cat_line(format(x$what), "  ", x$value)
  cures <- !is.na(x$cure)
  if (any(cures)) cli::cat_bullet(x$what[cures], ": ", x$cure[cures], bullet = "info")
  invisible(x)
}
