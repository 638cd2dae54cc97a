#' Map new cells onto a trained reference
#'
#' A model of new cells that takes over all of a reference's weights (scArches). Batches and other categories that the
#' reference has not seen get weights of their own, and by default only these learn: what the reference says of its own
#' cells stays the same to the bit. [train()] the result, then ask it or write it back.
#'
#' The new cells are read as the reference's were: the same columns, and features by name. Up to half of the features
#' may be absent: they are left out of encoder and likelihood, not taken for zeros, and a message counts them. Give new
#' experiments a batch of their own: cells that bring no new category have nothing to train.
#'
#' @param reference A trained `scelbo_model`, the folder of one, or a Seurat object or SingleCellExperiment that holds
#'   one (see [get_model()]).
#' @param object The new cells: any object that the reference's constructor takes.
#' @param assay,layer Where the new cells' counts are; `NULL`: where the reference's were. See [as_anndata()].
#' @param protein_assay,protein_layer,peak_assay,peak_layer The same of proteins and of regions, where the reference reads
#'   them (see [totalvi()], [multivi()]). New cells need not have any: then they are imputed.
#' @param unfrozen Let everything learn.
#' @param freeze_dropout No dropout while the query trains.
#' @param freeze_expression `FALSE` lets the weights learn that read and write features.
#' @param freeze_decoder_first_layer `FALSE` lets the decoder's first layer learn.
#' @param freeze_batchnorm_encoder,freeze_batchnorm_decoder `FALSE` lets scale, shift and statistics of these norms
#'   learn. As with `FALSE` in any of these, the reference then moves too.
#' @param freeze_classifier `FALSE` lets a classifier learn, where the model has one.
#' @param verbose Say how many features are absent.
#' @return `load_query_data()`: a `scelbo_model` of the new cells. `MapQuerySCVI()`, `mapQuerySCVI()`: the new cells'
#'   object with that model, trained, and its latent representation, as [RunSCVI()] and [runSCVI()] write theirs; and
#'   with labels, their probability and the mapping score in its metadata. `MapQueryPEAKVI()`, `mapQueryPEAKVI()`: the
#'   same for [peakvi()]; the columns begin with `peakvi_`. `MapQueryLinearSCVI()`, `MapQueryAUTOZI()` and their like: for
#'   [linearscvi()] and [autozi()]. `MapQueryTOTALVI()`, `mapQueryTOTALVI()`: the
#'   same for [totalvi()], with the new cells' proteins, imputed where they have RNA only.
#'   `MapQueryMULTIVI()`, `mapQueryMULTIVI()`: the same for [multivi()], of cells with genes or regions or both (a
#'   SingleCellExperiment of regions alone has them as its experiment or as the `altExp` of their name).
#'   `MapQuerySCANVI()`, `mapQuerySCANVI()`: labels and how far to
#'   trust them are the reference's classifier's, as [RunSCANVI()] writes them; the new cells need no column of labels.
#' @seealso [get_mapping_score()], [transfer_labels()], [annotate_cells()].
#' @section Errors: `scelbo_setup_error` where the new cells lack a column of the reference (with the nearest match),
#'   `scelbo_data_error` where they lack more than half of its features, `scelbo_training_error` where the reference is
#'   not trained.
#' @references Lotfollahi et al. (2022), Mapping single-cell data to reference atlases by transfer learning.
#'   \doi{10.1038/s41587-021-01001-7}
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' atlas <- simulate_cells(n_cells = 100, n_genes = 50)
#' query <- simulate_cells(n_cells = 60, n_genes = 50)
#' query$batch <- "new" # a batch of its own is what the query learns
#' reference <- scvi(atlas, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' model <- load_query_data(reference, query) |> train(max_epochs = 2, verbose = FALSE)
#' z <- get_latent_representation(model)
#'
#' # from object to object, with labels by the nearest cells of the atlas
#' atlas <- write_back(reference, atlas)
#' query <- MapQuerySCVI(query, atlas, labels = "cell_type", max_epochs = 2, verbose = FALSE)
#' query[["scvi"]] # in the space of atlas[["scvi"]]
#' tapply(query$scvi_mapping_score, query$scvi_label, median) # near 0: unlike any cell of the atlas
#'
#' # or by a classifier
#' atlas <- RunSCANVI(atlas, labels = "cell_type", batch = "batch", max_epochs = 2, train_size = 0.6, verbose = FALSE)
#' query <- MapQuerySCANVI(query, atlas, max_epochs = 2, verbose = FALSE)
#' table(query$scanvi_label[query$scanvi_novelty < 0.95])
#' @export
load_query_data <- function(reference, object, assay = NULL, layer = NULL, unfrozen = FALSE, freeze_dropout = FALSE,
                            freeze_expression = TRUE, freeze_decoder_first_layer = TRUE,
                            freeze_batchnorm_encoder = TRUE, freeze_batchnorm_decoder = TRUE, freeze_classifier = TRUE,
                            verbose = TRUE, protein_assay = NULL, protein_layer = NULL, peak_assay = NULL,
                            peak_layer = NULL) {
  reference <- as_model(reference)
  recipe <- reference$recipe
  recipe$assay <- assay %||% recipe$assay
  recipe$layer <- layer %||% recipe$layer
  recipe$absent <- recipe$features # whichever: Python says where too many are
  recipe$beside <- beside_in(recipe$beside, list(protein_assay = protein_assay, protein_layer = protein_layer,
                                                 peak_assay = peak_assay, peak_layer = peak_layer))
  progress <- listen_to_progress(verbose)
  on.exit(progress$close(), add = TRUE)
  data <- read_like(python_model(reference), object, recipe)
  python <- ask(
    reference, "load_query_data", adata = data$adata, reference_model = reference$python, unfrozen = unfrozen,
    freeze_dropout = freeze_dropout, freeze_expression = freeze_expression,
    freeze_decoder_first_layer = freeze_decoder_first_layer, freeze_batchnorm_encoder = freeze_batchnorm_encoder,
    freeze_batchnorm_decoder = freeze_batchnorm_decoder, freeze_classifier = freeze_classifier
  )
  progress$conclude()
  about <- to_r(bridge()$about(python))
  recipe$absent <- as.character(unlist(about$absent))
  recipe$beside <- beside_in(recipe$beside, lacking = unlist(about$lacking))
  model <- new_handle(reference$class, recipe = recipe, cells = data$cells, features = reference$features,
                      variable = reference$variable, has_data = TRUE)
  model$python <- python
  keep_state(model)
}

