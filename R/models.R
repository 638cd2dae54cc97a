# Each is named after its Python class, in lower case; but for Stereoscope, where two words say more.
constructors <- c(
  scvi = "SCVI", peakvi = "PEAKVI", linearscvi = "LinearSCVI", scanvi = "SCANVI", autozi = "AUTOZI",
  amortizedlda = "AmortizedLDA", cellassign = "CellAssign", solo = "SOLO", totalvi = "TOTALVI",
  multivi = "MULTIVI", gimvi = "GIMVI", stereoscope_reference = "RNAStereoscope", stereoscope = "SpatialStereoscope",
  condscvi = "CondSCVI", destvi = "DestVI"
)
made_of_model <- c("solo", "stereoscope", "destvi") # a trained one
made_of_cells <- setdiff(names(constructors), c(made_of_model, "gimvi")) # that is of two data sets

#' Single-cell variational inference (scVI)
#'
#' A variational autoencoder of counts: each cell has a low-dimensional state \eqn{z}, from which, together with its
#' batch and other covariates \eqn{s}, a neural network draws the expected frequency of every gene,
#' \deqn{z_n \sim N(0, I), \quad \rho_n = f(z_n, s_n), \quad x_{ng} \sim \mathrm{ZINB}(\ell_n \rho_{ng}, \theta_g,
#' \pi_{ng})}{ z ~ N(0, I), rho = f(z, s), x ~ ZINB(l rho, theta, pi)}
#' with \eqn{\ell_n}{l} the cell's library size. What \eqn{s} explains, \eqn{z} need not: batches are integrated.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @param object A Seurat object, a SingleCellExperiment, a matrix of genes x cells, an AnnData or the path of an h5ad
#'   file. It is not changed (an AnnData gains `uns["scelbo"]`).
#' @param batch Column of the cells' metadata with the batch to correct for. Or a formula, `~ batch + donor +
#'   percent.mt`: its first categorical column is the batch, the other factors, texts and logicals are `categorical`,
#'   numbers are `continuous`.
#' @param labels Column with known cell types or groups, for dispersions that depend on them.
#' @param categorical,continuous Columns with further covariates whose effect to take out.
#' @param size_factor Column with size factors, which then stand in for the library size.
#' @param assay,layer Where the counts are: see [as_anndata()]. An AnnData's layer of that name is used where there is
#'   one, else its `X`.
#' @param features Names of the features to model. `NULL`: the object's variable features where it has any, else all.
#' @param allow_non_counts Accept values that are not whole numbers (with a warning) instead of refusing them.
#' @param n_hidden,n_layers Width and number of the networks' hidden layers.
#' @param n_latent Dimensions of \eqn{z}.
#' @param dropout_rate Share of hidden units dropped at random while training.
#' @param dispersion What the inverse dispersion \eqn{\theta} depends on: `"gene"`, `"gene-batch"`, `"gene-label"` or
#'   `"gene-cell"`.
#' @param gene_likelihood `"zinb"`, `"nb"`, `"poisson"` or `"normal"`.
#' @param use_observed_lib_size Take \eqn{\ell_n} from the data (`TRUE`) or infer it.
#' @param latent_distribution `"normal"`, or `"ln"`: \eqn{z} on the simplex.
#' @param log_variational Feed the encoder `log(1 + x)`.
#' @param encode_covariates Show the covariates to the encoder too.
#' @param deeply_inject_covariates Show the covariates to every hidden layer, not the first alone.
#' @param use_batch_norm,use_layer_norm `"encoder"`, `"decoder"`, `"both"` or `"none"`.
#' @param batch_representation,batch_embedding_dim Batches as `"one-hot"` codes, or as an `"embedding"`: learnt vectors
#'   of this length.
#' @param var_activation Makes the encoder's variance positive: `"exp"` or `"softplus"`.
#' @param activation Activation of the hidden layers, such as `"relu"`.
#' @param ... Nothing: a misspelt argument is answered with the nearest.
#' @return A `scelbo_model`, to be trained by [train()]. It is a handle: functions that change it change it in place.
#' @section Errors: `scelbo_setup_error` where a column is not there (with the nearest match), `scelbo_data_error` where
#'   the values are no counts (with all problems at once), `scelbo_argument_error` where a hyper-parameter is not
#'   allowed.
#' @references Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics.
#'   \doi{10.1038/s41592-018-0229-2}
#' @seealso [RunSCVI()] and [runSCVI()], which go from object to object in one step.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- scvi(so, batch = "batch", n_latent = 5) |> train(max_epochs = 2, verbose = FALSE)
#' model
#' so <- write_back(model, so)
#' so[["scvi"]]
#' @export
scvi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                 assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                 n_hidden = 128, n_latent = 10, n_layers = 1, dropout_rate = 0.1, dispersion = "gene",
                 gene_likelihood = "zinb", use_observed_lib_size = TRUE, latent_distribution = "normal",
                 log_variational = TRUE, encode_covariates = FALSE, deeply_inject_covariates = TRUE,
                 use_batch_norm = "both", use_layer_norm = "none", batch_representation = "one-hot",
                 batch_embedding_dim = 5, var_activation = "exp", activation = "relu", ...) {
  new_model("SCVI", arguments_in(environment(), ...))
}

