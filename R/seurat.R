#' scVI from object to object, in one step
#'
#' Fits [scvi()] to the object's counts, trains it by [train()], and writes the latent representation and the model
#' back: `RunSCVI()` in Seurat's words, `runSCVI()` in Bioconductor's. Nothing else in the object changes.
#'
#' @param object A Seurat object of any version (split layers are joined for reading and stay split), or a
#'   SingleCellExperiment.
#' @param batch Column of the batch, or a formula such as `~ batch + donor + percent.mt`: see [scvi()].
#' @param ... Further arguments of [scvi()] (`features`, `n_latent`, ...) and of [train()] (`max_epochs`, `seed`,
#'   `device`, `verbose`, `batch_size`, ...).
#' @param name Name of the reduction.
#' @return The object with the model (see [get_model()]) and its latent representation, cells x `n_latent`: Seurat's
#'   DimReduc `name` with that key, or `reducedDim(object, name)`.
#' @seealso [FindMarkersSCVI()], [write_back()].
#' @examples
#' \dontrun{
#' so <- RunSCVI(so, batch = "donor")
#' so <- Seurat::RunUMAP(so, reduction = "scvi", dims = 1:10)
#'
#' sce <- runSCVI(sce, batch = "donor")
#' sce <- scater::runUMAP(sce, dimred = "SCVI")
#' }
#' @name run_scvi
NULL

#' @rdname run_scvi
#' @export
RunSCVI <- function(object, batch = NULL, ..., name = "scvi") run_model("scvi", object, list(batch = batch, ...), name)

#' @rdname write_back
#' @exportS3Method
write_back.Seurat <- function(model, object, name = tolower(model$class), features = NULL, ...) {
  source <- own_or(model, object)
  z <- get_latent_representation(model, source)
  key <- paste0(gsub("[^A-Za-z0-9]", "", name), "_")
  colnames(z) <- paste0(key, seq_len(ncol(z)))
  assay <- model$recipe$assay %||% SeuratObject::DefaultAssay(object)
  object[[name]] <- SeuratObject::CreateDimReducObject(embeddings = z, key = key, assay = assay)
  if (!is.null(features)) {
    values <- as(get_normalized_expression(model, source, features), "CsparseMatrix")
    is_v5 <- inherits(object[[assay]], "StdAssay")
    make <- if (is_v5) seurat5("CreateAssay5Object") else SeuratObject::CreateAssayObject
    values <- make(data = values)
    SeuratObject::Key(values) <- paste0(sub("_$", "", key), "normalized_")
    suppressWarnings(object[[paste0(name, "_normalized")]] <- values) # Seurat 5 misses a layer of counts in it
  }
  models <- models_in(object)
  models[[name]] <- model
  suppressWarnings(SeuratObject::Misc(object, slot = "scelbo") <- models) # it warns of replacing what was there
  object
}

#' @exportS3Method
models_in.Seurat <- function(object) SeuratObject::Misc(object, slot = "scelbo")

#' Markers by the model, in the shape of Seurat's FindMarkers
#'
#' Bayesian differential expression ([differential_expression()] with `mode = "change"`) between groups of cells.
#'
#' @param object A Seurat object that [RunSCVI()] or [write_back()] returned. It may be a subset of what was fitted.
#' @param ident.1,ident.2 Groups to compare, of `group.by`, or of the active identities; several are taken together.
#'   `ident.2 = NULL`: all other cells.
#' @param group.by Column of the metadata; `NULL`: `Idents(object)`.
#' @param delta Smallest log2 fold change of interest.
#' @param only.pos Return only what is higher in `ident.1`.
#' @param name Which model in the object, see [get_model()].
#' @param ... Further arguments of [differential_expression()], such as `batch_correction` or `seed`.
#' @return A data.frame with the features as row names, the most probable first. In Seurat's columns:
#'
#'   - `p_val`: **not a p-value** but the posterior probability that the feature is *not* differentially expressed,
#'     `1 - proba_de`: small means the same as for a p-value;
#'   - `avg_log2FC`: the posterior mean of the log2 fold change of expected frequencies (`lfc_mean`);
#'   - `pct.1`, `pct.2`: share of cells with a count above zero;
#'   - `p_val_adj`: the expected false discovery rate of the list from its top to this row, the running mean of `p_val`:
#'     `p_val_adj < 0.05` holds 5 % false discoveries by the model's own account.
#'
#'   After them the model's own: `proba_de`, `bayes_factor`, `lfc_median`, `lfc_std`, `scale1`, `scale2`, ...
#' @section Errors: `scelbo_setup_error` where the object holds no model, or a group is not there.
#' @seealso [plot_volcano()].
#' @examples
#' \dontrun{
#' markers <- FindMarkersSCVI(so, ident.1 = "B cells", group.by = "cell_type")
#' all_markers <- FindAllMarkersSCVI(so)
#' changes <- FindConditionMarkersSCVI(so, c("stim", "STIM", "CTRL"), group.by = "cell_type", replicates = "donor")
#' plot_volcano(markers)
#' }
#' @export
FindMarkersSCVI <- function(object, ident.1, ident.2 = NULL, group.by = NULL, delta = 0.25, only.pos = FALSE,
                            name = NULL, ...) {
  groups <- groups_of(object, group.by)
  check_names(as.character(c(ident.1, ident.2)), levels(groups), "group")
  markers <- ask_markers(
    object, delta, name, cells1 = groups %in% ident.1, cells2 = if (!is.null(ident.2)) groups %in% ident.2, ...
  )
  markers <- rank_markers(markers, only.pos)
  rownames(markers) <- markers$feature
  markers[setdiff(names(markers), "feature")]
}

