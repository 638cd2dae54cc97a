#' Differential expression by the model
#'
#' Compares the expected frequencies \eqn{\rho}{rho} of two groups of cells, over draws from the posterior of their
#' states. `mode = "vanilla"` tests which group's is higher (Lopez et al. 2018); `mode = "change"` tests whether the
#' log2 fold change leaves \eqn{[-\delta, \delta]}{[-delta, delta]} (Boyeau et al. 2019, \doi{10.1101/794289}).
#'
#' @inheritParams questions
#' @param group_by What parts the cells into groups: the name of a column of `object` (or of the model's metadata), or a
#'   vector with one value a cell.
#' @param group1,group2 Groups to compare. Without `group1` every group is compared; without `group2` with all other
#'   cells.
#' @param cells1,cells2 In place of groups: the cells to compare, as names, positions or logicals. Without `cells2` with
#'   all other cells.
#' @param mode `"vanilla"` or `"change"`.
#' @param delta Smallest log2 fold change of interest (`mode = "change"`).
#' @param ... Further arguments of the Python method: `fdr_target`, `batch_correction`, `seed`, ...
#' @return A data.frame with one row a feature (and comparison), the most probable first: `feature`; `proba_de`,
#'   `bayes_factor`, `lfc_mean`, `lfc_median`, `lfc_std`, ... (`"change"`) or `proba_m1`, `proba_m2`, `bayes_factor`
#'   (`"vanilla"`); `scale1`, `scale2` (expected frequencies), `raw_mean1`, `raw_mean2` (mean counts),
#'   `non_zeros_proportion1`, `non_zeros_proportion2`; with groups `comparison`, `group1`, `group2`.
#' @section Errors: `scelbo_setup_error` where a column, `scelbo_argument_error` where a group is not there.
#' @seealso [FindMarkersSCVI()] for Seurat objects; [plot_volcano()].
#' @examples
#' \dontrun{
#' differential_expression(model, object = so, group_by = "cell_type", group1 = "B", mode = "change")
#' differential_expression(model, group_by = Idents(so), group1 = "0", group2 = "1", mode = "change")
#' }
#' @export
differential_expression <- function(model, ..., mode = "vanilla") { # `mode` is named, or it would match `model`
  UseMethod("differential_expression", model)
}

#' @rdname differential_expression
#' @export
differential_expression.scelbo_model <- function(model, group_by = NULL, group1 = NULL, group2 = NULL, cells1 = NULL,
                                                 cells2 = NULL, object = NULL, delta = 0.25, ..., mode = "vanilla") {
  about <- cells_asked(model, object)
  adata <- about$adata
  if (!is.null(group_by)) {
    groups <- find_groups(model, group_by, object, about$cells)
    check_names(as.character(c(group1, group2)), unique(as.character(groups[[1]])), "group")
    adata <- with_python(bridge()$grouped(model$python, adata, to_pandas(groups, about$cells)))
  }
  table <- ask(
    model, "differential_expression", adata = adata, groupby = if (!is.null(group_by)) group_column,
    group1 = as_groups(group1), group2 = as_groups(group2), idx1 = cell_positions(cells1, about$cells),
    idx2 = cell_positions(cells2, about$cells), mode = mode, delta = delta, ...
  )
  features <- names_of(table$index)
  row_names <- if (!anyDuplicated(features)) features
  data.frame(feature = features, from_pandas(table), row.names = row_names, check.names = FALSE)
}

# The grouping travels under a name that no model reads.
group_column <- "scelbo_group"

as_groups <- function(groups) {
  groups <- if (!is.null(groups)) as.character(groups)
  if (length(groups) > 1) as.list(groups) else groups
}

find_groups <- function(model, group_by, object, cells, call = caller_env()) {
  values <- group_by
  if (is.character(group_by) && length(group_by) == 1 && length(cells) > 1) {
    metadata <- metadata_of(object %||% model$python$adata)
    check_names(group_by, names(metadata), "column in the metadata", call)
    values <- metadata[[group_by]]
  }
  if (length(values) != length(cells)) {
    abort_scelbo("argument", paste0("`group_by` has ", length(values), " values for ", length(cells), " cells."),
                 "Give the name of a column, or a vector with one value a cell.", call = call)
  }
  if (!is.factor(values)) values <- as_category(as.vector(values))
  setNames(data.frame(unname(values)), group_column)
}

metadata_of <- function(object) {
  if (is_anndata(object)) return(from_pandas(python_anndata(object)$obs))
  if (inherits(object, "Seurat")) return(object[[]])
  if (inherits(object, "SummarizedExperiment")) SummarizedExperiment::colData(object)
}
