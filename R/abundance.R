#' Differential abundance by the model
#'
#' Where in latent space samples of the case have more of their cells than samples of the control: around each cell the
#' shares of the samples are compared, by a t-test over samples, not over cells (neighbourhoods as in Milo, Dann et al.
#' 2022, \doi{10.1038/s41587-021-01033-z}).
#'
#' @inheritParams questions
#' @param sample What was sampled (a donor, or a donor under one condition): the name of a column of `object` (or of the
#'   model's metadata), or a vector with one value a cell.
#' @param contrast Case against control: a column or vector of two levels, the second of which is the case; or such a
#'   column with case and control, `c("stim", "STIM", "CTRL")` (`list(vector, "STIM", "CTRL")`). Constant within a
#'   sample. `NULL`: no test, but the density of every sample at each cell.
#' @param pair Column or vector of what case and control samples have in common (the donor): they are compared in pairs.
#' @param n_neighbors Cells in a neighbourhood. `NULL`: 25 a sample, at most a tenth of the cells.
#' @param num_cells_posterior,dof Of the densities: at most so many cells stand for a sample, and the
#'   degrees of freedom of Student's t around each.
#' @param fdr_target Rate of Benjamini and Hochberg for `is_da_fdr_<target>`.
#' @param ... Further arguments of the Python method: `batch_size`, `seed`.
#' @return A data.frame with the cells as row names. With a contrast `log_fold_change` (log2, up is up in the case),
#'   `t`, `p_value`, `fdr`, `is_da_fdr_<target>`; without, a column a sample: log densities, in nats.
#' @section Errors: `scelbo_setup_error` where a column, `scelbo_argument_error` where a level is not there, a sample
#'   lies on both sides, or a side has fewer than two samples.
#' @examples
#' \dontrun{
#' so$sample <- paste(so$donor, so$stim)
#' found <- differential_abundance(model, "sample", c("stim", "STIM", "CTRL"), pair = "donor", object = so)
#' so <- Seurat::AddMetaData(so, found)
#' Seurat::FeaturePlot(so, "log_fold_change", reduction = "umap")
#' }
#' @export
differential_abundance <- function(model, ...) UseMethod("differential_abundance")

#' @rdname differential_abundance
#' @export
differential_abundance.scelbo_model <- function(model, sample, contrast = NULL, pair = NULL, object = NULL,
                                                n_neighbors = NULL, num_cells_posterior = 1000, dof = 3,
                                                fdr_target = 0.05, ...) {
  about <- cells_asked(model, object)
  find <- function(by, what) find_values(model, by, object, about$cells, what)
  contrast <- as_contrast(contrast, about$cells)
  columns <- list(sample = find(sample, "sample"), contrast = find(contrast$by, "contrast"), pair = find(pair, "pair"))
  check_names(contrast$levels, unique(as.character(columns$contrast)), "level of the contrast")
  columns <- columns[lengths(columns) > 0]
  key <- function(name) if (!is.null(columns[[name]])) group_column(name)
  adata <- with_columns(model, about$adata, setNames(columns, group_column(names(columns))), about$cells)
  drawable(from_pandas(ask(
    model, "differential_abundance", adata = adata,
    sample_key = key("sample"), contrast = as_groups(c(key("contrast"), contrast$levels)), pair_key = key("pair"),
    n_neighbors = n_neighbors, num_cells_posterior = num_cells_posterior, dof = dof, fdr_target = fdr_target,
    progress = FALSE, ...
  )), "abundance")
}
