# Setting the backend up, and saying what is there.

# What the core imports, as pyproject.toml says it (a test compares the two). reticulate < 1.38 cannot use NumPy 2.
python_requirements <- function() {
  numpy <- if (utils::packageVersion("reticulate") < "1.38") "numpy>=1.24,<2" else "numpy>=1.24"
  c("anndata>=0.11", "h5py>=3.8", "jaxtyping>=0.2.25", "lightning>=2.1", "mudata>=0.2.3", "numba>=0.58", numpy, "pandas>=2.0,<3",
    "safetensors>=0.4", "scikit-learn>=1.3", "scipy>=1.11", "torch>=2.1", "tqdm")
}

#' Install what the models need
#'
#' Creates a Python environment with PyTorch, Lightning, anndata and their kin. The models' own code is part of this R
#' package and needs no installation. Needs a network, takes some minutes, and is done once.
#'
#' @param envname Name of the environment. [scvi()] and the others find `"r-scelbo"` by themselves; point
#'   `SCELBO_PYTHON` to any other.
#' @param method `"virtualenv"` (needs a Python 3.11 or later on this machine) or `"conda"`.
#' @param gpu `TRUE` checks at the end that PyTorch sees a GPU, and says what to do if it does not. `NULL`: checks where
#'   an NVIDIA driver is found.
#' @param pip_options Further options of `pip install`, for instance an index that serves a certain build of PyTorch.
#' @return The path of the Python program, invisibly.
#' @seealso [backend_status()]
#' @examples
#' \dontrun{
#' install_backend()
#' backend_status()
#' }
#' @export
install_backend <- function(envname = environment_name, method = c("virtualenv", "conda"), gpu = NULL,
                            pip_options = character()) {
  method <- match.arg(method)
  if (method == "virtualenv") {
    if (!reticulate::virtualenv_exists(envname)) reticulate::virtualenv_create(envname, packages = NULL)
    reticulate::virtualenv_install(envname, python_requirements(), pip_options = pip_options)
    python <- reticulate::virtualenv_python(envname)
  } else {
    reticulate::conda_create(envname, python_version = "3.11")
    reticulate::conda_install(envname, python_requirements(), pip = TRUE, pip_options = pip_options)
    python <- reticulate::conda_python(envname)
  }
  if (gpu %||% nzchar(Sys.which("nvidia-smi"))) check_gpu(python)
  cli::cli_inform(c(v = "The backend is ready: {.path {python}}", i = "See {.fn scelbo::backend_status}."))
  if (reticulate::py_available()) cli::cli_inform(c("!" = "Another Python is running: restart R to use this one."))
  invisible(python)
}

check_gpu <- function(python) {
  seen <- system2(python, c("-c", shQuote("import torch; print(torch.cuda.is_available())")), stdout = TRUE)
  if (identical(seen, "True")) return(invisible())
  warn_scelbo("backend", c(
    "PyTorch sees no GPU, so training will run on the CPU.",
    i = "Check the driver with `nvidia-smi`; `pip_options` can name an index with a PyTorch build for its CUDA version."
  ))
}

#' Say what the backend is
#'
#' Starts it if need be, and lists Python, PyTorch, NumPy, the device, whose matrix products PyTorch uses and the number
#' of threads, each with one line of cure where something is amiss.
#'
#' @return A data.frame with the columns `what`, `value` and `cure` (`NA` where all is well), of a class that prints.
#'   Where no backend is found it has one row, `Python`.
#' @examples
#' \dontrun{
#' backend_status()
#' }
#' @export
backend_status <- function() {
  trouble <- tryCatch({
    core()
    NULL
  }, scelbo_error = function(cnd) cnd)
  rows <- if (is.null(trouble)) status_rows() else list(c("Python", conditionMessage(trouble), trouble$hint))
  table <- as.data.frame(do.call(rbind, rows))
  structure(setNames(table, c("what", "value", "cure")), class = c("scelbo_status", "data.frame"))
}

status_rows <- function() {
  found <- reticulate::py_to_r(bridge()$status())
  list(
    c("Python", paste0(found$python, " (", reticulate::py_config()$python, ")"), NA),
    c("scelbo", paste0(found$scelbo, " (", core_path(), ")"), NA),
    c("PyTorch", found$torch, NA),
    c("NumPy", found$numpy, NA),
    c("device", found$device,
      if (found$idle_gpu) "There is a GPU that this PyTorch cannot use: install_backend(gpu = TRUE)."),
    c("BLAS", switch(session$blas, own = "PyTorch's own", system = "the system's", "perhaps R's (slow)"),
      if (session$blas == "loaded before") "Restart R and call scelbo before anything else imports torch."),
    c("threads", found$threads,
      if (found$threads > found$cores) paste0("There are ", found$cores, " cores: train(threads = ", found$cores, ")."))
  ) |> lapply(function(row) if (length(row) < 3) c(row, NA) else row)
}

#' @export
print.scelbo_status <- function(x, ...) {
  cli::cat_line(format(x$what), "  ", x$value)
  cures <- x$cure[!is.na(x$cure)]
  if (length(cures)) cli::cat_bullet(cures, bullet = "info")
  invisible(x)
}
