#' A report about a trained model
#'
#' One page that asks what a careful person would ask of a fit, of cells that training did not see: was the KL weight 1,
#' does the model over-fit, which latent dimensions have collapsed, do its draws look like the counts. Each number comes
#' with what it means and what to do.
#'
#' @inheritParams questions
#' @param file Where to write the page: one HTML file with its figures inside, for which Python needs matplotlib. `NULL`
#'   writes none.
#' @param labels What colours the latent space beside the batch: the name of a column of `object` (or of the model's
#'   metadata), or a vector with one value a cell. `NULL`: the `labels` that the model reads, if any.
#' @param n_samples,n_cells Draws and cells of the posterior predictive check.
#' @param embedding How the latent space is laid out: `"pca"`, or `"umap"` (for which Python needs umap-learn).
#' @param ... Further arguments of the Python method: `seed`.
#' @param open Show the page in a browser, in an interactive session.
#' @return Invisibly a list that prints the numbers: `verdicts`, a data.frame with `name`, `value`, `shown`, `good`,
#'   `means`, `advice`; `collapsed`, the latent dimensions that say nothing about cells; `latent_kl`, see
#'   [get_latent_kl()]; `fit`, a data.frame with `cells`, `elbo`, `elbo_se`, `reconstruction`, `kl` of training and of
#'   held-out cells; `predictive`, see [posterior_predictive_check()]; `embedding`, a data.frame of cells; `history`,
#'   see [as.data.frame()]; `file`.
#' @section Errors: `scelbo_setup_error` where the column is not there, `scelbo_backend_error` where Python lacks
#'   matplotlib.
#' @seealso [check_data()], for before training.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' found <- report(model, tempfile(fileext = ".html"), labels = "cell_type", object = so)
#' subset(found$verdicts, !good)
#' report(model, labels = so$cell_type) # of the model's own cells: those held out from training are asked
#' @export
report <- function(model, ...) UseMethod("report")

#' @rdname report
#' @export
report.scelbo_model <- function(model, file = "report.html", labels = NULL, object = NULL, n_samples = 25,
                                n_cells = NULL, embedding = "pca", ..., open = FALSE) {
  about <- cells_asked(model, if (!is.null(object)) own_or(give_cells(model, object), object))
  adata <- about$adata
  key <- if (is_column(labels, about$cells)) labels else if (!is.null(labels)) "labels"
  if (!is.null(key) && !key %in% unlist(model$recipe$columns)) {
    values <- find_values(model, labels, object, about$cells, "labels")
    labelled <- with_columns(model, adata, setNames(list(values), key), about$cells)
    if (is.null(adata)) { # its own cells, which Python tells by identity, stay those of which some were held out
      own <- model$python$adata
      on.exit(reticulate::py_set_attr(model$python, "adata", own), add = TRUE)
      reticulate::py_set_attr(model$python, "adata", labelled)
    } else {
      adata <- labelled
    }
  }
  path <- if (!is.null(file)) path.expand(file)
  found <- ask(model, "report", path = path, labels_key = key, adata = adata, n_samples = n_samples, n_cells = n_cells,
               embedding = embedding, ...)
  if (open && interactive() && !is.null(file)) utils::browseURL(file)
  invisible(report_of(model, found, file))
}

report_of <- function(model, found, file) {
  latent_kl <- name_latents(model, found$latent_kl)
  told <- list("name", "value", "shown", "good", "means", "advice")
  verdicts <- from_pandas(bridge()$records(found$verdicts, told))
  rownames(verdicts) <- NULL
  verdicts[] <- lapply(verdicts, function(x) if (is.character(x)) in_r_words(x) else x)
  collapsed <- names(latent_kl)[as.integer(unlist(to_r(found$collapsed))) + 1L]
  at <- verdicts$name == "Collapsed latent dimensions" # Python counts them from 0
  verdicts$shown[at] <- sub(":.*", paste0(": ", paste(collapsed, collapse = ", ")), verdicts$shown[at])
  verdicts$means[at] <- sub(" (from 0)", "", verdicts$means[at], fixed = TRUE)
  structure(
    list(title = utils::capture.output(print(model)), verdicts = verdicts, collapsed = collapsed, latent_kl = latent_kl,
         fit = from_pandas(found$fit), predictive = predictive_of(found$predictive),
         embedding = from_pandas(found$embedding), history = as.data.frame(model), file = file),
    class = "scelbo_report"
  )
}

#' @export
print.scelbo_report <- function(x, ...) {
  cli::cat_line(x$title)
  for (i in seq_len(nrow(x$verdicts))) {
    verdict <- x$verdicts[i, ]
    mark <- if (verdict$good) cli::col_green(cli::symbol$tick) else cli::col_yellow("!")
    cli::cat_line("  ", mark, " ", verdict$name, ": ", verdict$shown)
    if (!verdict$good) cli::cat_line(cli::ansi_strwrap(verdict$advice, indent = 6, exdent = 6))
  }
  if (!is.null(x$file)) cli::cat_line("page: ", x$file)
  invisible(x)
}
