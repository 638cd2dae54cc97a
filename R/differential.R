#' Differential expression by the model
#'
#' Compares the expected frequencies \eqn{\rho}{rho} of two groups of cells, over draws from the posterior of their
#' states. `mode = "vanilla"` tests which group's is higher (Lopez et al. 2018); `mode = "change"` tests whether the
#' log2 fold change leaves \eqn{[-\delta, \delta]}{[-delta, delta]} (Boyeau et al. 2019, \doi{10.1101/794289}).
#' With a `contrast`, case is compared with control inside every group.
#'
#' @inheritParams questions
#' @param group_by What parts the cells into groups: the name of a column of `object` (or of the model's metadata), or a
#'   vector with one value a cell.
#' @param group1,group2 Groups to compare. Without `group1` every group is compared; without `group2` with all other
#'   cells. With a `contrast`, `group1` are the groups to look into.
#' @param cells1,cells2 In place of groups: the cells to compare, as names, positions or logicals. Without `cells2` with
#'   all other cells.
#' @param contrast Case against control: a column or vector as `group_by` takes them, of two levels, the second of which
#'   is the case; or such a column with case and control, `c("stim", "STIM", "CTRL")` (`list(vector, "STIM", "CTRL")`).
#' @param replicates Column or vector of what was sampled (donors): adds the fold changes' spread over replicates, each
#'   against its own control cells where it has any. For a `contrast` with `mode = "change"`, as `n_permutations`.
#' @param n_permutations How often to repeat a `contrast` with case and control exchanged at random inside groups and
#'   replicates.
#' @param mode `"vanilla"` or `"change"`.
#' @param delta Smallest log2 fold change of interest (`mode = "change"`).
#' @param ... Further arguments of the Python method: `fdr_target`, `batch_correction`, `n_samples_overall`, `seed`, ...
#'   Of them `weights = "importance"` corrects for how far \eqn{q(z \mid x)}{q(z | x)} is from the true posterior,
#'   judged on at most `importance_cells` cells a group (slower: minutes for thousands of features);
#'   `filter_outlier_cells = TRUE` leaves out the tenth of each group that lies farthest from its centre in latent
#'   space; `use_permutation = TRUE` compares `m_permutation` random pairs of draws rather than each draw with one
#'   other.
#' @return A data.frame with one row a feature (and comparison), the most probable first: `feature`; `proba_de`,
#'   `bayes_factor`, `lfc_mean`, `lfc_median`, `lfc_std`, ... (`"change"`) or `proba_m1`, `proba_m2`, `bayes_factor`
#'   (`"vanilla"`); `scale1`, `scale2` (expected frequencies), `raw_mean1`, `raw_mean2` (mean counts),
#'   `non_zeros_proportion1`, `non_zeros_proportion2`; with groups `comparison`, `group1`, `group2`. With a `contrast`
#'   these are case and control, and the group stands in a column of its name (`group` where a vector was given); with
#'   `replicates` there are `lfc_replicates_mean`, `lfc_replicates_std`, `replicates_agree`, `n_replicates`. With
#'   `n_permutations` the attribute `"permutations"` is a data.frame that says of each `group` how many features were
#'   `called`, and how many on average are `called_of_nothing`.
#' @section Errors: `scelbo_setup_error` where a column, `scelbo_argument_error` where a group is not there.
#' @seealso [FindMarkersSCVI()], [FindConditionMarkersSCVI()] for Seurat objects; [plot_volcano()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' table <- differential_expression(model, object = so, group_by = "cell_type", group1 = "type0", mode = "change")
#' head(table[c("proba_de", "lfc_mean", "lfc_std")], 3)
#'
#' # what differs between two conditions in each type, with the spread over donors, and how often it would by chance
#' changes <- differential_expression(model, object = so, group_by = "cell_type", contrast = c("batch", "batch1", "batch0"),
#'                                    replicates = "donor", n_permutations = 2, mode = "change")
#' attr(changes, "permutations")
#' @export
differential_expression <- function(model, ..., mode = "vanilla") { # `mode` is named, or it would match `model`
  UseMethod("differential_expression", model)
}

#' @rdname differential_expression
#' @export
differential_expression.scelbo_model <- function(model, group_by = NULL, group1 = NULL, group2 = NULL, cells1 = NULL,
                                                 cells2 = NULL, object = NULL, contrast = NULL, replicates = NULL,
                                                 n_permutations = 0, delta = 0.25, ..., mode = "vanilla") {
  compare_groups(model, "differential_expression", group_by, group1, group2, cells1, cells2, object, contrast,
                 replicates, n_permutations = n_permutations, mode = mode, delta = delta, ...)
}

