#' A model from object to object, in one step
#'
#' Fits a model to the object's counts, trains it by [train()], and writes what it says and the model back: `RunSCVI()` in
#' Seurat's words, `runSCVI()` in Bioconductor's, of [scvi()]; and so on, each named after its model. Nothing else in the
#' object changes.
#'
#' @param object A Seurat object of any version (split layers are joined for reading and stay split); a
#'   SingleCellExperiment, or what extends it. A SummarizedExperiment, which has no place for a latent representation, comes back
#'   as a SingleCellExperiment.
#' @param batch Column of the batch, or a formula such as `~ batch + donor + percent.mt`: see [scvi()].
#' @param ... Further arguments of the model's constructor (`assay`, `features`, `n_latent`, ...) and of [train()]
#'   (`max_epochs`, `seed`, `device`, `verbose`, `batch_size`, ...).
#' @param name Name of the reduction and of the model; columns begin with it (in lower case).
#' @return The object with the model (see [get_model()]) and what [write_back()] lists: its latent representation, cells x
#'   `n_latent`, is Seurat's DimReduc `name` with that key, or `reducedDim(object, name)`. Beside it:
#'
#'   - `RunLinearSCVI()`: loadings, for `Seurat::VizDimLoadings()`; in a SingleCellExperiment the attribute `"rotation"`
#'     of the reduced dimensions, as scater has them for a PCA. See [get_loadings()].
#'   - `RunAmortizedLDA()`: each cell's shares of topics for a latent representation, and genes by topic for loadings.
#'   - `RunSCANVI()`: in the metadata `scanvi_label`, `scanvi_probability`, `scanvi_set_size` and `scanvi_novelty`, see
#'     [annotate_cells()].
#'   - `RunAUTOZI()`: in the assay's feature metadata (`rowData`) `autozi_probability` and `autozi_zero_inflated`, see
#'     [get_zero_inflation()]; `NA` of features that are not in the model.
#'   - `RunCellAssign()`: `cellassign_label` and `cellassign_probability` in the metadata; no latent representation.
#'   - `RunTOTALVI()`: the assay (`altExp`) `totalvi_protein`: counts of proteins without background, also in batches that
#'     were not measured. See [proteins].
#'   - `RunMULTIVI()`: the same, where the model reads proteins.
#'   - `RunGIMVI()`: the assay (`altExp`) `gimvi_imputed` of the genes `impute`. See [impute()].
#'   - `RunStereoscope()`, `RunDestVI()`: each spot's shares of cell types, as columns of the metadata that begin with the name
#'     (`stereoscope_B cell`), and as the assay (`altExp`) `stereoscope_proportions`, types x spots. See [get_proportions()].
#'   - `RunSOLO()`: `solo_call` (`"doublet"` or `"singlet"`) and `solo_probability` of a doublet in the metadata; no latent
#'     representation. See [get_doublets()].
#' @seealso [FindMarkersSCVI()], [FindMarkersPEAKVI()], [write_back()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' so[["scvi"]] # for RunUMAP(), FindNeighbors()
#'
#' so <- RunSCANVI(so, labels = "cell_type", from = "scvi", max_epochs = 2, verbose = FALSE) # go on from that model
#' table(so$scanvi_label, so$cell_type)
#'
#' so <- RunLinearSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' SeuratObject::Loadings(so[["linearscvi"]])[1:3, 1:2] # for VizDimLoadings()
#'
#' so <- RunSOLO(so, scvi = "scvi", solo_epochs = 2, verbose = FALSE)
#' table(so$solo_call)
#'
#' cite <- simulate_cells("cite", n_cells = 100, n_genes = 50)
#' cite <- RunTOTALVI(cite, batch = "batch", protein_assay = "protein_expression", max_epochs = 2, verbose = FALSE)
#' cite[["totalvi_protein"]]
#'
#' simulated <- simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)
#' spots <- RunStereoscope(simulated$spots, simulated$cells, labels = "cell_type", max_epochs = 2, reference_max_epochs = 2,
#'                         augmentation = FALSE, verbose = FALSE)
#' spots[["stereoscope_proportions"]]
#'
#' if (rlang::is_installed("SingleCellExperiment")) {
#'   sce <- simulate_cells(as = "sce", n_cells = 100, n_genes = 50)
#'   sce <- runSCVI(sce, batch = "batch", max_epochs = 2, verbose = FALSE)
#'   SingleCellExperiment::reducedDim(sce, "SCVI")[1:3, 1:2] # for scater::runUMAP(sce, dimred = "SCVI")
#' }
#' @name one_step
NULL