# The model that a reference is or holds: the last of the class, where one is named, else the last.
as_model <- function(reference, class = NULL) {
  if (inherits(reference, "scelbo_model")) return(reference)
  if (is.character(reference)) return(load_model(reference))
  (if (!is.null(class)) model_of_class(reference, class)) %||% get_model(reference)
}

#' @rdname load_query_data
#' @param labels Column of the reference object's metadata with known labels, or a vector with one value a reference
#'   cell: `scvi_label` and `scvi_probability` in the new object's metadata (`colData`) are then what
#'   [transfer_labels()] says of each new cell.
#' @param score Write [get_mapping_score()] to `scvi_mapping_score`: near 0 a cell is unlike the reference's, whatever
#'   its label. (Cells of another laboratory score lower altogether: compare them with each other.) Where the reference
#'   comes without its cells, or none were held out from training, a message says so. (All three are named after the
#'   reduction, `name`.)
#' @param ... Further arguments of `load_query_data()` and of [train()].
#' @param name Name of the reduction and of the model in the object.
#' @export
MapQuerySCVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "scvi") {
  map_query("SCVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQuerySCVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "SCVI") {
  map_query("SCVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQueryLinearSCVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "linearscvi") {
  map_query("LinearSCVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQueryLinearSCVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "LinearSCVI") {
  map_query("LinearSCVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQueryAUTOZI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "autozi") {
  map_query("AUTOZI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQueryAUTOZI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "AUTOZI") {
  map_query("AUTOZI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQueryPEAKVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "peakvi") {
  map_query("PEAKVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQueryPEAKVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "PEAKVI") {
  map_query("PEAKVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQueryTOTALVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "totalvi") {
  map_query("TOTALVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQueryTOTALVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "TOTALVI") {
  map_query("TOTALVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQueryMULTIVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "multivi") {
  map_query("MULTIVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQueryMULTIVI <- function(object, reference, labels = NULL, score = TRUE, ..., name = "MULTIVI") {
  map_query("MULTIVI", object, reference, labels, score, list(...), name)
}

#' @rdname load_query_data
#' @export
MapQuerySCANVI <- function(object, reference, score = TRUE, ..., name = "scanvi") {
  map_query("SCANVI", object, reference, NULL, score, list(...), name)
}

#' @rdname load_query_data
#' @export
mapQuerySCANVI <- function(object, reference, score = TRUE, ..., name = "SCANVI") {
  map_query("SCANVI", object, reference, NULL, score, list(...), name)
}
