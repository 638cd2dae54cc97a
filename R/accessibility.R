#' Open chromatin, as a model sees it
#'
#' What a trained [peakvi()] or [multivi()] model says of regions. (Of its other questions, such as [get_latent_representation()] or
#' [differential_abundance()], nothing differs from other models.)
#'
#' @inheritParams questions
#' @param regions Names of the regions. `NULL`: the object's variable features, else all, as long as a dense result stays
#'   below half a gigabyte. `"all"`: all, whatever their number.
#' @param transform_batch Give the probabilities that the cells would have had in this batch; several batches are
#'   averaged.
#' @param use_z_mean Decode the mean of \eqn{q(z \mid x)}{q(z | x)} (`TRUE`) or one draw.
#' @param threshold Leave out what is below it: the result is a sparse `dgCMatrix`.
#' @param normalize_cells,normalize_regions Multiply by the cells' factors \eqn{\ell}{l}, and by the regions' factors
#'   \eqn{r}: with both, the probability of being seen.
#' @inheritSection questions Errors
#' @return What each function returns begins its paragraph under Details.
#' @name accessibility
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("multiome", n_cells = 100, n_genes = 50, n_regions = 60)
#' model <- peakvi(so, batch = "batch", assay = "peaks") |> train(max_epochs = 2, verbose = FALSE)
#' get_normalized_accessibility(model, regions = c("region3", "region12"), cells = 1:4)
#' open <- get_normalized_accessibility(model, threshold = 0.1) # all regions, sparse
#' summary(get_library_size_factors(model))
#' sort(get_region_factors(model))[1:5]
NULL

#' @rdname accessibility
#' @details `get_normalized_accessibility()`: a matrix of **regions x cells**, the probability \eqn{y} that each region is
#'   open in cells like each of these, without depth and, on request, without batch effects.
#' @export
get_normalized_accessibility <- function(model, ...) UseMethod("get_normalized_accessibility")

#' @rdname accessibility
#' @export
get_normalized_accessibility.scelbo_model <- function(model, object = NULL, regions = NULL, cells = NULL,
                                                      transform_batch = NULL, transform = NULL, use_z_mean = TRUE,
                                                      n_samples_overall = NULL, threshold = NULL,
                                                      normalize_cells = FALSE, normalize_regions = FALSE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  names <- chosen_or_drawn(about$cells, at, n_samples_overall)
  known <- regions_of(model)
  regions <- dense_features(model, regions, if (is.null(threshold)) length(names) else 0, what = "regions",
                            hint = " With a `threshold =` the matrix is sparse.", known = known)
  some <- if (!identical(regions, known)) as.list(regions)
  y <- ask(model, "get_normalized_accessibility", adata = about$adata, indices = at, region_list = some,
           transform_batch = as_groups(transform_batch), transform = counterfactual(model, transform),
           use_z_mean = use_z_mean, n_samples_overall = n_samples_overall, threshold = threshold,
           normalize_cells = normalize_cells, normalize_regions = normalize_regions, return_numpy = TRUE, ...)
  if (is.null(threshold)) features_by_cells(y, regions, names) else from_csr(y, regions, names)
}

#' @rdname accessibility
#' @details `get_library_size_factors()`: the factor \eqn{\ell}{l} of each cell, how much of what is open was seen in it.
#'   (Of a [multivi()] model a data.frame: `expression`, the RNA's library size in counts, and `accessibility`; `NaN` where
#'   a cell lacks the modality.)
#' @export
get_library_size_factors <- function(model, ...) UseMethod("get_library_size_factors")

#' @rdname accessibility
#' @export
get_library_size_factors.scelbo_model <- function(model, object = NULL, cells = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  factors <- ask(model, "get_library_size_factors", adata = about$adata, indices = at, ...)
  if (reticulate::py_has_attr(factors, "columns")) return(from_pandas(factors))
  setNames(as.vector(to_r(factors)), chosen(about$cells, at))
}

