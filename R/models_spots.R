#' Stereoscope: which cell types a spot holds
#'
#' A spot of a tissue holds cells of several types, whose counts add up. Dissociated cells of known types \eqn{z} tell how
#' each type expresses gene \eqn{g} (`stereoscope_reference()`); then how much of each type is in each spot \eqn{s} is
#' learnt from the spots (`stereoscope()`),
#' \deqn{x_{cg} \sim \mathrm{NB}(\ell_c w_{z(c) g}, o_g), \quad x_{sg} \sim \mathrm{NB}(\textstyle\sum_z v_{sz} \beta_g
#' w_{zg} + v_{s0} \epsilon_g, o_g)}{ x_cg ~ NB(l_c w_zg, o_g), x_sg ~ NB(sum_z v_sz beta_g w_zg + v_s0 epsilon_g, o_g)}
#' with mean \eqn{r e^o} of \eqn{\mathrm{NB}(r, o)}{NB(r, o)}, \eqn{\beta_g}{beta_g}: how much better spots count a gene than
#' cells do, and \eqn{\epsilon}{epsilon}: what no type explains. The share of a type is \eqn{v_{sz} / \sum_k v_{sk}}{v_sz /
#' sum_k v_sk}, see [get_proportions()].
#'
#' The arguments after `features` are the models' hyper-parameters, with the same names and defaults as in Python. Genes
#' that the spots or the reference lack are left out; a message counts them, and [get_genes()] lists them.
#'
#' @inheritParams scvi
#' @param object Of `stereoscope_reference()` dissociated cells, of `stereoscope()` spots: a Seurat object, a
#'   SingleCellExperiment or SpatialExperiment, a matrix of genes x cells, an AnnData or the path of an h5ad file.
#' @param labels Column with the cells' types; needed.
#' @param batch Column of the batch. Each batch of spots (a slide) has a \eqn{\beta}{beta} of its own.
#' @param features Names of the genes to read. `NULL`: of cells the variable features of `object`, else all; of spots all
#'   that the reference has.
#' @param smoothed_layer Counts of each spot summed (or averaged) over its neighbours, without itself: the name of a layer of the
#'   object beside `layer`, or of an assay (`altExp`) of its own. Shares are then drawn to those around a spot, as far as the
#'   spots say that neighbours are alike. `NULL`: each spot is by itself.
#' @param start Training starts at the cells' mean profiles, at the best amounts of each spot (`"data"`), or at random
#'   values (`"random"`, as published).
#' @inherit scvi return
#' @section Errors: As in [scvi()]; `scelbo_argument_error` where `reference` is no such model, `scelbo_training_error` where it
#'   was not trained, `scelbo_data_error` where it shares no gene with the spots.
#' @references Andersson et al. (2020), Single-cell and spatial transcriptomics enables probabilistic inference of cell type
#'   topography. \doi{10.1038/s42003-020-01247-y}
#' @seealso [RunStereoscope()] and [runStereoscope()], which go from object to object in one step; [spots] for what to ask,
#'   [plot_proportions()]; [destvi()], which also tells states within types.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' simulated <- simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)
#' reference <- stereoscope_reference(simulated$cells, labels = "cell_type") |> train(max_epochs = 2, verbose = FALSE)
#' model <- stereoscope(simulated$spots, reference, augmentation = FALSE) |> train(max_epochs = 2, verbose = FALSE)
#' head(get_proportions(model), 3)
#' spots <- write_back(model, simulated$spots)
#' @export
stereoscope_reference <- function(object, labels = NULL, batch = NULL, assay = NULL, layer = "counts", features = NULL,
                                  allow_non_counts = FALSE, start = "data", ...) {
  new_model("RNAStereoscope", arguments_in(environment(), ...))
}

#' @rdname stereoscope_reference
#' @param reference The trained model of the cells: of `stereoscope_reference()`. Or the name of the folder of one, or an
#'   object that holds one (see [get_model()]).
#' @param prior_weight How often the prior of \eqn{\epsilon}{epsilon} counts: once for all spots (`"n_obs"`), or in each
#'   minibatch (`"minibatch"`).
#' @param augmentation Whether mixtures of the reference's cells teach networks to read shares off counts, which are then
#'   trusted as far as they are right of held-out cells. `FALSE`: the optimum of the model alone, as published.
#' @param cells_per_spot How many cells a spot has, about: mixtures of so many of the reference's cells teach that, and tell how
#'   far the intervals of [estimate_proportions()] must reach.
#' @param verbose Say how many genes are shared, and show how the mixtures get on.
#' @export
stereoscope <- function(object, reference, batch = NULL, assay = NULL, layer = "counts", features = NULL,
                        allow_non_counts = FALSE, prior_weight = "n_obs", augmentation = TRUE, cells_per_spot = 8,
                        start = "data", smoothed_layer = NULL, verbose = TRUE, ...) {
  check_two(missing(reference), "stereoscope")
  new_of_reference("SpatialStereoscope", arguments_in(environment(), ...))
}