# What every question about differences has in common: which cells. `...` is for the Python method.
# (`handle`, as `mode =` would match an argument named `model`.)
compare_groups <- function(handle, question, group_by, group1, group2, cells1, cells2, object, contrast, replicates, ...,
                           call = caller_env()) {
  about <- cells_asked(handle, object, call)
  find <- function(by, what) find_values(handle, by, object, about$cells, what, call)
  contrast <- as_contrast(contrast, about$cells)
  groups <- list(group_by = find(group_by, "group_by"), contrast = find(contrast$by, "contrast"),
                 replicates = find(replicates, "replicates"))
  if (is.null(group_by) && length(c(group1, group2))) {
    abort_scelbo("argument", "`group1` and `group2` are groups of `group_by`, which is missing.",
                 "Name a column of the metadata, or give one value a cell.", call = call)
  }
  check_names(as.character(c(group1, group2)), unique(as.character(groups$group_by)), "group", call)
  check_names(contrast$levels, unique(as.character(groups$contrast)), "level of the contrast", call)
  groups <- groups[lengths(groups) > 0]
  adata <- with_columns(handle, about$adata, setNames(groups, group_column(names(groups))), about$cells)
  column <- function(name) if (!is.null(groups[[name]])) group_column(name)
  table <- ask(
    handle, question, adata = adata, groupby = column("group_by"), group1 = as_groups(group1),
    group2 = as_groups(group2), idx1 = cell_positions(cells1, about$cells, call),
    idx2 = cell_positions(cells2, about$cells, call), contrast = as_groups(c(column("contrast"), contrast$levels)),
    replicates = column("replicates"), ..., call = call
  )
  features <- names_of(table$index)
  row_names <- if (!anyDuplicated(features)) features
  answer <- data.frame(feature = features, from_pandas(table), row.names = row_names, check.names = FALSE)
  group <- if (is_column(group_by, about$cells)) group_by else "group"
  names(answer)[names(answer) == group_column("group_by")] <- group
  permutations <- to_r(table$attrs)$permutations
  attr(answer, "permutations") <- do.call(rbind, lapply(permutations, as.data.frame))
  drawable(answer, "differential")
}

# What the user groups by travels under names that no model reads.
group_column <- function(argument) paste0("scelbo_", argument, recycle0 = TRUE)

# The cells of `adata`, `NULL` for the model's own, with further columns: a list of vectors, one value a cell.
with_columns <- function(model, adata, columns, cells) {
  if (!length(columns)) return(adata)
  with_python(bridge()$grouped(model$python, adata, to_pandas(columns, cells)))
}

as_groups <- function(groups) {
  groups <- if (!is.null(groups)) as.character(groups)
  if (length(groups) > 1) as.list(groups) else groups
}

# "stim", c("stim", case, control), a vector, list(vector, case, control) -> the column or vector, and the two levels.
as_contrast <- function(contrast, cells) {
  if (!is.list(contrast) && (length(contrast) != 3 || length(cells) == 3)) return(list(by = contrast))
  list(by = contrast[[1]], levels = as.character(unlist(contrast[-1])))
}

is_column <- function(by, cells) is.character(by) && length(by) == 1 && length(cells) > 1

# A value for each cell, from a column or a vector; as the argument `what` asks.
find_values <- function(model, by, object, cells, what, call = caller_env(2)) {
  values <- raw_values(model, by, object, cells, what, call)
  if (is.null(values)) NULL else as_category(values)
}

# The same, with numbers as they are. An assay may have part of an object's cells, as a sketch has: values with names are
# those of the cells called so.
raw_values <- function(model, by, object, cells, what, call = caller_env(2)) {
  if (is.null(by)) return(NULL)
  values <- by
  if (is_column(by, cells)) {
    metadata <- metadata_of(object %||% model$python$adata, genes_in(model$recipe))
    check_names(by, names(metadata), "column in the metadata", call)
    values <- plain_vector(metadata[[by]])
    if (length(values)) names(values) <- rownames(metadata)
  }
  if (length(values) > length(cells) && all(cells %in% names(values))) values <- values[match(cells, names(values))]
  if (length(values) != length(cells)) {
    abort_scelbo("argument", paste0("`", what, "` has ", length(values), " values for ", length(cells), " cells."),
                 "Give the name of a column, or a vector with one value a cell.", call = call)
  }
  unname(if (is.factor(values)) values else as.vector(values))
}

metadata_of <- function(object, assay = NULL) {
  if (is_anndata(object)) return(from_pandas(python_anndata(object)$obs))
  if (inherits(object, "Seurat")) return(object[[]])
  if (inherits(object, "SummarizedExperiment")) return(SummarizedExperiment::colData(object))
  if (inherits(object, "MultiAssayExperiment")) read_cells(object, assay)$obs
}
