#' What each cell is
#'
#' Types of cells, by a trained [scanvi()] model from labels that some cells have, by a trained [cellassign()] model from
#' marker genes; finer labels within known types, by a trained [condscvi()] model; and doublets, by a trained [solo()] model.
#'
#' @inheritParams questions
#' @param object As in [questions]. Of `predict()` the model (the word is base R's).
#' @param ... Further arguments of the Python method, such as `batch_size`; of `predict()` with a [scanvi()] model also
#'   `calibrated = FALSE`, with a [solo()] model `include_simulated_doublets = TRUE`.
#' @inheritSection questions Errors
#' @seealso [transfer_labels()], which labels cells of any model by their neighbours.
#' @return What each function returns begins its paragraph under Details.
#' @name labels
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so$known <- replace(as.character(so$cell_type), 1:30, NA)
#' model <- scanvi(so, labels = "known") |> train(max_epochs = 2, train_size = 0.6, verbose = FALSE)
#' table(predict(model), so$cell_type)
#' trust <- annotate_cells(model)
#' so$label <- ifelse(trust$novelty < 0.95, as.character(trust$label), "unlike any")
#' sets <- predict_sets(model, coverage = 0.95)
#' head(sets[rowSums(sets) > 1, ], 3) # cells of which it cannot be said which of these they are
#'
#' doublets <- scvi(so) |> train(max_epochs = 2, verbose = FALSE) |> solo() |> train(max_epochs = 2, verbose = FALSE)
#' head(get_doublets(doublets), 3)
NULL

#' @rdname labels
#' @param newdata Cells to ask about that are not the model's own, as `object` elsewhere. `NULL`: the model's own cells.
#' @param type `"label"`: the most probable one of each cell. `"probability"`: those of all.
#' @details `predict()`: a factor with a value for each cell (named), or a matrix of probabilities, cells x labels. Those
#'   of a [scanvi()] model are calibrated by labelled cells that were held out from training: of the cells with
#'   probability 0.8, eight in ten have that label. Those of a [solo()] model, `"doublet"` and `"singlet"`, are those at
#'   the rate of doublets that is expected in the cell's lane. Those of a [condscvi()] model with `fine_labels` are of the
#'   fine labels of the cell's type, and `NA` (probabilities of 0) where the type has none.
#' @export
predict.scelbo_model <- function(object, newdata = NULL, cells = NULL, type = c("label", "probability"), ...) {
  if (!type[[1]] %in% c("label", "probability")) {
    abort_scelbo("argument", paste0("`type` cannot be ", deparse1(type), "."), "It is \"label\" or \"probability\".")
  }
  chance <- ask_table(object, "predict", newdata, cells, soft = TRUE, ...)
  chance <- matrix(unlist(chance), nrow(chance), dimnames = list(rownames(chance), names(chance)))
  if (type[[1]] == "label") setNames(most_probable(chance), rownames(chance)) else chance
}

# A factor, from probabilities of rows x labels; NA where all are 0.
most_probable <- function(chance) {
  best <- max.col(chance, ties.method = "first")
  factor(colnames(chance)[ifelse(rowSums(chance) > 0, best, NA)], levels = colnames(chance))
}

# What a method says of cells: Python's data frame as one of R.
ask_table <- function(handle, question, object, cells, ..., call = caller_env()) {
  about <- cells_asked(handle, object, call)
  from_pandas(ask(handle, question, adata = about$adata, indices = cell_positions(cells, about$cells, call), ...,
                  call = call))
}

#' @rdname labels
#' @param coverage Of sets: the share of cells (like the labelled ones) whose set holds their label.
#' @details `predict_sets()`: the labels that a cell may have, a logical matrix of cells x labels. A sure cell has one, an
#'   ambiguous one several, one for which none is likely enough has none. (Split conformal prediction; of [scanvi()]
#'   models, where 20 or more labelled cells were held out from training.)
#' @export
predict_sets <- function(model, ...) UseMethod("predict_sets")

#' @rdname labels
#' @export
predict_sets.scelbo_model <- function(model, coverage = 0.9, object = NULL, cells = NULL, ...) {
  as.matrix(ask_table(model, "predict_sets", object, cells, coverage = coverage, ...))
}

#' @rdname labels
#' @details `annotate_cells()`: a data.frame with a row a cell: `label`, a factor; its `probability`; `set_size`, how
#'   many labels the cell may have (see `predict_sets()`); `novelty`, from 0 to 1: the share of held-out labelled cells
#'   that lie nearer to their type. Cells like the labelled ones spread evenly, those of a kind without a label lie near
#'   1. The last two are `NA` where fewer than 20 labelled cells were held out.
#' @export
annotate_cells <- function(model, ...) UseMethod("annotate_cells")

#' @rdname labels
#' @export
annotate_cells.scelbo_model <- function(model, object = NULL, cells = NULL, coverage = 0.9, ...) {
  table <- ask_table(model, "annotate_cells", object, cells, coverage = coverage, ...)
  table$set_size <- as.integer(table$set_size)
  table$novelty[is.nan(table$novelty)] <- NA
  table
}

#' @rdname labels
#' @param threshold Cells that are doublets with a higher probability are called. `NULL`: as many of each lane as are
#'   expected in it.
#' @details `get_doublets()`: a data.frame with a row a cell: its `lane` and the `expected_rate` there (`NaN` where
#'   cells were taken for singlets); `score`, the classifier's log-odds; `probability`; `call`. Two cells of one kind
#'   look like one deep cell, so such doublets are hardly ever called.
#' @export
get_doublets <- function(model, ...) UseMethod("get_doublets")

#' @rdname labels
#' @export
get_doublets.scelbo_model <- function(model, object = NULL, cells = NULL, threshold = 0.5, ...) {
  table <- ask_table(model, "get_doublets", object, cells, threshold = threshold %||% reticulate::r_to_py(NULL), ...)
  drawable(table, "doublets")
}

#' @rdname labels
#' @details `get_marker_effects()`: of a [cellassign()] model a data.frame with a row a marker and type: `gene`;
#'   `cell_type`, a factor; `log_fold_change` \eqn{\delta}{delta}, by how much the gene is higher in the types that it
#'   marks (natural logarithm); `level`, the expected count where it marks nothing.
#' @export
get_marker_effects <- function(model, ...) UseMethod("get_marker_effects")

#' @rdname labels
#' @export
get_marker_effects.scelbo_model <- function(model, ...) {
  table <- from_pandas(ask(model, "get_marker_effects", ...))
  table$cell_type <- factor(table$cell_type, unique(table$cell_type))
  rownames(table) <- NULL
  table
}