#' DestVI: cell types in spots, and the states of their cells
#'
#' Cells of one type differ: by activation, by place. From dissociated cells `condscvi()` learns which states \eqn{\gamma}{gamma}
#' the cells of each type are in; `destvi()` finds for each spot \eqn{s} how much of each type \eqn{z} it holds, as
#' [stereoscope()] does, and in which state,
#' \deqn{x_{ng} \sim \mathrm{NB}(\ell_n f_g(c_n, \gamma_n, b_n), o_g), \quad x_{sg} \sim \mathrm{NB}(\beta_g \textstyle\sum_z
#' v_{sz} f_g(z, \gamma_{sz}) + v_{s0} \epsilon_g, o_g)}{ x_ng ~ NB(l_n f_g(c_n, gamma_n, b_n), o_g), x_sg ~ NB(beta_g sum_z
#' v_sz f_g(z, gamma_sz) + v_s0 epsilon_g, o_g)}
#' with \eqn{\gamma_{sz}}{gamma_sz} from the states that cells of this type were seen in ([get_vamp_prior()]).
#'
#' The arguments after `features` are the models' hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams stereoscope_reference
#' @param object Of `condscvi()` dissociated cells, of `destvi()` spots: as in [stereoscope()].
#' @param reference The trained model of the cells, with them: of `condscvi()`. Or an object that holds one (see
#'   [get_model()]).
#' @param fine_labels Column with finer labels that some cells have, each of cells of one type: [predict()][labels] then tells
#'   those of other cells, and [get_fine_celltypes()] those of what is in spots.
#' @param unlabeled The value of `fine_labels` that stands for unknown; `NULL`: `"unlabeled"`. (`NA` stands for it too.)
#' @param size_factor,n_hidden,n_layers,encode_covariates,log_variational As in [scvi()].
#' @param n_latent Dimensions of \eqn{\gamma}{gamma}.
#' @param gene_likelihood `"additive"`, above; or `"nb"`, as in scvi-tools: of no use to `destvi()`, as such counts do not add
#'   up.
#' @param prior Of \eqn{\gamma}{gamma}: `"normal"`, or `"mog"`, for each type a mixture of normals, which is learnt.
#' @param num_classes_mog Components of such a mixture.
#' @param weight_obs Whether all types count alike, however many cells they have.
#' @param dropout_rate,dropout_amortization Share of hidden units dropped at random while training.
#' @param amortization What a network reads off the counts: `"latent"` (\eqn{\gamma}{gamma}), `"proportion"` (\eqn{v}), `"both"`
#'   or `"none"`. Without amortised \eqn{\gamma}{gamma} other spots than the model's own have none.
#' @param vamp_prior_p Components of a type's prior of \eqn{\gamma}{gamma}, at most.
#' @param prior_mode The prior of \eqn{\gamma}{gamma}: `"mog"`, the mixture of [get_vamp_prior()], or `"normal"`, \eqn{N(0, I)}{N(0, I)}.
#' @param n_states_per_label How many states a type may have in one spot, each with an amount. Its share is that of all of them,
#'   and what is asked of its state their mean.
#' @param variance_penalty Times the variance of \eqn{\log \beta}{log beta} over genes.
#' @param l1_penalty Times the amounts \eqn{v} over the spot's total: more of it leaves fewer types in a spot.
#' @param n_latent_amortization Dimensions that the amortising networks pass through in their middle; `NULL`: no such
#'   bottleneck.
#' @inherit scvi return
#' @section Errors: As in [stereoscope()]; `scelbo_setup_error` where the reference came back from a file without its cells.
#' @references Lopez et al. (2022), DestVI identifies continuums of cell types in spatial transcriptomics data.
#'   \doi{10.1038/s41587-022-01272-8}
#' @seealso [RunDestVI()] and [runDestVI()], which go from object to object in one step; [spots] for what to ask,
#'   [plot_proportions()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' simulated <- simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)
#' reference <- condscvi(simulated$cells, labels = "cell_type") |> train(max_epochs = 2, verbose = FALSE)
#' model <- destvi(simulated$spots, reference, augmentation = FALSE) |> train(max_epochs = 2, verbose = FALSE)
#' head(get_proportions(model), 3)
#' get_scale_for_ct(model, "type0", features = c("gene1", "gene2"))[, 1:3]
#' @export
condscvi <- function(object, labels = NULL, fine_labels = NULL, unlabeled = NULL, batch = NULL, size_factor = NULL,
                     assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE, n_hidden = 128, n_latent = 5, n_layers = 2,
                     gene_likelihood = "additive", weight_obs = FALSE, dropout_rate = 0.05, encode_covariates = FALSE,
                     log_variational = TRUE, prior = "normal", num_classes_mog = 10, ...) {
  new_model("CondSCVI", arguments_in(environment(), ...))
}

