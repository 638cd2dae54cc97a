#' Markers by the model, in the shape of Seurat's FindMarkers
#'
#' Bayesian tests with `mode = "change"` between groups of cells: `FindMarkersSCVI()` and its like by
#' [differential_expression()], `FindMarkersPEAKVI()` and its like by [differential_accessibility()].
#'
#' @param object A Seurat object that [RunSCVI()], [RunPEAKVI()] or [write_back()] returned. It may be a subset of what
#'   was fitted.
#' @param ident.1,ident.2 Groups to compare, of `group.by`, or of the active identities; several are taken together.
#'   `ident.2 = NULL`: all other cells.
#' @param group.by Column of the metadata; `NULL`: `Idents(object)`.
#' @param delta Smallest effect of interest: log2 fold change of expression, difference of probabilities of being open.
#' @param only.pos Return only what is higher in `ident.1`.
#' @param name Which model in the object, see [get_model()]; `NULL`: the last that offers the test.
#' @param ... Further arguments of [differential_expression()] or [differential_accessibility()], such as
#'   `batch_correction` or `seed`.
#' @return A data.frame with the features as row names, the most probable first. In Seurat's columns:
#'
#'   - `p_val`: **not a p-value** but the posterior probability that the feature does *not* differ, `1 - proba_de` or
#'     `1 - prob_da`: small means the same as for a p-value;
#'   - `avg_log2FC`: of expression the posterior mean of the log2 fold change of expected frequencies (`lfc_mean`); of
#'     accessibility the log2 ratio of the mean probabilities of being open, `est_prob1` and `est_prob2`;
#'   - `pct.1`, `pct.2`: share of cells with a count above zero;
#'   - `p_val_adj`: the expected false discovery rate of the list from its top to this row, the running mean of `p_val`:
#'     `p_val_adj < 0.05` holds 5 % false discoveries by the model's own account. Of a [totalvi()] model there are genes
#'     and proteins (`modality`), with a running mean each; where a gene and a protein have one name, the row name of one
#'     gets a number, and `gene` is the name.
#'
#'   After them the model's own: `proba_de`, `bayes_factor`, `lfc_median`, `lfc_std`, `scale1`, `scale2`, ... of
#'   expression; `prob_da`, `is_da_fdr`, `bayes_factor`, `effect_size`, `emp_effect`, `est_prob1`, `est_prob2` of
#'   accessibility.
#' @details Models of several kinds may be in one object: the last that answers is asked, or the one called `name`. Expression is
#'   what [scvi()], [scanvi()], [linearscvi()], [autozi()], [totalvi()], [multivi()], [gimvi()] and [condscvi()] tell apart,
#'   accessibility [peakvi()] and [multivi()]. Groups are compared among the cells that the model reads, where its assay has part
#'   of the object's (a sketch).
#' @section Errors: `scelbo_setup_error` where the object holds no model, or a group is not there;
#'   `scelbo_argument_error` where its model does not offer the test.
#' @seealso [plot_volcano()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so <- RunSCVI(so, batch = "batch", max_epochs = 2, verbose = FALSE)
#' markers <- FindMarkersSCVI(so, ident.1 = "type0", group.by = "cell_type")
#' head(markers[1:5], 3)
#' changes <- FindConditionMarkersSCVI(so, c("batch", "batch1", "batch0"), group.by = "cell_type", replicates = "donor")
#' head(changes, 3)
#'
#' peaks <- simulate_cells("multiome", n_cells = 100, n_genes = 50, n_regions = 60)
#' peaks <- RunPEAKVI(peaks, assay = "peaks", max_epochs = 2, verbose = FALSE)
#' head(FindMarkersPEAKVI(peaks, ident.1 = "type0", group.by = "cell_type", two_sided = FALSE)[1:5], 3)
#' @export
FindMarkersSCVI <- function(object, ident.1, ident.2 = NULL, group.by = NULL, delta = 0.25, only.pos = FALSE,
                            name = NULL, ...) {
  find_markers(expression_markers, object, ident.1, ident.2, group.by, delta, only.pos, name, ...)
}

#' @rdname FindMarkersSCVI
#' @export
FindMarkersPEAKVI <- function(object, ident.1, ident.2 = NULL, group.by = NULL, delta = 0.05, only.pos = FALSE,
                              name = NULL, ...) {
  find_markers(accessibility_markers, object, ident.1, ident.2, group.by, delta, only.pos, name, ...)
}

#' @rdname FindMarkersSCVI
#' @details `FindAllMarkersSCVI()`, `FindAllMarkersPEAKVI()` compare each group with all other cells and add the columns
#'   `cluster` and `gene`.
#' @export
FindAllMarkersSCVI <- function(object, group.by = NULL, delta = 0.25, only.pos = FALSE, name = NULL, ...) {
  find_all_markers(expression_markers, object, group.by, delta, only.pos, name, ...)
}

#' @rdname FindMarkersSCVI
#' @export
FindAllMarkersPEAKVI <- function(object, group.by = NULL, delta = 0.05, only.pos = FALSE, name = NULL, ...) {
  find_all_markers(accessibility_markers, object, group.by, delta, only.pos, name, ...)
}

#' @rdname FindMarkersSCVI
#' @param contrast,replicates Case against control, and what was sampled: see [differential_expression()] and
#'   [differential_accessibility()].
#' @details `FindConditionMarkersSCVI()`, `FindConditionMarkersPEAKVI()` compare case with control inside each group, the
#'   `cluster`; up is up in the case. With `n_permutations` the result has the attribute `"permutations"`, see
#'   [differential_expression()].
#' @export
FindConditionMarkersSCVI <- function(object, contrast, group.by = NULL, replicates = NULL, delta = 0.25,
                                     only.pos = FALSE, name = NULL, ...) {
  find_condition_markers(expression_markers, object, contrast, group.by, replicates, delta, only.pos, name, ...)
}

