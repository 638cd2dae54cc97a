#' scVI for Seurat 5's IntegrateLayers
#'
#' @param object,assay,layers,scale.layer,orig,groups Given by `IntegrateLayers()`. The layers of counts, which are joined for
#'   reading, are the batches.
#' @param features Features to model.
#' @param new.reduction Name of the reduction.
#' @param ... Further arguments of [scvi()] and [train()].
#' @return A list with the reduction, as `IntegrateLayers()` expects it.
#' @seealso [RunSCVI()], which does the same for an object that is not split, and keeps the model.
#' @examples
#' \dontrun{
#' so[["RNA"]] <- split(so[["RNA"]], f = so$donor)
#' so <- IntegrateLayers(so, method = SCVIIntegration, orig.reduction = NULL, new.reduction = "scvi", max_epochs = 100)
#' }
#' @export
SCVIIntegration <- function(object, assay = NULL, layers = NULL, scale.layer = NULL, orig = NULL, groups = NULL,
                            features = NULL, new.reduction = "integrated.scvi", ...) {
  counts <- layers_v5(object, "counts", caller_env())
  obs <- data.frame(batch = layer_of_cells(object, "counts", caller_env()), row.names = colnames(counts))
  cells <- structure(read_cells_of(counts, obs = obs), class = "scelbo_cells")
  arguments <- c(list(batch = "batch", features = features), list(...))
  z <- get_latent_representation(fit_model("scvi", cells, arguments))
  key <- seurat_key(new.reduction)
  colnames(z) <- paste0(key, seq_len(ncol(z)))
  reduction <- SeuratObject::CreateDimReducObject(embeddings = z, key = key, assay = assay %||% "RNA")
  setNames(list(reduction), new.reduction)
}
attr(SCVIIntegration, "Seurat.method") <- "integration"

# Which of its layers each cell of a split assay is in: of "counts.x" it is "x".
layer_of_cells <- function(from, layer, call) {
  parts <- parts_v5(from, layer, call)
  if (length(parts) < 2) {
    abort_scelbo("setup", paste0("The ", layer, " are in one layer, so there is nothing to integrate."),
                 paste("Split them first: `so[[\"RNA\"]] <- split(so[[\"RNA\"]], f = so$donor)`;",
                       "or take RunSCVI(), whose batches are a column."), call = call)
  }
  cells <- lapply(parts, function(name) SeuratObject::Cells(from, layer = name))
  of <- setNames(rep(substring(parts, nchar(layer) + 2), lengths(cells)), unlist(cells))
  unname(of[colnames(from)])
}

# What was read already.
#' @exportS3Method
read_cells.scelbo_cells <- function(object, assay = NULL, layer = "counts", call = caller_env()) object
