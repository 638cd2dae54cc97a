# Errors by meaning. Every error of this package, whichever language raised it, has the classes
# c("scelbo_<kind>_error", "scelbo_error"), a `headline`, a `hint` (the next call) and `problems` (all found at once).

abort_scelbo <- function(kind, message, hint = NULL, problems = NULL, call = caller_env(), class = NULL) {
  abort(
    c(message, if (length(problems)) setNames(problems, rep("x", length(problems))), if (length(hint)) c(i = hint)),
    class = c(class, paste0("scelbo_", kind, "_error"), "scelbo_error"),
    headline = message, hint = hint, problems = problems, call = call
  )
}

warn_scelbo <- function(kind, message, ...) {
  rlang::warn(message, class = c(paste0("scelbo_", kind, "_warning"), "scelbo_warning"), headline = message[[1]],
              hint = unname(message[-1]), ...)
}

# Evaluates `expr`, turning a Python exception into an R condition; conditions of R itself pass unchanged.
with_python <- function(expr, call = caller_env()) {
  reticulate::py_clear_last_error()
  tryCatch(expr, error = function(cnd) {
    exception <- python_exception(cnd)
    if (is.null(exception)) rlang::cnd_signal(cnd)
    abort_python(exception, call)
  })
}

# reticulate >= 1.29 makes the exception itself the condition; before, it waits in py_last_error().
python_exception <- function(cnd) {
  if (inherits(cnd, "python.builtin.object")) return(cnd)
  if (!inherits(cnd, "Rcpp::exception")) return(NULL)
  attr(reticulate::py_last_error(), "exception", exact = TRUE)
}

abort_python <- function(exception, call) {
  get <- reticulate::py_get_attr # not `$`: since reticulate 1.29 the exception is an R condition, a list, too
  type <- reticulate::py_str(get(get(exception, "__class__"), "__name__"))
  if (type == "KeyboardInterrupt") rlang::interrupt()
  message <- reticulate::py_str(exception)
  if (!reticulate::py_has_attr(exception, "kind")) {
    hint <- switch(type,
      ModuleNotFoundError = , ImportError = backend_hint(),
      "Python's traceback: reticulate::py_last_error()"
    )
    kind <- if (type %in% c("ModuleNotFoundError", "ImportError")) "backend" else "python"
    abort_scelbo(kind, paste0(type, ": ", message), hint, call = call)
  }
  texts <- function(name) {
    value <- as.character(unlist(to_r(get(exception, name))))
    in_r_words(value[nzchar(value)])
  }
  first <- reticulate::py_get_item(get(exception, "args"), 0L) # str() of the exception repeats the hint
  message <- in_r_words(reticulate::py_str(first))
  abort_scelbo(texts("kind"), message, texts("hint"), texts("problems"), call = call)
}

# Python's errors name calls and places as Python writes them: the same in R.
r_words <- c(
  "(\\w+=)?'?\\bscelbo_(group_by|contrast|replicates|sample|pair)\\b'?" = "`\\2`",
  "name it as sample_key" = "give it as `sample`",
  "contrast=\\(column, case, control\\)" = "contrast = c(column, case, control)",
  "contrast='<obs column>'" = "contrast = <column>",
  "load_query_data\\(adata, model\\)" = "load_query_data(model, object)",
  "adata\\.var_names" = "the object",
  "model\\.train\\(\\)" = "train(model)",
  "plan_kwargs=\\{'(\\w+)': ([^}]*)\\}" = "plan_kwargs = list(\\1 = \\2)",
  "(\\w+\\.)?setup_anndata\\(adata, (\\.\\.\\., )?labels_key=\\.\\.\\.\\)" = "`labels =`",
  "CondSCVI\\.setup_anndata\\(adata, labels_key=\\.\\.\\., fine_labels_key=\\.\\.\\.\\)" =
    "condscvi(object, labels = ..., fine_labels = ...)",
  "cell_type_markers" = "`markers`", "\\bunlabeled_category\\b" = "`unlabeled`",
  "Give a DataFrame of 0 and 1 with genes as rows and types as columns, or a dict: \\{.*?\\}" =
    "Give a matrix of 0 and 1, genes x types with their names, or a list: list(B = c(\"CD19\", \"MS4A1\"), ...)",
  "table\\.T\\b" = "t(markers)",
  "SOLO\\.from_scvi_model\\(model\\)" = "solo(model)",
  "setup_anndata\\(adata, layer=\\.\\.\\.\\)" = "`layer =`",
  "Call setup_anndata\\(adata, layer='(\\w+)'\\)" = "Give `layer = \"\\1\"`",
  "scanpy\\.pp\\.filter_cells\\(adata, min_counts=1\\)" = "object[, Matrix::colSums(counts) > 0]",
  "scanpy\\.pp\\.filter_cells\\(adata, min_counts=\\.\\.\\.\\)" = "object[, Matrix::colSums(counts) > ...]",
  "scanpy\\.pp\\.filter_genes\\(adata, min_counts=1\\)" = "object[Matrix::rowSums(counts) > 0, ]",
  "scanpy\\.pp\\.highly_variable_genes\\(.*?\\)" = "Seurat::FindVariableFeatures(), scran::getTopHVGs()",
  "adata\\.var_names_make_unique\\(\\)" = "rownames(object) <- make.unique(rownames(object))",
  "^adata (has|lacks)" = "The object \\1", "\\badata lacks" = "the object lacks", "\\bor None\\b" = "or NULL",
  "Without contrast= " = "Without a contrast ",
  "pip install (matplotlib|umap-learn)" = "reticulate::py_install(\"\\1\")",
  "\\.predictive\\.genes\\.query\\('(\\w+)'\\)" = "subset(report$predictive, \\1)",
  "(\\w+_keys?: )?adata\\.obs\\['([^']*)'\\]" = "column '\\2'",
  "\\b(batch|labels|size_factor)_key\\b" = "`\\1`", "\\b(categorical|continuous)_covariate_keys\\b" = "`\\1`",
  "adata\\.layers\\['([^']*)'\\]" = "layer '\\1'", "adata\\.obsm\\['([^']*)'\\]" = "'\\1'",
  "adata\\.X" = "the counts",
  "\\b(\\w+)=True\\b" = "\\1 = TRUE", "\\b(\\w+)=False\\b" = "\\1 = FALSE",
  "\\b(\\w+)='([^']*)'" = "\\1 = \"\\2\""
)

in_r_words <- function(text) {
  for (word in names(r_words)) text <- gsub(word, r_words[[word]], text, perl = TRUE)
  text
}

# "Did you mean 'batch'?", or NULL where no allowed name is close.
did_you_mean <- function(name, allowed) {
  if (!length(allowed)) return(NULL)
  distance <- utils::adist(name, allowed, ignore.case = TRUE)[1, ]
  limit <- min(nchar(name) - 1, max(2, nchar(name) %/% 3)) # two letters of a long name may have changed places
  if (min(distance) > limit) return(NULL)
  paste0("Did you mean '", allowed[which.min(distance)], "'?")
}

# The first few of many names, for a message.
some_of <- function(names, n = 8) {
  shown <- paste0("'", head(names, n), "'", collapse = ", ")
  if (length(names) > n) paste0(shown, ", ... (", length(names), " in all)") else shown
}

# The value of an argument that is one of a few words.
one_of <- function(value, known, argument, call = caller_env()) {
  if (value %in% known) return(value)
  abort_scelbo("argument", paste0("`", argument, "` must be one of ", some_of(known), ", not '", value, "'."),
               did_you_mean(value, known), call = call)
}