#' @rdname accessibility
#' @details `get_region_factors()`: the factor \eqn{r} of each region, how readily it is seen.
#' @export
get_region_factors <- function(model, ...) UseMethod("get_region_factors")

#' @rdname accessibility
#' @export
get_region_factors.scelbo_model <- function(model, ...) {
  setNames(as.vector(to_r(ask(model, "get_region_factors", ...))), regions_of(model))
}

# The regions of a model: all its features, those beside genes, or none.
regions_of <- function(model) {
  beside <- features_beside(model, "atac")
  if (length(beside) || offers(model, "get_normalized_expression")) beside
  else if (offers(model, "get_normalized_accessibility")) model$features
}

#' Differential accessibility by the model
#'
#' Compares the probabilities \eqn{y} that a region is open in two groups of cells, over draws from the posterior of
#' their states (Ashuach et al. 2022). `mode = "change"` tests whether the difference \eqn{y_1 - y_2} is at least
#' `delta` in one direction: at most one half of the pairs of cells of groups alike are, however unlike the cells of each
#' group; `mode = "vanilla"` tests which is higher. With a `contrast`, case is compared with control inside every group.
#'
#' @inheritParams differential_expression
#' @param replicates Column or vector of what was sampled (donors): adds the effect's spread over replicates;
#'   permutations exchange case and control inside them.
#' @param two_sided Open more often in either group by at least `delta`, whichever is more probable (`TRUE`), or in
#'   group 1. With `test_mode = "two"` both directions add up, as published: cells differ at all. That is also probable
#'   where the cells *within* each group differ, so it is for groups of one kind of cells.
#' @param mode `"change"` or `"vanilla"`.
#' @param delta Smallest difference of probabilities of interest (`mode = "change"`).
#' @param ... Further arguments of the Python method, and of [differential_expression()]: `test_mode`, `fdr_target`,
#'   `batch_correction`, `n_samples_overall`, `weights`, `all_stats`, `seed`, ...
#' @return A data.frame with one row a region (and comparison), the most probable first: `feature`; `prob_da`,
#'   `is_da_fdr` (`mode = "change"`: in the longest list whose expected share of false discoveries is `fdr_target`),
#'   `bayes_factor`; `effect_size`, which is `est_prob1 - est_prob2`, the model's probabilities; `emp_effect`, which is
#'   `emp_prob1 - emp_prob2`, the shares of cells in which the region was seen; with groups `comparison`, `group1`,
#'   `group2`. With a `contrast` these are case and control, and the group stands in a column of its name (`group` where
#'   a vector was given); `replicates` adds `effect_replicates_mean`, `effect_replicates_std`, `replicates_agree`,
#'   `n_replicates`; `n_permutations` adds the attribute `"permutations"`, see [differential_expression()].
#' @inheritSection differential_expression Errors
#' @seealso [FindMarkersPEAKVI()] for Seurat objects; [plot_volcano()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("multiome", n_cells = 100, n_genes = 50, n_regions = 60)
#' model <- peakvi(so, batch = "batch", assay = "peaks") |> train(max_epochs = 2, verbose = FALSE)
#' head(differential_accessibility(model, object = so, group_by = "cell_type", group1 = "type0"), 3)
#' head(differential_accessibility(model, cells1 = so$cell_type == "type0", two_sided = FALSE), 3)
#' @export
differential_accessibility <- function(model, ..., mode = "change") { # `mode` is named, or it would match `model`
  UseMethod("differential_accessibility", model)
}

#' @rdname differential_accessibility
#' @export
differential_accessibility.scelbo_model <- function(model, group_by = NULL, group1 = NULL, group2 = NULL, cells1 = NULL,
                                                    cells2 = NULL, object = NULL, contrast = NULL, replicates = NULL,
                                                    n_permutations = 0, two_sided = TRUE, delta = 0.05, ...,
                                                    mode = "change") {
  compare_groups(model, "differential_accessibility", group_by, group1, group2, cells1, cells2, object, contrast,
                 replicates, n_permutations = n_permutations, two_sided = two_sided, mode = mode, delta = delta, ...)
}
