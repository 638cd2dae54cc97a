#' scVI and scANVI for Seurat 5's IntegrateLayers
#'
#' @param object,assay,layers,scale.layer,orig,groups Given by `IntegrateLayers()`. The layers of counts, which are joined for
#'   reading, are the batches.
#' @param features Features to model.
#' @param new.reduction Name of the reduction, and of the model in the object.
#' @param ... Further arguments of [scvi()] or [scanvi()] and of [train()].
#' @return A list of what `IntegrateLayers()` puts into the object: the reduction, with the model (see [get_model()]); columns of the
#'   metadata that begin with its name, the batch and, of `SCANVIIntegration`, what [annotate_cells()] says.
#' @section Errors: `scelbo_setup_error` where the counts are not split, `scelbo_argument_error` where `labels` are not one a cell.
#' @seealso [RunSCVI()] and [RunSCANVI()], whose batches are a column, so that nothing need be split.
#' @examplesIf backend_available() && rlang::is_installed("Seurat (>= 5.0.0)")
#' library(Seurat)
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so[["RNA"]] <- split(so[["RNA"]], f = so$batch)
#' so <- NormalizeData(so) |> FindVariableFeatures()
#' so <- IntegrateLayers(so, method = SCVIIntegration, orig.reduction = NULL, new.reduction = "scvi", max_epochs = 2)
#' so <- IntegrateLayers(so, method = SCANVIIntegration, orig.reduction = NULL, new.reduction = "scanvi", labels = so$cell_type,
#'                       max_epochs = 2)
#' table(so$scanvi_label, so$cell_type)
#' @export
SCVIIntegration <- function(object, assay = NULL, layers = NULL, scale.layer = NULL, orig = NULL, groups = NULL,
                            features = NULL, new.reduction = "integrated.scvi", ...) {
  integrate_layers("scvi", object, assay, list(), list(features = features, ...), new.reduction)
}
attr(SCVIIntegration, "Seurat.method") <- "integration"

#' @rdname SCVIIntegration
#' @param labels A column of the metadata, as `so$cell_type`, with the labels that are known; cells where it is `NA` have none.
#' @export
SCANVIIntegration <- function(object, labels, assay = NULL, layers = NULL, scale.layer = NULL, orig = NULL, groups = NULL,
                              features = NULL, new.reduction = "integrated.scanvi", ...) {
  integrate_layers("scanvi", object, assay, list(labels = labels), list(features = features, ...), new.reduction)
}
attr(SCANVIIntegration, "Seurat.method") <- "integration"

# `columns`: what the model reads of each cell beside the batch. The batch goes into the object, where the model finds it again.
integrate_layers <- function(constructor, object, assay, columns, arguments, name, call = caller_env()) {
  counts <- layers_v5(object, "counts", call)
  columns <- prefixed(name, c(list(batch = layer_of_cells(object, "counts", call)), columns))
  columns <- lapply(columns, one_a_cell, colnames(counts), call)
  cells <- structure(read_cells_of(counts, obs = data.frame(columns, row.names = colnames(counts), check.names = FALSE)),
                     class = "scelbo_cells")
  named <- setNames(names(columns), c("batch", "labels")[seq_along(columns)])
  model <- fit_model(constructor, cells, c(as.list(named), arguments))
  model$recipe$assay <- assay
  z <- get_latent_representation(model)
  key <- seurat_key(name)
  colnames(z) <- paste0(key, seq_len(ncol(z)))
  reduction <- SeuratObject::CreateDimReducObject(embeddings = z, key = key, assay = assay %||% "RNA")
  SeuratObject::Misc(reduction, slot = "scelbo") <- model
  told <- c(columns[1], prefixed(name, cell_columns(model, NULL)))
  c(setNames(list(reduction), name), lapply(told, setNames, colnames(counts)))
}

one_a_cell <- function(values, cells, call) {
  if (!is.null(names(values))) values <- values[cells]
  if (length(values) != length(cells)) {
    abort_scelbo("argument", paste0("`labels` has ", length(values), " values for ", length(cells), " cells."),
                 "Give a column of the metadata: `labels = so$cell_type`.", call = call)
  }
  unname(values)
}

# Which of its layers each cell of a split assay is in: of "counts.x" it is "x".
layer_of_cells <- function(from, layer, call) {
  parts <- parts_v5(from, layer, call)
  if (length(parts) < 2) {
    abort_scelbo("setup", paste0("The ", layer, " are in one layer, so there is nothing to integrate."),
                 paste("Split them first: `so[[\"RNA\"]] <- split(so[[\"RNA\"]], f = so$donor)`;",
                       "or take RunSCVI(), whose batches are a column."), call = call)
  }
  cells <- lapply(parts, function(name) SeuratObject::Cells(from, layer = name))
  setNames(rep(substring(parts, nchar(layer) + 2), lengths(cells)), unlist(cells))
}

# What was read already.
#' @exportS3Method
read_cells.scelbo_cells <- function(object, assay = NULL, layer = "counts", call = caller_env()) object
