#' totalVI: RNA and surface proteins of the same cells
#'
#' [scvi()] with antibody counts \eqn{y} beside those of genes (CITE-seq). Each protein's count is background, or, in cells
#' that have it, more than that,
#' \deqn{z_n \sim N(0, I), \quad x_{ng} \sim \mathrm{NB}(\ell_n \rho_{ng}, \theta_g), \quad \beta_{np} \sim
#' \mathrm{LogNormal}(c_{pb}, d_{pb}), \quad y_{np} \sim \pi_{np} \mathrm{NB}(\beta_{np}, \phi_p) + (1 - \pi_{np})
#' \mathrm{NB}(\alpha_{np} \beta_{np}, \phi_p)}{ z ~ N(0, I), x ~ NB(l rho, theta), beta ~ LogNormal(c, d), y ~ pi NB(beta,
#' phi) + (1 - pi) NB(alpha beta, phi)}
#' with the background \eqn{\beta}{beta} of cells in batch (or panel) \eqn{b}, the foreground's factor
#' \eqn{\alpha > 1}{alpha > 1} and the probability of background \eqn{\pi}{pi}, which are decoded from \eqn{z} and the
#' covariates.
#'
#' A protein without a single count in a batch, or `NA` in all of its cells, was not measured there: it is left out of
#' the likelihood and imputed. (So cells without any proteins can come along, for instance after a `merge()`, with a batch
#' of their own.) A message says which these are.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams scvi
#' @param object A Seurat object with an assay of proteins, a SingleCellExperiment with proteins as an `altExp`, a
#'   MultiAssayExperiment, an AnnData with proteins in `obsm` (a data frame) or the path of an h5ad file.
#' @param protein_assay Where the proteins are: the name of Seurat's assay, of the `altExp`, of the MultiAssayExperiment's
#'   experiment, or of an AnnData's entry of `obsm`.
#' @param protein_layer In which of its layers (Seurat: layer or slot; Bioconductor: assay) their counts are.
#' @param panel Column that says by which panel of antibodies a cell was stained: the background's prior is each panel's.
#'   `NULL`: each batch's.
#' @param assay,layer Where the counts of genes are. `assay`: in a MultiAssayExperiment the experiment of genes (`NULL`: the first), in
#'   a Seurat object the assay of genes. `layer`: see [as_anndata()].
#' @param n_hidden,n_layers_encoder,n_layers_decoder Width and numbers of hidden layers.
#' @param dropout_rate_encoder,dropout_rate_decoder Share of hidden units dropped at random while training.
#' @param gene_dispersion,protein_dispersion What the inverse dispersions \eqn{\theta}{theta} and \eqn{\phi}{phi} depend on:
#'   `"gene"`, `"gene-batch"`, `"gene-label"` or `"gene-cell"`, and `"protein"`, `"protein-batch"` or `"protein-label"`.
#' @param gene_likelihood `"nb"`, `"zinb"` or `"poisson"`.
#' @param empirical_protein_background_prior Whether the background's prior starts from mixtures fitted to cells; `NULL`:
#'   with more than 10 proteins.
#' @param override_missing_proteins Take proteins without counts in a batch for measured: absent from all its cells.
#' @param protein_efficiency Whether each batch may stain each protein more or less than others do.
#' @param adversarial_classifier Whether an adversary guesses batches from \eqn{z}; `NULL`: where proteins are missing in
#'   some batch.
#' @param log_variational Feed the encoder `log(1 + x / (1 + mean of the cell))`, of genes and of proteins.
#' @param encoder_reads `"relative"`: as above; `"counts"`: `log(1 + x)` itself, as scvi-tools had it before 1.3.1.
#' @param background_activation What makes the standard deviation of the proteins' log background positive: `"softplus"`, or `"exp"` (as
#'   scvi-tools has it in MultiVI, and in totalVI before 1.2).
#' @param use_observed_lib_size Take the library size of RNA from the data (`TRUE`) or infer it.
#' @inherit scvi return
#' @section Errors: As in [scvi()]; `scelbo_setup_error` where the assay of proteins is not there (with the nearest match);
#'   `scelbo_data_error` where its values are no counts (with the layer that holds them, if there is one), or a protein
#'   is missing in a part of a batch.
#' @references Gayoso et al. (2021), Joint probabilistic modeling of single-cell multi-omic data with totalVI.
#'   \doi{10.1038/s41592-020-01050-x}
#' @seealso [RunTOTALVI()] and [runTOTALVI()], which go from object to object in one step; [proteins] for what to ask;
#'   [MapQueryTOTALVI()] for cells with RNA only.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("cite", n_cells = 100, n_genes = 50)
#' model <- totalvi(so, batch = "batch", protein_assay = "protein_expression", n_latent = 5) |> train(max_epochs = 2, verbose = FALSE)
#' so <- write_back(model, so)
#' so[["totalvi_protein"]]
#' @export
totalvi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                    panel = NULL, assay = NULL, layer = "counts", protein_assay = "ADT", protein_layer = "counts",
                    features = NULL, n_latent = 20, n_hidden = 128, n_layers_encoder = 2, n_layers_decoder = 1,
                    dropout_rate_encoder = 0.2, dropout_rate_decoder = 0.2, gene_dispersion = "gene",
                    protein_dispersion = "protein", gene_likelihood = "nb", latent_distribution = "normal",
                    empirical_protein_background_prior = NULL, override_missing_proteins = FALSE,
                    protein_efficiency = FALSE, adversarial_classifier = NULL,
                    use_observed_lib_size = TRUE, log_variational = TRUE, encoder_reads = "relative",
                    background_activation = "softplus", encode_covariates = TRUE,
                    deeply_inject_covariates = TRUE, use_batch_norm = "both", use_layer_norm = "none", ...) {
  new_model("TOTALVI", arguments_in(environment(), ...))
}