#' @rdname condscvi
#' @export
destvi <- function(object, reference, batch = NULL, assay = NULL, layer = "counts", features = NULL,
                   allow_non_counts = FALSE, amortization = "latent", dropout_amortization = 0.03, vamp_prior_p = 15,
                   prior_mode = "mog", n_states_per_label = 1, variance_penalty = 5, l1_penalty = 0,
                   prior_weight = "n_obs", augmentation = TRUE, cells_per_spot = 8, start = "data", n_latent_amortization = NULL,
                   smoothed_layer = NULL, verbose = TRUE, ...) {
  check_two(missing(reference), "destvi")
  new_of_reference("DestVI", arguments_in(environment(), ...))
}

# What a model of spots is made of: the constructor, and the class that it makes.
references <- c(SpatialStereoscope = "stereoscope_reference", DestVI = "condscvi")

check_two <- function(lacks, name, call = caller_env()) {
  if (!lacks) return(invisible())
  of <- references[[constructors[[name]]]]
  abort_scelbo("argument", paste0(name, "() is made of a trained model of dissociated cells: `reference` is missing."),
               paste0("Make it first: reference <- ", of, "(cells, labels = ...) |> train(); ", name, "(spots, reference)."),
               call = call)
}

# A model of spots, of the genes that they share with the reference.
new_of_reference <- function(class, arguments, call = caller_env()) {
  reference <- trained_reference(class, arguments$reference, call)
  data <- read_arguments(class, arguments[setdiff(names(arguments), c("reference", "verbose"))], call,
                         whole = is.null(arguments$features))
  progress <- listen_to_progress(arguments$verbose)
  on.exit(progress$close(), add = TRUE)
  python <- ask_class(class, "from_rna_model", st_adata = data$adata, sc_model = reference$python,
                      anndata_setup_kwargs = as_dict(data$keys), !!!data$fields)
  progress$conclude()
  model <- handle_of(python, class, data)
  model$recipe$features <- model$features # what other spots must have
  model$recipe$whole <- FALSE
  model
}

# The model that `reference` is or holds.
trained_reference <- function(class, reference, call = caller_env()) {
  constructor <- references[[class]]
  wanted <- constructors[[constructor]]
  hint <- paste0("Give ", constructor, "(cells, labels = ...) |> train().")
  is_model <- inherits(reference, "scelbo_model")
  is_path <- is.character(reference) && length(reference) == 1
  model <- if (is_model) reference else if (is_path && dir.exists(reference)) load_model(reference) else
    if (!is_path) model_of_class(reference, wanted)
  if (is.null(model) || model$class != wanted) {
    is <- if (is.null(model)) paste("of class", class(reference)[[1]], "and holds no such model") else
      paste("a model of class", model$class)
    abort_scelbo("argument", paste0("`reference` is ", is, "; ", class, " is made of ", wanted, "."), hint, call = call)
  }
  python_model(model, call)
  if (!is_model && !is_path) model <- give_cells(model, reference)
  if (!model$has_data && class == "DestVI") {
    abort_scelbo("setup", "The reference came back from a file without its cells, whose states DestVI needs.",
                 "Give it them: load_model(folder, object = cells); or the object that holds both.", call = call)
  }
  if (!model$has_data) {
    warn_scelbo("data", c("Without its cells the reference cannot say how far intervals of proportions must reach.",
                          i = "Give it them: load_model(folder, object = cells); or the object that holds both."))
  }
  model
}
