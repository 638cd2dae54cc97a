# Setting the backend up. What is there, says backend_status().

# What the core imports, as pyproject.toml says it (a test compares the two). reticulate < 1.38 cannot use NumPy 2.
python_requirements <- function() {
  numpy <- if (old_reticulate()) "numpy>=1.24,<2" else "numpy>=1.24"
  c("anndata>=0.11", "h5py>=3.8", "jaxtyping>=0.2.25", "lightning>=2.1", "mudata>=0.2.3", "numba>=0.58", numpy, "pandas>=2.0,<3",
    "safetensors>=0.4", "scikit-learn>=1.3", "scipy>=1.11", "torch>=2.1", "tqdm")
}

old_reticulate <- function() utils::packageVersion("reticulate") < "1.38"

#' Install what the models need
#'
#' Creates a Python environment with PyTorch, Lightning, anndata and their kin. The models' own code is part of this R
#' package and needs no installation. Needs a network, takes some minutes, and is done once.
#'
#' @param envname Name of the environment. [scvi()] and the others find `"r-scelbo"` by themselves; point
#'   `SCELBO_PYTHON` to any other.
#' @param method `"virtualenv"` (needs a Python 3.11 or later on this machine; 3.11 or 3.12 with a
#'   reticulate before 1.38) or `"conda"`.
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
  method <- one_of(method[[1]], c("virtualenv", "conda"), "method")
  outside_r(if (method == "virtualenv") {
    if (!reticulate::virtualenv_exists(envname)) reticulate::virtualenv_create(envname, starter_python(), packages = NULL)
    reticulate::virtualenv_install(envname, python_requirements(), pip_options = pip_options)
    python <- reticulate::virtualenv_python(envname)
  } else {
    reticulate::conda_create(envname, python_version = "3.11")
    reticulate::conda_install(envname, python_requirements(), pip = TRUE, pip_options = pip_options)
    python <- reticulate::conda_python(envname)
  })
  if (gpu %||% nzchar(Sys.which("nvidia-smi"))) check_gpu(python)
  compile_loops(python)
  cli::cli_inform(c(v = "The backend is ready: {.path {python}}", i = "See {.fn scelbo::backend_status}."))
  if (reticulate::py_available()) cli::cli_inform(c("!" = "Another Python is running: restart R to use this one."))
  invisible(python)
}

# Makes the machine code of loops that training spends its time in, for which its first use would have to wait.
compile_loops <- function(python) {
  cli::cli_inform(c(i = "Compiling the loops that training spends its time in ..."))
  path <- encodeString(core_path(), quote = "'")
  call <- paste0("import sys; sys.path.insert(0, ", path, "); from scelbo.cli import main; sys.exit(main(['compile']))")
  failed <- outside_r(system2(python, c("-W", "ignore", "-c", shQuote(call)), stdout = FALSE, stderr = FALSE))
  if (failed) cli::cli_inform(c("!" = "They were not compiled: the first training will do it."))
}

# Evaluates `expr` with LD_LIBRARY_PATH as it was before R put its own folders first: with these a Python that is started from
# here loads the system's libpython or OpenSSL in place of those that it was built with, and pip finds no network.
outside_r <- function(expr) {
  before <- Sys.getenv("LD_LIBRARY_PATH", NA)
  paths <- file.path(R.home("etc"), "ldpaths")
  if (is.na(before) || !file.exists(paths)) return(expr)
  script <- paste0(". ", shQuote(paths), "; printf %s \"$LD_LIBRARY_PATH\"")
  rs <- system2("env", c("-i", paste0("R_HOME=", shQuote(R.home())), "sh", "-c", shQuote(script)), stdout = TRUE)
  if (!length(rs) || !startsWith(before, rs)) return(expr)
  on.exit(Sys.setenv(LD_LIBRARY_PATH = before))
  Sys.setenv(LD_LIBRARY_PATH = sub("^:", "", substring(before, nchar(rs) + 1)))
  expr
}

# A Python that an environment can be made of. NumPy below 2, which an older reticulate needs, has no wheels from Python 3.13 on.
starter_python <- function(call = caller_env()) {
  names <- c("python3.12", "python3.11", if (!old_reticulate()) c("python3.13", "python3.14"), "python3", "python")
  limits <- paste0("(3, 11) <= sys.version_info[:2] < ", if (old_reticulate()) "(3, 13)" else "(4,)")
  code <- shQuote(paste0("import sys, ssl, ensurepip, venv; sys.exit(not (", limits, "))"))
  for (python in Sys.which(names)) {
    if (nzchar(python) && !outside_r(suppressWarnings(system2(python, c("-c", code), stdout = FALSE, stderr = FALSE)))) return(python)
  }
  abort_scelbo(
    "backend", paste0("No Python ", if (old_reticulate()) "3.11 or 3.12" else "3.11 or newer", " with its venv module was found."),
    c("Install one (Debian, Ubuntu: apt install python3-venv; anywhere: reticulate::install_python(\"3.12:latest\")),",
      "or let conda bring it: install_backend(method = \"conda\").") |> paste(collapse = " "), call = call
  )
}

check_gpu <- function(python) {
  seen <- outside_r(system2(python, c("-c", shQuote("import torch; print(torch.cuda.is_available())")), stdout = TRUE))
  if (identical(seen, "True")) return(invisible())
  warn_scelbo("backend", c(
    "PyTorch sees no GPU, so training will run on the CPU.",
    i = "Check the driver with `nvidia-smi`; `pip_options` can name an index with a PyTorch build for its CUDA version."
  ))
}