#' MultiVI: RNA, open chromatin and proteins of cells that need not have them all
#'
#' [scvi()] and [peakvi()] with one latent space, and the proteins of [totalvi()] where there are some. Each modality has an
#' encoder; a cell's \eqn{z} is the weighted mean of what those of its modalities say,
#' \deqn{q(z \mid x) = N(\sum_m w_m \mu_m, \sum_m w_m^2 v_m)}{ q(z | x) = N(sum w mu, sum w^2 v)}
#' and the encoders of one cell are kept together, so that what a cell lacks is imputed from what it has.
#'
#' Cells that lack a modality have zeros there, or are not in that assay at all. Give experiments with different
#' modalities batches of their own.
#'
#' The arguments after `regions` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams totalvi
#' @param object A Seurat object with an assay of peaks, a SingleCellExperiment with peaks as an `altExp` (as
#'   [read_10x_multiome()] gives them), a MultiAssayExperiment, an AnnData with both side by side (`var["feature_types"]`
#'   says `"Gene Expression"` or `"Peaks"`) or the path of an h5ad file.
#' @param peak_assay,peak_layer Where the peaks are: as `protein_assay` and `protein_layer`. (Of an AnnData not used.)
#' @param protein_assay The same of proteins; `NULL`: there are none.
#' @param regions Names of the peaks to model. `NULL`: the variable features of their assay where it has any, else all.
#' @param modality_weights What each modality counts for a cell's position: `"equal"`, `"universal"` (learnt, one for all
#'   cells) or `"cell"` (read from what its modalities say).
#' @param modality_penalty What keeps the modalities of a cell together: `"Jeffreys"` (the divergence between their
#'   posteriors), `"MMD"` (the distance of their means) or `"None"`.
#' @param hide_modalities Share of the cells that training places by one of their modalities alone, and explains in all
#'   that they have: so modalities learn to speak for each other.
#' @param n_hidden,n_layers_encoder,n_layers_decoder Width and numbers of hidden layers.
#' @param n_latent Dimensions of \eqn{z}; `NULL`: the square root of `n_hidden`.
#' @param dropout_rate Share of the encoders' hidden units dropped at random while training.
#' @param region_factors Whether regions have factors \eqn{r} (else 1).
#' @param dispersion,protein_dispersion As [totalvi()]'s `gene_dispersion` and `protein_dispersion`.
#' @param gene_likelihood `"zinb"`, `"nb"` or `"poisson"`.
#' @param fully_paired Say that all cells have all modalities: then no adversary is made.
#' @param adversarial_mixing Whether an adversary keeps \eqn{z} from telling which modalities a cell has.
#' @param log_variational Feed the encoders `log(1 + x)`.
#' @param mixing How posteriors are mixed: `"published"`, as above, or `"scvi-tools"`, with wider variances.
#' @inherit scvi return
#' @inheritSection totalvi Errors
#' @references Ashuach et al. (2023), MultiVI: deep generative model for the integration of multimodal data.
#'   \doi{10.1038/s41592-023-01909-9}
#' @seealso [RunMULTIVI()] and [runMULTIVI()], which go from object to object in one step; [accessibility], [proteins] and
#'   [questions] for what to ask.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("multiome", n_cells = 100, n_genes = 50, n_regions = 60, lacking = 0.2)
#' model <- multivi(so, batch = "batch", n_latent = 5) |> train(max_epochs = 2, verbose = FALSE)
#' by_rna <- get_latent_representation(model, modality = "expression") # by the RNA alone
#' get_normalized_accessibility(model, regions = "region3", cells = 1:4) # also of cells with RNA only
#' @export
multivi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                    assay = NULL, layer = "counts", peak_assay = "peaks", peak_layer = "counts", protein_assay = NULL,
                    protein_layer = "counts", features = NULL, regions = NULL, modality_weights = "equal",
                    modality_penalty = "Jeffreys", hide_modalities = 0.5, n_hidden = 128, n_latent = NULL,
                    n_layers_encoder = 2, n_layers_decoder = 2, dropout_rate = 0.1, region_factors = TRUE,
                    gene_likelihood = "zinb", dispersion = "gene", protein_dispersion = "protein", use_batch_norm = "none",
                    use_layer_norm = "both", latent_distribution = "normal", deeply_inject_covariates = FALSE,
                    encode_covariates = FALSE, fully_paired = FALSE, adversarial_mixing = TRUE,
                    use_observed_lib_size = TRUE, log_variational = TRUE, mixing = "published",
                    background_activation = "softplus", ...) {
  new_model("MULTIVI", arguments_in(environment(), ...))
}
