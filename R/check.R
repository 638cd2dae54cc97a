#' Look at the data before a model is made of them
#'
#' Says all that [scvi()] (or another constructor) would refuse, what deserves a look, and what training will take. Bad
#' data are no error here, and nothing is changed.
#'
#' @param object,batch,... As in [scvi()], all of its arguments: columns, `assay`, `layer`, `features`, `n_latent`, ...
#' @param model The constructor's name, `"scvi"`, `"peakvi"`, ...; of those that are made of cells alone (not
#'   [solo()], [stereoscope()], [destvi()], [gimvi()]).
#' @param forecast Time minibatches on up to 2,000 of the cells (some seconds); `FALSE` only looks at the data.
#' @return A list that prints:
#'
#'   - `ok`: whether a model can be made of the data;
#'   - `problems`: a data.frame of what stops it, `what`, and what to do about it, `fix`;
#'   - `concerns`: likewise, what does not stop it and often makes it a poor one, such as a covariate nested in the
#'     batch;
#'   - `forecast`: `NULL`, or a list with `seconds` and `cpu_seconds` of a training with the defaults on this machine as
#'     it is now, `memory` (a vector, in bytes), `epochs`, `minibatches`, `batch_size`, `device`, `threads`.
#' @section Errors: Where the call itself is wrong: an argument that the constructor does not have or does not allow.
#' @seealso [report()], for after training.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' check_data(so, batch = "batch")
#' check_data(so, batch = "batch", n_latent = 30)$forecast$seconds
#' @export
check_data <- function(object, batch = NULL, ..., model = "scvi", forecast = TRUE) {
  check_names(model, made_of_cells, "constructor of models of cells")
  found <- new.env(parent = emptyenv())
  found$problems <- found$concerns <- list()
  class <- constructors[[model]]
  given <- c(list(object = object), if (!is.null(batch)) list(batch = batch), list(...))
  arguments <- arguments_of(get(model, mode = "function"), given)
  data <- noting(read_arguments(class, arguments, leave = TRUE), found)
  if (!is.null(data$chosen)) data$adata <- python_anndata(data$adata, data$chosen)
  python <- core()[[class]]
  answer <- if (!is.null(data)) {
    fields <- with_python(bridge()$typed(python, as_dict(data$fields)))
    asked <- c(list(adata = data$adata, forecast = forecast, model_kwargs = fields), data$keys)
    heard(with_python(bridge()$ask(python, "check", as_dict(asked))))
  }
  findings <- function(kind) {
    rows <- if (!is.null(answer)) from_pandas(bridge()$records(answer[[kind]], list("what", "fix")))
    all <- rbind(data.frame(what = character(), fix = character()), do.call(rbind, found[[kind]]), rows)
    all[] <- lapply(all, in_r_words)
    unique(all)
  }
  checked <- list(problems = findings("problems"), concerns = findings("concerns"))
  checked$ok <- !nrow(checked$problems)
  checked$title <- if (is.null(answer)) class else to_r(answer$title)
  checked$forecast <- if (checked$ok) forecast_of(answer)
  structure(checked, class = "scelbo_check")
}

# All arguments that a constructor would have: matched, and with its defaults.
arguments_of <- function(constructor, given) {
  body(constructor) <- quote(arguments_in(environment(), ...))
  do.call(constructor, given, quote = TRUE)
}

# Evaluates `expr`, which reads data: what is amiss becomes problems and concerns in `found`. NULL where it cannot go
# on.
noting <- function(expr, found) {
  note <- function(kind, cnd) {
    what <- paste(c(cnd$headline, cnd$problems), collapse = " ")
    found[[kind]] <- c(found[[kind]], list(data.frame(what = what, fix = paste(cnd$hint, collapse = " "))))
  }
  tryCatch(
    withCallingHandlers(expr,
      scelbo_setup_error = function(cnd) {
        note("problems", cnd)
        tryInvokeRestart("scelbo_go_on")
      },
      scelbo_data_error = function(cnd) note("problems", cnd),
      scelbo_warning = function(cnd) {
        note("concerns", cnd)
        tryInvokeRestart("muffleWarning")
      }
    ),
    scelbo_setup_error = function(cnd) NULL, scelbo_data_error = function(cnd) NULL
  )
}

forecast_of <- function(answer) {
  forecast <- answer$forecast
  if (is.null(to_r(forecast))) return(NULL)
  parts <- c("seconds", "cpu_seconds", "epochs", "minibatches", "batch_size", "device", "threads")
  values <- lapply(setNames(parts, parts), function(name) to_r(forecast[[name]]))
  memory <- from_pandas(bridge()$records(forecast$memory$items(), list("part", "bytes"))) # beyond what an integer holds
  values$memory <- setNames(as.double(memory$bytes), memory$part)
  structure(values, shown = reticulate::py_str(forecast))
}

#' @export
print.scelbo_check <- function(x, ...) {
  cli::cat_line(x$title, ": ", if (x$ok) "ready" else "not ready")
  print_findings(x$problems, "problem", cli::col_red(cli::symbol$cross))
  print_findings(x$concerns, "concern", cli::col_yellow("!"))
  if (!is.null(x$forecast)) cli::cat_line(attr(x$forecast, "shown"))
  invisible(x)
}

print_findings <- function(findings, name, mark) {
  n <- nrow(findings)
  cli::cat_line(if (n) n else "no", " ", name, if (n != 1) "s", if (n) ":")
  for (i in seq_len(n)) {
    cli::cat_line(cli::ansi_strwrap(paste(mark, findings$what[[i]]), indent = 2, exdent = 4))
    if (nzchar(findings$fix[[i]])) cli::cat_line(cli::ansi_strwrap(findings$fix[[i]], indent = 4, exdent = 4))
  }
}