#' @rdname FindMarkersSCVI
#' @details `FindAllMarkersSCVI()` compares each group with all other cells and adds the columns `cluster` and `gene`.
#' @export
FindAllMarkersSCVI <- function(object, group.by = NULL, delta = 0.25, only.pos = FALSE, name = NULL, ...) {
  markers <- ask_markers(object, delta, name, group_by = groups_of(object, group.by), ...)
  rank_in_clusters(markers, markers$group1, only.pos)
}

#' @rdname FindMarkersSCVI
#' @param contrast,replicates Case against control, and what was sampled: see [differential_expression()].
#' @details `FindConditionMarkersSCVI()` compares case with control inside each group, the `cluster`; up is up in the
#'   case. With `n_permutations` the result has the attribute `"permutations"`, see [differential_expression()].
#' @export
FindConditionMarkersSCVI <- function(object, contrast, group.by = NULL, replicates = NULL, delta = 0.25,
                                     only.pos = FALSE, name = NULL, ...) {
  # as values: the model's own cells know only the columns that it reads
  find <- function(by, what) find_values(NULL, by, object, colnames(object), what)
  asked <- as_contrast(contrast, colnames(object))
  markers <- ask_markers(object, delta, name, group_by = groups_of(object, group.by),
                         contrast = c(list(find(asked$by, "contrast")), asked$levels),
                         replicates = find(replicates, "replicates"), ...)
  ranked <- rank_in_clusters(markers[setdiff(names(markers), "group")], markers$group, only.pos)
  attr(ranked, "permutations") <- attr(markers, "permutations")
  ranked
}

rank_in_clusters <- function(markers, cluster, only.pos) {
  markers$cluster <- factor(cluster, unique(cluster))
  markers <- do.call(rbind, unname(lapply(split(markers, markers$cluster), rank_markers, only.pos)))
  markers$gene <- markers$feature
  rownames(markers) <- make.unique(as.character(markers$feature))
  told <- c("feature", "comparison", "group1", "group2")
  last <- c("cluster", "gene")
  markers[c(setdiff(names(markers), c(told, last)), last)]
}

groups_of <- function(object, group.by, call = caller_env()) {
  if (is.null(group.by)) return(droplevels(factor(SeuratObject::Idents(object))))
  check_names(group.by, names(object[[]]), "column in the metadata", call)
  factor(object[[group.by, drop = TRUE]])
}

ask_markers <- function(object, delta, name, ...) {
  model <- get_model(object, name)
  differential_expression(model, ..., object = own_or(model, object), mode = "change", delta = delta)
}

# The model's columns -> Seurat's before the model's own; ordered by probability, then by effect.
rank_markers <- function(markers, only.pos) {
  markers <- markers[order(markers$proba_de, abs(markers$lfc_mean), decreasing = TRUE), , drop = FALSE]
  p_val <- 1 - markers$proba_de
  seurat <- data.frame(
    p_val = p_val, avg_log2FC = markers$lfc_mean,
    pct.1 = markers$non_zeros_proportion1, pct.2 = markers$non_zeros_proportion2,
    p_val_adj = cumsum(p_val) / seq_along(p_val)
  )
  told <- c("proba_not_de", "lfc_mean", "non_zeros_proportion1", "non_zeros_proportion2")
  all <- cbind(seurat, markers[setdiff(names(markers), told)])
  if (only.pos) all[all$avg_log2FC > 0, , drop = FALSE] else all
}