#' PeakVI: open chromatin of single cells
#'
#' A variational autoencoder of accessibility (ATAC). Whether a region \eqn{j} is seen in a cell \eqn{n} is the product of
#' how often it is open in cells like this one, of how much of what is open was seen in the cell, and of how readily the
#' region is seen,
#' \deqn{z_n \sim N(0, I), \quad y_n = \sigma(g(z_n, s_n)), \quad \ell_n = \sigma(f(x_n)), \quad [x_{nj} > 0] \sim
#' \mathrm{Bernoulli}(y_{nj} \ell_n r_j)}{ z ~ N(0, I), y = sigmoid g(z, s), l = sigmoid f(x), [x > 0] ~ Bernoulli(y l r)}
#' Depth goes into \eqn{\ell}{l}, and what the batch and other covariates \eqn{s} explain is taken out of \eqn{z}.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#' [train()] has defaults of this model's own: 500 epochs, which end early once held-out cells gain no more.
#'
#' @inheritParams scvi
#' @param object As in [scvi()]. Counts of fragments or of reads: only whether there are any is explained.
#' @param labels Column with known cell types or groups.
#' @param n_hidden Width of the hidden layers; `NULL`: the square root of the number of regions.
#' @param n_latent Dimensions of \eqn{z}; `NULL`: the square root of `n_hidden`.
#' @param n_layers_encoder,n_layers_decoder Numbers of hidden layers.
#' @param model_depth Whether cells have factors \eqn{\ell}{l} (else 1).
#' @param region_factors Whether regions have factors \eqn{r} (else 1).
#' @inherit scvi return
#' @inheritSection scvi Errors
#' @references Ashuach et al. (2022), PeakVI: A deep generative model for single-cell chromatin accessibility analysis.
#'   \doi{10.1016/j.crmeth.2022.100182}
#' @seealso [RunPEAKVI()] and [runPEAKVI()], which go from object to object in one step; [accessibility];
#'   [read_10x_atac()], [reads_to_fragments()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("multiome", n_cells = 100, n_genes = 50, n_regions = 60)
#' model <- peakvi(so, batch = "batch", assay = "peaks") |> train(max_epochs = 2, verbose = FALSE)
#' so <- write_back(model, so)
#' @export
peakvi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, assay = NULL,
                   layer = "counts", features = NULL, allow_non_counts = FALSE,
                   n_hidden = NULL, n_latent = NULL, n_layers_encoder = 2, n_layers_decoder = 2, dropout_rate = 0.1,
                   model_depth = TRUE, region_factors = TRUE, use_batch_norm = "none", use_layer_norm = "both",
                   latent_distribution = "normal", deeply_inject_covariates = FALSE, encode_covariates = FALSE, ...) {
  new_model("PEAKVI", arguments_in(environment(), ...))
}
