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
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' so$sample <- paste(so$donor, so$batch)
#' found <- differential_abundance(model, "sample", c("batch", "batch1", "batch0"), pair = "donor", object = so)
#' so <- SeuratObject::AddMetaData(so, found)
#' summary(so$log_fold_change)
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

#' Where cells lie together in latent space
#'
#' The distribution of \eqn{z} in these cells together, an even mixture of all \eqn{q(z \mid x_n)}{q(z | x_n)}: where cells like
#' them are, and how densely.
#'
#' @inheritParams questions
#' @param dof Degrees of freedom of Student's t with the same location and scale, whose heavier tails bridge gaps between cells;
#'   `NULL`: normal.
#' @return A list: `mean` and `variance` of each latent dimension; `location` and `scale` of the mixture's parts, matrices cells x
#'   `n_latent`; `dof`; and `log_density`, a function of a matrix of places x `n_latent`: the log density there, in nats.
#' @inheritSection questions Errors
#' @seealso [differential_abundance()], which compares such densities between samples.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' of_type <- get_aggregated_posterior(model, cells = so$cell_type == "type0")
#' like_it <- of_type$log_density(get_latent_representation(model))
#' tapply(like_it, so$cell_type, median) # in nats
#' @export
get_aggregated_posterior <- function(model, ...) UseMethod("get_aggregated_posterior")

#' @rdname get_aggregated_posterior
#' @export
get_aggregated_posterior.scelbo_model <- function(model, object = NULL, cells = NULL, dof = NULL, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  mixture <- ask(model, "get_aggregated_posterior", adata = about$adata, indices = at, dof = dof, ...)
  numbers <- function(tensor) tensor$detach()$cpu()$numpy()
  parts <- mixture$component_distribution$base_dist
  location <- by_latent(model, numbers(parts$loc), chosen(about$cells, at))
  scale <- by_latent(model, numbers(parts$scale), chosen(about$cells, at))
  list(mean = name_latents(model, numbers(mixture$mean)), variance = name_latents(model, numbers(mixture$variance)),
       location = location, scale = scale, dof = dof, log_density = density_of(location, scale, dof))
}

# Apart, so that the function holds no Python object and is kept by saveRDS().
density_of <- function(location, scale, dof) {
  force(location)
  force(scale)
  force(dof)
  function(z) mixture_density(z, location, scale, dof)
}

# Log density of an even mixture at each row of `z`.
mixture_density <- function(z, location, scale, dof) {
  if (is.null(dim(z))) z <- matrix(z, 1)
  if (ncol(z) != ncol(location)) {
    abort_scelbo("argument", paste0("These places have ", ncol(z), " dimensions, the latent space has ", ncol(location), "."),
                 "Give a matrix of places x latent dimensions, as get_latent_representation() does.")
  }
  one <- if (is.null(dof)) function(u) stats::dnorm(u, log = TRUE) else function(u) stats::dt(u, dof, log = TRUE)
  normaliser <- rowSums(log(scale)) + log(nrow(location))
  place <- function(at) {
    each <- rowSums(one((rep(at, each = nrow(location)) - location) / scale)) - normaliser
    max(each) + log(sum(exp(each - max(each))))
  }
  setNames(apply(z, 1, place), rownames(z))
}