#' @rdname FindMarkersSCVI
#' @export
FindConditionMarkersPEAKVI <- function(object, contrast, group.by = NULL, replicates = NULL, delta = 0.05,
                                       only.pos = FALSE, name = NULL, ...) {
  find_condition_markers(accessibility_markers, object, contrast, group.by, replicates, delta, only.pos, name, ...)
}

# What differs by a kind of data: the question, its columns with the probability, the effect, and the shares of cells
# (`pct`); the log2 fold change; and columns that Seurat's tell already.
expression_markers <- list(
  question = "differential_expression", probability = "proba_de", effect = "lfc_mean",
  pct = c("non_zeros_proportion1", "non_zeros_proportion2"), fold = function(table) table$lfc_mean,
  told = c("proba_not_de", "lfc_mean")
)
accessibility_markers <- list(
  question = "differential_accessibility", probability = "prob_da", effect = "effect_size",
  pct = c("emp_prob1", "emp_prob2"), fold = function(table) log2(table$est_prob1 / table$est_prob2)
)

find_markers <- function(kind, object, ident.1, ident.2, group.by, delta, only.pos, name, ..., call = caller_env()) {
  groups <- groups_of(object, group.by, call)
  check_names(as.character(c(ident.1, ident.2)), levels(groups), "group", call)
  of <- function(idents) if (!is.null(idents)) setNames(groups %in% idents, names(groups))
  markers <- ask_markers(kind, object, delta, name, cells1 = of(ident.1), cells2 = of(ident.2), ...)
  markers <- rank_markers(kind, markers, only.pos)
  rownames(markers) <- make.unique(as.character(markers$feature)) # a gene and its protein may have one name
  markers$gene <- if (anyDuplicated(markers$feature)) markers$feature
  markers[setdiff(names(markers), "feature")]
}

find_all_markers <- function(kind, object, group.by, delta, only.pos, name, ..., call = caller_env()) {
  markers <- ask_markers(kind, object, delta, name, group_by = groups_of(object, group.by, call), ...)
  rank_in_clusters(kind, markers, markers$group1, only.pos)
}

find_condition_markers <- function(kind, object, contrast, group.by, replicates, delta, only.pos, name, ...,
                                   call = caller_env()) {
  # as values: the model's own cells know only the columns that it reads
  find <- function(by, what) {
    values <- find_values(NULL, by, object, colnames(object), what, call)
    if (!is.null(values)) setNames(values, colnames(object))
  }
  asked <- as_contrast(contrast, colnames(object))
  markers <- ask_markers(kind, object, delta, name, group_by = groups_of(object, group.by, call),
                         contrast = c(list(find(asked$by, "contrast")), asked$levels),
                         replicates = find(replicates, "replicates"), ...)
  ranked <- rank_in_clusters(kind, markers[setdiff(names(markers), "group")], markers$group, only.pos)
  attr(ranked, "permutations") <- attr(markers, "permutations")
  ranked
}

# Named by the cells, of which the model may read part.
groups_of <- function(object, group.by, call = caller_env()) {
  if (!inherits(object, "Seurat")) {
    abort_scelbo("argument", paste0("Markers are found so in a Seurat object, and this is a ", class(object)[[1]], "."),
                 "Ask its model: differential_expression(get_model(object), group_by, object = object, mode = \"change\").", call = call)
  }
  if (is.null(group.by)) return(droplevels(factor(SeuratObject::Idents(object))))
  check_names(group.by, names(object[[]]), "column in the metadata", call)
  setNames(factor(object[[group.by, drop = TRUE]]), colnames(object))
}

ask_markers <- function(kind, object, delta, name, ...) {
  model <- model_for(object, kind$question, name)
  get(kind$question, mode = "function")(model, ..., object = own_or(model, object), mode = "change", delta = delta)
}

# The model's columns -> Seurat's before the model's own; ordered by probability, then by effect.
rank_markers <- function(kind, markers, only.pos) {
  markers <- markers[order(markers[[kind$probability]], abs(markers[[kind$effect]]), decreasing = TRUE), , drop = FALSE]
  p_val <- 1 - markers[[kind$probability]]
  seurat <- data.frame(
    p_val = p_val, avg_log2FC = kind$fold(markers),
    pct.1 = markers[[kind$pct[[1]]]], pct.2 = markers[[kind$pct[[2]]]],
    p_val_adj = running_mean(p_val, markers$modality)
  )
  all <- cbind(seurat, markers[setdiff(names(markers), c(kind$told, kind$pct))])
  if (only.pos) all[all$avg_log2FC > 0, , drop = FALSE] else all
}

# Of genes and of proteins apart: each have false discoveries of their own.
running_mean <- function(x, modality) {
  mean <- function(x) cumsum(x) / seq_along(x)
  if (is.null(modality)) mean(x) else stats::ave(x, modality, FUN = mean)
}

rank_in_clusters <- function(kind, markers, cluster, only.pos) {
  markers$cluster <- factor(cluster, unique(cluster))
  markers <- lapply(split(markers, markers$cluster), function(these) rank_markers(kind, these, only.pos))
  markers <- do.call(rbind, unname(markers))
  markers$gene <- markers$feature
  rownames(markers) <- make.unique(as.character(markers$feature))
  told <- c("feature", "comparison", "group1", "group2")
  last <- c("cluster", "gene")
  markers[c(setdiff(names(markers), c(told, last)), last)]
}
