# The one place where R meets Python: which Python, in which order libraries load, and the module handles.

session <- new.env(parent = emptyenv()) # core: the Python module; blas: how torch was loaded

# The Python package `scelbo`, started on first use. Nothing is converted behind our back (`convert = FALSE`):
# other packages may register conversions of their own, and reticulate's would corrupt NA.
core <- function(call = caller_env()) {
  if (is.null(session$core)) start_backend(call)
  session$core
}

# Python's value in R. reticulate's own would start whichever Python it finds before it looks at `x`, which may be what chooses
# ours: a model that came back from a file.
to_r <- function(x) {
  force(x)
  reticulate::py_to_r(x)
}

# Python's dict and tuple: these, too, would start any Python.
as_dict <- function(x) {
  core()
  reticulate::py_dict(as.list(names(x)), unname(as.list(x)), convert = FALSE)
}
as_tuple <- function(...) {
  core()
  reticulate::tuple(...)
}

# The part of the core that only R needs.
bridge <- function(call = caller_env()) core(call)[["bridge"]]

start_backend <- function(call = caller_env()) {
  tryCatch({
    choose_python(call)
    check_python(call)
    warn_of_openmp()
    with_python({
      session$blas <- load_torch_first()
      reticulate::import_from_path("scelbo.bridge", core_path(), convert = FALSE)$modest_threads()
      session$core <- reticulate::import("scelbo", convert = FALSE)
    }, call = call)
    check_numpy(call)
  }, error = function(cnd) {
    if (inherits(cnd, "scelbo_backend_error")) rlang::cnd_signal(cnd)
    said <- conditionMessage(cnd)
    abort_scelbo("backend", paste0("The Python backend does not start: ", said),
                 cause_of(said) %||% "See scelbo::backend_status().", call = call)
  })
}

check_python <- function(call = caller_env()) {
  config <- reticulate::py_config()
  version <- as.character(config$version)
  if (too_old(version)) {
    abort_scelbo("backend", paste0("Python ", version, " (", config$python, ") is too old."), old_python_cure, call = call)
  }
}

core_path <- function() system.file("python", package = "scelbo", mustWork = TRUE)

# Binds reticulate to the first Python found: the user's choice, one that runs already, one beside the source, ours.
choose_python <- function(call = caller_env()) {
  chosen <- Sys.getenv("SCELBO_PYTHON")
  if (nzchar(chosen)) {
    if (!file.exists(Sys.which(chosen))) {
      abort_scelbo("backend", paste0("SCELBO_PYTHON is '", chosen, "', which is no Python program."),
                   "Set it to the full path of a Python, or unset it.", call = call)
    }
    Sys.setenv(RETICULATE_PYTHON = chosen)
  }
  if (reticulate::py_available() || nzchar(Sys.getenv("RETICULATE_PYTHON"))) return(invisible())
  found <- own_pythons()
  if (length(found)) {
    # Not use_python(): with a pyproject.toml in the working directory reticulate would go and ask Poetry first.
    Sys.setenv(RETICULATE_PYTHON = found[[1]])
    on.exit(Sys.unsetenv("RETICULATE_PYTHON"))
    reticulate::py_config()
  } else if (!"py_require" %in% getNamespaceExports("reticulate")) { # from 1.41 on reticulate can provide one itself
    abort_scelbo("backend", "No Python was found that has what scelbo needs.", backend_hint(), call = call)
  }
  invisible()
}

own_pythons <- function() c(source_python(), virtualenv_python(), conda_python())

backend_hint <- function() {
  "Run scelbo::install_backend() once, or set SCELBO_PYTHON to a Python that has the requirements."
}

environment_name <- "r-scelbo"

# `.venv` beside the Python core: the package is being developed, inst/python is a link into its repository.
source_python <- function() existing_python(file.path(dirname(normalizePath(core_path())), ".venv"))

virtualenv_python <- function() {
  existing_python(file.path(reticulate::virtualenv_root(), environment_name))
}

conda_python <- function() {
  environments <- tryCatch(reticulate::conda_list(), error = function(cnd) NULL) # no conda here
  environments$python[environments$name == environment_name]
}

existing_python <- function(folder) {
  programs <- file.path(folder, c("bin/python", "Scripts/python.exe"))
  programs[file.exists(programs)]
}

# On Linux torch's matrix products (`sgemm_`) would bind to R's libblas.so.3, loaded before it and often the reference
# BLAS: training from R would take five times as long. RTLD_DEEPBIND makes torch prefer its own. It works only for the
# first import in the process. Returns "own", "loaded before" or "system" (where the question does not arise).
load_torch_first <- function() {
  scope <- reticulate::py_run_string(paste(
    "import os, sys",
    "blas = 'system'",
    "if hasattr(os, 'RTLD_DEEPBIND'):",
    "    blas = 'loaded before' if 'torch' in sys.modules else 'own'",
    "    flags = sys.getdlopenflags()",
    "    sys.setdlopenflags(flags | os.RTLD_NOW | os.RTLD_DEEPBIND)",
    "    try:",
    "        import torch",
    "    finally:",
    "        sys.setdlopenflags(flags)",
    sep = "\n"
  ), local = TRUE, convert = FALSE)
  blas <- to_r(scope[["blas"]])
  if (blas == "loaded before") {
    warn_scelbo("backend", c(
      "PyTorch was loaded before scelbo, so it may use R's matrix products: training can take five times as long.",
      i = "Restart R and call scelbo before anything else imports torch."
    ))
  }
  blas
}

check_numpy <- function(call = caller_env()) {
  if (reticulate::py_numpy_available()) return(invisible())
  session$core <- NULL
  abort_scelbo(
    "backend",
    paste0("reticulate ", utils::packageVersion("reticulate"), " cannot use the NumPy of ",
           reticulate::py_config()$python, "."),
    "Install 'numpy<2' in that Python, or reticulate 1.38 or later.", call = call
  )
}
