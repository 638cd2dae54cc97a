#' LDVAE: a latent space that can be read
#'
#' [scvi()] with a linear decoder: each latent dimension has a loading for every gene, as in a factor analysis, and counts
#' have their own distribution,
#' \deqn{z_n \sim N(0, I), \quad \rho_n = \mathrm{softmax}(\mathrm{BN}(W z_n + V s_n)), \quad x_{ng} \sim
#' \mathrm{NB}(\ell_n \rho_{ng}, \theta_g)}{ z ~ N(0, I), rho = softmax BN(W z + V s), x ~ NB(l rho, theta)}
#' with batch and other covariates \eqn{s}, and a batch normalisation BN that belongs to the map. [get_loadings()] gives
#' \eqn{W}, scaled as BN scales it.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams scvi
#' @param n_hidden,n_layers Width and number of the encoder's hidden layers.
#' @param dropout_rate Share of the encoder's hidden units dropped at random while training.
#' @param deeply_inject_covariates Show the covariates to every hidden layer of the encoder.
#' @param use_batch_norm,use_layer_norm Norms in the hidden layers: of `use_batch_norm` as in [scvi()], of `use_layer_norm`
#'   `"encoder"` or `"none"`.
#' @param bias Give the map a bias beside BN's.
#' @inherit scvi return
#' @inheritSection scvi Errors
#' @references Svensson et al. (2020), Interpretable factor models of single-cell RNA-seq via variational autoencoders.
#'   \doi{10.1093/bioinformatics/btaa169}
#' @seealso [RunLinearSCVI()] and [runLinearSCVI()], which go from object to object in one step; [get_loadings()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- linearscvi(so, batch = "batch", n_latent = 4) |> train(max_epochs = 2, verbose = FALSE)
#' head(sort(get_loadings(model)[, 1], decreasing = TRUE))
#' @export
linearscvi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                       assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                       n_hidden = 128, n_latent = 10, n_layers = 1, dropout_rate = 0.1, dispersion = "gene",
                       gene_likelihood = "nb", use_observed_lib_size = FALSE, latent_distribution = "normal",
                       log_variational = TRUE, encode_covariates = FALSE, deeply_inject_covariates = TRUE,
                       use_batch_norm = "both", use_layer_norm = "none", batch_representation = "one-hot",
                       batch_embedding_dim = 5, var_activation = "exp", activation = "relu", bias = FALSE, ...) {
  new_model("LinearSCVI", arguments_in(environment(), ...))
}

#' AutoZI: which genes are zero-inflated
#'
#' [scvi()] that decides of each gene whether its counts have more zeros than a negative binomial explains,
#' \deqn{\delta_g \sim \mathrm{Beta}(\alpha, \beta), \quad x_{ng} \sim \delta_g\, \mathrm{NB}(\ell_n \rho_{ng}, \theta_g)
#' + (1 - \delta_g)\, \mathrm{ZINB}(\ell_n \rho_{ng}, \theta_g, \pi_{ng})}{ delta ~ Beta(alpha, beta), x ~ delta NB(l rho,
#' theta) + (1 - delta) ZINB(l rho, theta, pi)}
#' with a floor under \eqn{\pi}{pi}, without which a ZINB could be an NB. [get_zero_inflation()] gives the probability that
#' \eqn{\delta_g < 1/2}{delta < 1/2}.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams scvi
#' @param gene_likelihood `"zinb"`: with \eqn{\delta}{delta} the mixture above.
#' @param alpha_prior,beta_prior Of the prior Beta, each between 0 and 1; `NULL`: learnt, one for all genes.
#' @param minimal_dropout The floor under \eqn{\pi}{pi}, from 0 up to (not including) 1.
#' @param zero_inflation Whether a gene has one \eqn{\delta}{delta} (`"gene"`), or one in each batch (`"gene-batch"`) or
#'   label (`"gene-label"`).
#' @inherit scvi return
#' @inheritSection scvi Errors
#' @references Clivio et al. (2019), Detecting zero-inflated genes in single-cell transcriptomics data.
#'   \doi{10.1101/794875}
#' @seealso [RunAUTOZI()] and [runAUTOZI()], which go from object to object in one step; [get_zero_inflation()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- autozi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' head(subset(get_zero_inflation(model), mean > 1), 3)
#' @export
autozi <- function(object, batch = NULL, labels = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                   assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                   n_hidden = 128, n_latent = 10, n_layers = 1, dropout_rate = 0.1, dispersion = "gene",
                   gene_likelihood = "zinb", use_observed_lib_size = TRUE, latent_distribution = "normal",
                   log_variational = TRUE, encode_covariates = FALSE, deeply_inject_covariates = TRUE,
                   use_batch_norm = "both", use_layer_norm = "none", batch_representation = "one-hot",
                   batch_embedding_dim = 5, var_activation = "exp", activation = "relu", alpha_prior = 0.5,
                   beta_prior = 0.5, minimal_dropout = 0.01, zero_inflation = "gene", ...) {
  new_model("AUTOZI", arguments_in(environment(), ...))
}

#' Topics of cells and genes (LDA)
#'
#' Latent Dirichlet allocation, with an encoder in place of an inference for each cell. A topic \eqn{k} is how often each
#' gene is drawn, a cell is how much of it each topic makes up,
#' \deqn{\phi_k \sim \mathrm{Dirichlet}(\beta), \quad \theta_n \sim \mathrm{Dirichlet}(\alpha), \quad x_n \sim
#' \mathrm{Multinomial}(\ell_n, \theta_n \Phi)}{ phi ~ Dirichlet(beta), theta ~ Dirichlet(alpha), x ~ Multinomial(l, theta
#' Phi)}
#' (Both Dirichlets are taken as logistic normals.) Nothing is taken out for batches: they get topics like all else.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams scvi
#' @param n_topics Number of topics.
#' @param n_hidden,n_layers Width and number of the encoder's hidden layers.
#' @param cell_topic_prior \eqn{\alpha}{alpha}: one number, one for each topic, or `NULL` for `1 / n_topics`.
#' @param topic_feature_prior \eqn{\beta}{beta}: one number, one for each gene, or `NULL` for `1 / n_topics`.
#' @param dropout_rate Share of the encoder's hidden units dropped at random while training.
#' @param encoder_reads `"proportions"`: roots of each gene's share of the cell's counts; `"counts"`: the counts.
#' @inherit scvi return
#' @inheritSection scvi Errors
#' @references Blei et al. (2003), Latent Dirichlet allocation. J. Mach. Learn. Res. 3:993. Srivastava and Sutton (2017),
#'   Autoencoding variational inference for topic models. \doi{10.48550/arXiv.1703.01488}
#' @seealso [RunAmortizedLDA()] and [runAmortizedLDA()], which go from object to object in one step;
#'   [get_feature_by_topic()], [get_top_features()], [get_perplexity()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' model <- amortizedlda(so, n_topics = 4) |> train(max_epochs = 2, verbose = FALSE)
#' get_latent_representation(model)[1:3, ] # each cell's shares of topics
#' get_top_features(model, n = 2)
#' @export
amortizedlda <- function(object, assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                         n_topics = 20, n_hidden = 128, cell_topic_prior = NULL, topic_feature_prior = NULL,
                         n_layers = 2, dropout_rate = 0, encoder_reads = "proportions", ...) {
  new_model("AmortizedLDA", arguments_in(environment(), ...))
}