#' @rdname one_step
#' @export
RunSCVI <- function(object, batch = NULL, ..., name = "scvi") run_model("scvi", object, list(batch = batch, ...), name)

#' @rdname one_step
#' @export
RunPEAKVI <- function(object, batch = NULL, ..., name = "peakvi") {
  run_model("peakvi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
RunLinearSCVI <- function(object, batch = NULL, ..., name = "linearscvi") {
  run_model("linearscvi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
RunAUTOZI <- function(object, batch = NULL, ..., name = "autozi") {
  run_model("autozi", object, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
RunAmortizedLDA <- function(object, n_topics = 20, ..., name = "amortizedlda") {
  run_model("amortizedlda", object, list(n_topics = n_topics, ...), name)
}

#' @rdname one_step
#' @param labels,unlabeled Column with known labels, and the value in it that stands for unknown: see [scanvi()].
#' @param from A trained [scvi()] model to start from, or the name of one in the object (then `batch` and the like are
#'   that model's): see [scanvi_from_scvi()].
#' @export
RunSCANVI <- function(object, labels = NULL, batch = NULL, unlabeled = NULL, from = NULL, ..., name = "scanvi") {
  run_scanvi(object, list(labels = labels, batch = batch, unlabeled = unlabeled, ...), from, name)
}

#' @rdname one_step
#' @param markers Which genes mark which types: see [cellassign()].
#' @export
RunCellAssign <- function(object, markers, batch = NULL, ..., name = "cellassign") {
  run_model("cellassign", object, list(markers = markers, batch = batch, ...), name)
}

#' @rdname one_step
#' @param expected_doublet_rate,doublet_ratio,restrict_to_batch Share of doublets, for all lanes or for each; sums for each cell; the
#'   one lane whose cells are to get calls, all by default: see [solo()]. The lanes are `batch`, of the [scvi()] model that `RunSOLO()`
#'   trains first. What else there is in `...` is that model's; `seed`, `device`, `threads`, `verbose` and `batch_size` are both
#'   trainings', and [solo()]'s own network is set by `classifier_reads`, `classifier_n_hidden`, `classifier_n_layers` and
#'   `classifier_dropout_rate`.
#' @param scvi A trained [scvi()] model to use in place of a new one, or the name of one in the object.
#' @param solo_epochs At most so many epochs of Solo itself (`max_epochs` are scVI's).
#' @export
RunSOLO <- function(object, batch = NULL, expected_doublet_rate = NULL, doublet_ratio = 2, restrict_to_batch = NULL,
                    scvi = NULL, ..., solo_epochs = NULL, name = "solo") {
  pairs <- list(expected_doublet_rate = expected_doublet_rate, doublet_ratio = doublet_ratio, restrict_to_batch = restrict_to_batch)
  run_solo(object, list(batch = batch, ...), scvi, pairs, solo_epochs, name)
}

#' @rdname one_step
#' @param protein_assay Where the proteins are: see [totalvi()].
#' @export
RunTOTALVI <- function(object, batch = NULL, protein_assay = "ADT", ..., name = "totalvi") {
  run_model("totalvi", object, list(batch = batch, protein_assay = protein_assay, ...), name)
}

#' @rdname one_step
#' @param peak_assay Where the peaks are: see [multivi()].
#' @export
RunMULTIVI <- function(object, batch = NULL, peak_assay = "peaks", ..., name = "multivi") {
  run_model("multivi", object, list(batch = batch, peak_assay = peak_assay, ...), name)
}

#' @rdname one_step
#' @param reference Dissociated cells of the same tissue, see [gimvi()], where `object` are the spatial ones. Of
#'   `RunStereoscope()` and `RunDestVI()` cells with their types (`labels`); or, without `labels`, a trained model of them, see
#'   [stereoscope_reference()] and [condscvi()], or an object that holds one.
#' @param impute Names of genes whose imputed expression to add.
#' @export
RunGIMVI <- function(object, reference, impute = NULL, ..., name = "gimvi") {
  run_gimvi(object, reference, impute, list(...), name)
}

#' @rdname one_step
#' @details In `RunStereoscope()` and `RunDestVI()` `labels` is the column of the reference's types, and arguments that begin with
#'   `reference_` are the reference's: `reference_assay`, `reference_batch`, `reference_max_epochs`, ... `seed`, `device`,
#'   `threads` and `verbose` are both trainings'.
#' @export
RunStereoscope <- function(object, reference, labels = NULL, batch = NULL, ..., name = "stereoscope") {
  run_spots("stereoscope", object, reference, labels, list(batch = batch, ...), name)
}

#' @rdname one_step
#' @export
RunDestVI <- function(object, reference, labels = NULL, batch = NULL, ..., name = "destvi") {
  run_spots("destvi", object, reference, labels, list(batch = batch, ...), name)
}

#' @rdname write_back
#' @exportS3Method
write_back.Seurat <- function(model, object, name = tolower(name_of(model)), features = NULL, foreground = FALSE, ...) {
  source <- own_or(model, object)
  key <- seurat_key(name)
  assay <- genes_in(model$recipe)
  if (!any(assay == SeuratObject::Assays(object))) assay <- SeuratObject::DefaultAssay(object)
  if (offers(model, "get_latent_representation")) {
    parts <- list(embeddings = get_latent_representation(model, source), loadings = loadings_of(model))
    parts <- lapply(parts[lengths(parts) > 0], function(x) {
      colnames(x) <- paste0(key, seq_len(ncol(x)))
      x
    })
    object[[name]] <- do.call(SeuratObject::CreateDimReducObject, c(parts, key = key, assay = assay))
  }
  results <- results_of(model, source, features, foreground)
  object <- add_metadata(object, prefixed(name, results$columns))
  columns <- prefixed(name, feature_columns(model, rownames(object[[assay]])))
  if (length(columns)) {
    columns <- data.frame(columns, row.names = rownames(object[[assay]]), check.names = FALSE)
    object[[assay]] <- SeuratObject::AddMetaData(object[[assay]], columns)
  }
  is_v5 <- inherits(object[[assay]], "StdAssay")
  for (kind in names(results$tables)) {
    values <- new_assay(is_v5, data = as(results$tables[[kind]], "CsparseMatrix"))
    SeuratObject::Key(values) <- paste0(sub("_$", "", key), kind, "_")
    suppressWarnings(object[[paste0(name, "_", kind)]] <- values) # Seurat 5 misses a layer of counts in it
  }
  models <- SeuratObject::Misc(object, slot = "scelbo")
  models[[name]] <- model
  suppressWarnings(SeuratObject::Misc(object, slot = "scelbo") <- models) # it warns of replacing what was there
  object
}

# IntegrateLayers() puts nothing into the object but reductions and columns, so its methods' models are in their reductions.
#' @exportS3Method
models_in.Seurat <- function(object) {
  integrating <- lapply(object@reductions, function(reduction) SeuratObject::Misc(reduction)$scelbo)
  c(integrating[lengths(integrating) > 0], SeuratObject::Misc(object, slot = "scelbo"))
}

# An assay of Seurat 5's class or of the older one, which alone can hold one feature or one cell.
new_assay <- function(is_v5, ...) {
  (if (is_v5 && all(dim(..1) > 1)) seurat5("CreateAssay5Object") else SeuratObject::CreateAssayObject)(...)
}

# A key of letters and digits, as Seurat wants it.
seurat_key <- function(name) paste0(gsub("[^A-Za-z0-9]", "", name), "_")
