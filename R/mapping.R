#' What a reference says of query cells
#'
#' For a model of new cells on a reference ([load_query_data()]), trained. [MapQuerySCVI()] and [mapQuerySCVI()] write
#' the answers of both into the object.
#'
#' @inheritParams questions
#' @param model The query's model.
#' @param reference The reference. For scores: its model, with the cells that it was trained on, of which those held out
#'   are taken; the object that holds both; or any cells that were held out. For labels: an object with its cells, or
#'   its model with them. Features that the query lacks are left out of both.
#' @return A data.frame with the cells as row names. `get_mapping_score()`: `mapping_score` and its parts `near` and
#'   `expected`. `transfer_labels()`: `label`, a factor, and `probability`, its share of the votes.
#' @section Errors: `scelbo_setup_error` where the reference comes without its cells, or a column is not there;
#'   `scelbo_argument_error` where none of its cells were held out, or no cell has a label.
#' @name mapping
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' atlas <- simulate_cells(n_cells = 100, n_genes = 50)
#' query <- simulate_cells(n_cells = 60, n_genes = 50)
#' query$batch <- "new"
#' reference <- scvi(atlas, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' model <- load_query_data(reference, query) |> train(max_epochs = 2, verbose = FALSE)
#' scores <- get_mapping_score(model, reference)
#' labels <- transfer_labels(model, atlas, "cell_type")
#' table(labels$label[scores$mapping_score > 0.05])
NULL

#' @rdname mapping
#' @details `get_mapping_score()`: how well each cell is explained, as its rank among reference cells that no training
#'   has seen, by its distance to the reference's cells in latent space (`near`) and by its least expected counts
#'   (`expected`). Cells like the reference's score evenly between 0 and 1, those of a kind that it lacks near 0; cells
#'   of another laboratory score lower altogether, so compare them with each other.
#' @export
get_mapping_score <- function(model, ...) UseMethod("get_mapping_score")

#' @rdname mapping
#' @export
get_mapping_score.scelbo_model <- function(model, reference, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  from_pandas(ask(model, "get_mapping_score", reference = scored_among(model, reference), adata = about$adata,
                  indices = cell_positions(cells, about$cells), ...))
}

#' @rdname mapping
#' @details `transfer_labels()`: the labels of the reference cells that lie nearest in latent space, weighted by the
#'   inverse of their distance.
#' @param labels The reference cells' labels: the name of a column of their metadata, or a vector with one value a cell.
#'   Cells where it is `NA` do not vote.
#' @param n_neighbors How many reference cells vote.
#' @export
transfer_labels <- function(model, ...) UseMethod("transfer_labels")

#' @rdname mapping
#' @export
transfer_labels.scelbo_model <- function(model, reference, labels, object = NULL, cells = NULL, n_neighbors = 30, ...) {
  about <- cells_asked(model, object)
  voters <- labelled_cells(model, reference, labels)
  from_pandas(ask(model, "transfer_labels", reference = voters, labels_key = group_column("labels"),
                  adata = about$adata, indices = cell_positions(cells, about$cells), n_neighbors = n_neighbors, ...))
}

# Reference cells for Python: a model with its cells, some of which were held out, or just cells.
scored_among <- function(model, reference, call = caller_env()) {
  own <- model_of_cells(reference, model$class, call)
  if (is.null(own)) cells_asked(model, reference, call)$adata else own$python
}

# Reference cells with their labels in the column "scelbo_labels".
labelled_cells <- function(model, reference, labels, call = caller_env()) {
  own <- model_of_cells(reference, model$class, call)
  about <- if (is.null(own)) cells_asked(model, reference, call) else list(cells = own$cells)
  metadata <- if (!inherits(reference, "scelbo_model")) reference
  values <- find_values(own, labels, metadata, about$cells, "labels", call)
  with_columns(own %||% model, about$adata, setNames(list(values), group_column("labels")), about$cells)
}

# The model that a reference is, or one of the class that was trained on just the cells of the object that holds it; with
# these cells.
model_of_cells <- function(reference, class, call = caller_env()) {
  if (!inherits(reference, "scelbo_model")) {
    model <- model_of_class(reference, class)
    if (is.null(model)) return(NULL)
    model <- give_cells(model, reference)
    return(if (is.null(own_or(model, reference))) model)
  }
  python_model(reference, call)
  if (reference$has_data) return(reference)
  abort_scelbo("setup", "The reference's model came back from a file, without the cells that it was trained on.",
               "Give the object that holds them as `reference`.", call = call)
}

# One step from object to object: map onto a model of the class, then write latents, labels and scores.
map_query <- function(class, object, reference, labels, score, arguments, name, call = caller_env()) {
  check_writable(object, call)
  known <- as_model(reference, class)
  if (known$class != class) {
    abort_scelbo("argument", paste0("The reference's model is of class ", known$class, ", not ", class, "."),
                 "load_query_data(reference, object) maps cells onto a model of any class.", call = call)
  }
  if (is.character(reference)) reference <- known
  if (!is.null(labels)) labelled_cells(known, reference, labels) # what is amiss is told before training
  model <- fit_model("load_query_data", object, c(list(reference = known), arguments))
  columns <- list(if (!is.null(labels)) transfer_labels(model, reference, labels), if (score) score_or_say(model, reference))
  columns <- do.call(cbind, columns[lengths(columns) > 0])
  add_metadata(write_back(model, object, name = name), prefixed(name, columns))
}

# A score for each cell; none, and a word why, where the reference cannot tell.
score_or_say <- function(model, reference) {
  tryCatch(
    get_mapping_score(model, reference)["mapping_score"],
    scelbo_error = function(cnd) {
      rlang::inform(c("The query's cells get no mapping score.", i = cnd$headline, i = cnd$hint))
      NULL
    }
  )
}

# `columns` is a data.frame with a row a cell (or NULL). The cells of a Seurat object need not all be in the assay that was read.
add_metadata <- function(object, columns) UseMethod("add_metadata")

#' @exportS3Method
add_metadata.Seurat <- function(object, columns) {
  for (name in names(columns)) object[[name]] <- setNames(columns[[name]], rownames(columns))
  object
}

#' @exportS3Method
add_metadata.SingleCellExperiment <- function(object, columns) {
  at <- if (NROW(columns) < ncol(object)) match(colnames(object), rownames(columns)) else seq_len(ncol(object))
  for (name in names(columns)) SummarizedExperiment::colData(object)[[name]] <- columns[[name]][at]
  object
}
