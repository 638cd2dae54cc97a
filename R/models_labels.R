#' scANVI: labels for cells of unknown type
#'
#' [scvi()] with types \eqn{c}, which some cells have a label for: a classifier reads them off \eqn{z}, and the latent
#' space keeps types apart,
#' \deqn{c_n \sim \mathrm{Categorical}(\pi), \quad u_n \sim N(0, I), \quad z_n \sim N(m(u_n, c_n), v(u_n, c_n)), \quad
#' x_n \sim p(x \mid z_n, \ell_n, s_n)}{ c ~ Categorical(pi), u ~ N(0, I), z ~ N(m(u, c), v(u, c)), x ~ p(x | z, l, s)}
#' [annotate_cells()] says of each cell its label and how far to trust it.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#' `train(n_samples_per_label = 100)` shows in each epoch so many labelled cells of each type, so that rare types count.
#'
#' @inheritParams scvi
#' @param labels Column with the labels that are known; needed. Cells where it is `NA` have none.
#' @param unlabeled The value of `labels` that stands for unknown, such as `"unknown"`.
#' @param linear_classifier Whether the classifier is linear in \eqn{z}.
#' @param classifier_n_hidden,classifier_n_layers,classifier_dropout_rate Sizes of the classifier; `NULL`: those of the
#'   other networks.
#' @param labels_in_elbo Whether known labels are observations of the model (`TRUE`), or only teach the classifier.
#' @inherit scvi return
#' @inheritSection scvi Errors
#' @references Xu et al. (2021), Probabilistic harmonization and annotation of single-cell transcriptomics data with deep
#'   generative models. \doi{10.15252/msb.20209620}
#' @seealso [RunSCANVI()] and [runSCANVI()], which go from object to object in one step; [MapQuerySCANVI()] for new cells;
#'   [labels] for what to ask.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' so$known <- replace(as.character(so$cell_type), 1:30, "unknown")
#' model <- scanvi(so, labels = "known", batch = "batch", unlabeled = "unknown") |> train(max_epochs = 2, verbose = FALSE)
#' table(predict(model), so$cell_type)
#'
#' reference <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' model <- scanvi_from_scvi(reference, so, labels = "known", unlabeled = "unknown") |> train(max_epochs = 2, verbose = FALSE)
#' @export
scanvi <- function(object, labels = NULL, batch = NULL, unlabeled = NULL, categorical = NULL, continuous = NULL,
                   size_factor = NULL, assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                   n_hidden = 128, n_latent = 10, n_layers = 1, dropout_rate = 0.1, dispersion = "gene",
                   gene_likelihood = "zinb", use_observed_lib_size = TRUE, latent_distribution = "normal",
                   log_variational = TRUE, encode_covariates = FALSE, deeply_inject_covariates = TRUE,
                   use_batch_norm = "both", use_layer_norm = "none", batch_representation = "one-hot",
                   batch_embedding_dim = 5, var_activation = "exp", activation = "relu", linear_classifier = FALSE,
                   classifier_n_hidden = NULL, classifier_n_layers = NULL, classifier_dropout_rate = NULL,
                   labels_in_elbo = TRUE, ...) {
  new_model("SCANVI", arguments_in(environment(), ...))
}

#' @rdname scanvi
#' @param scvi_model A trained [scvi()] model to start from: its weights and hyper-parameters are taken over. By default
#'   [train()] then takes a third of its epochs, 2 to 10.
#' @param object In `scanvi_from_scvi()` the object with that model's cells and the column of labels. `NULL`: the
#'   labels are those that the model was made with.
#' @export
scanvi_from_scvi <- function(scvi_model, object = NULL, labels = NULL, unlabeled = NULL, linear_classifier = FALSE,
                             classifier_n_hidden = NULL, classifier_n_layers = NULL, classifier_dropout_rate = NULL,
                             labels_in_elbo = TRUE, ...) {
  arguments_in(environment(), ...)
  check_scvi(scvi_model)
  columns <- scvi_model$recipe$columns
  if (is.null(object) && !is.null(labels) && !labels %in% unlist(columns)) {
    abort_scelbo("setup", paste0("The cells that the model holds have no column '", labels, "'."),
                 "Give the object that has it: `object =`.")
  }
  columns$labels <- labels %||% columns$labels
  data <- data_of(scvi_model, object, columns)
  python <- ask_class(
    "SCANVI", "from_scvi_model", scvi_model = scvi_model$python, adata = data$adata,
    labels_key = columns$labels, unlabeled_category = unknown_label(list(unlabeled = unlabeled)),
    linear_classifier = linear_classifier, classifier_n_hidden = classifier_n_hidden,
    classifier_n_layers = classifier_n_layers, classifier_dropout_rate = classifier_dropout_rate,
    labels_in_elbo = labels_in_elbo
  )
  handle_of(python, "SCANVI", data)
}

check_scvi <- function(model, call = caller_env()) {
  if (inherits(model, "scelbo_scvi")) return(python_model(model, call))
  is <- if (inherits(model, "scelbo_model")) paste("a model of class", model$class) else paste("a", class(model)[[1]])
  abort_scelbo("argument", paste0("`scvi_model` is ", is, "."),
               "Give a trained scVI model: scvi(object, ...) |> train().", call = call)
}

# The cells of an object, read as the model's own were and with these columns; without an object the model's own.
data_of <- function(model, object, columns = model$recipe$columns, call = caller_env()) {
  recipe <- model$recipe
  recipe$columns <- columns
  if (!is.null(object)) {
    data <- read_like(model$python, object, recipe, call)
    data$recipe <- recipe
    return(data)
  }
  cells <- cells_asked(model, NULL, call)$cells
  list(adata = NULL, cells = cells, recipe = recipe, variable = model$variable)
}

#' CellAssign: types of cells from their marker genes
#'
#' Each cell is of one of the types that a table of markers lists. A marker is higher in the types that it marks, by at
#' least `min_log_fold_change`; how much higher, how common types are, and what batches do is learnt,
#' \deqn{\log \mu_{ngc} = \log s_n + b_g + \beta_g x_n + \delta_{gc}\, \rho_{gc}, \quad x_{ng} \mid c \sim
#' \mathrm{NB}(\mu_{ngc}, \phi(\mu_{ngc}))}{ log mu = log s + b + beta x + delta rho, x | c ~ NB(mu, phi(mu))}
#' with \eqn{\rho}{rho} the table, \eqn{s_n}{s} the cell's size factor and \eqn{x_n}{x} its batch and other covariates.
#'
#' The arguments after `features` are the model's hyper-parameters, with the same names and defaults as in Python.
#'
#' @inheritParams scvi
#' @param markers A matrix or data.frame of 0 and 1, genes x types, with their names; or a list of the genes of each type,
#'   `list(B = c("CD19", "MS4A1"), T = "CD3D", other = character())`. A type called `"other"` may have no markers: it
#'   takes the cells that show nobody's. A few markers that the object lacks are left out, with a warning.
#' @param features Names of the features whose counts make up a cell's library size. `NULL`: all.
#' @param min_log_fold_change By what natural log fold change a marker is higher at least.
#' @param n_basis How many functions of the mean make up the inverse dispersion \eqn{\phi}{phi}.
#' @inherit scvi return
#' @section Errors: `scelbo_argument_error` where the markers cannot be used (with all problems at once, and the nearest
#'   match of genes that are not there); else as in [scvi()].
#' @references Zhang et al. (2019), Probabilistic cell-type assignment of single-cell RNA-seq for tumor microenvironment
#'   profiling. \doi{10.1038/s41592-019-0529-1}
#' @seealso [RunCellAssign()] and [runCellAssign()], which go from object to object in one step; [labels] for what to ask.
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' markers <- list(A = c("gene1", "gene2"), B = c("gene3", "gene4"), other = character())
#' model <- cellassign(so, markers, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' table(predict(model))
#' get_marker_effects(model)
#' @export
cellassign <- function(object, markers = NULL, batch = NULL, categorical = NULL, continuous = NULL, size_factor = NULL,
                       assay = NULL, layer = "counts", features = NULL, allow_non_counts = FALSE,
                       min_log_fold_change = log(2), n_basis = 10, ...) {
  new_model("CellAssign", arguments_in(environment(), ...))
}

# A table or a list of markers for Python, which says what is amiss in it.
as_markers <- function(markers, call = caller_env()) {
  hint <- "Give a matrix of 0 and 1, genes x types with their names, or a list: list(B = c(\"CD19\", \"MS4A1\"), ...)."
  is_table <- length(dim(markers)) == 2
  names <- if (is_table) colnames(markers) else if (is.list(markers)) names(markers)
  if (is.null(names) || (is_table && is.null(rownames(markers)))) {
    abort_scelbo("argument", "`markers` is needed, with the names of genes and types.", hint, call = call)
  }
  if (anyDuplicated(names)) {
    abort_scelbo("argument", paste0("In `markers` a type is there twice: ", some_of(names[duplicated(names)]), "."),
                 hint, call = call)
  }
  if (is_table) {
    if (!is.data.frame(markers)) markers <- as.data.frame(as.matrix(markers), optional = TRUE)
    return(to_pandas(markers))
  }
  as_dict(lapply(markers, function(genes) as.list(as.character(genes))))
}

#' Solo: which cells are doublets
#'
#' Droplets that hold two cells are imitated by the sums of random pairs of cells of the same lane, and a network learns to
#' tell them from cells. What it reads of a cell, \eqn{u_n}, comes from the encoder of a trained [scvi()] model: by default
#' how many sums there are among the cell's neighbours,
#' \deqn{\mathrm{logit}\, p(\mathrm{doublet} \mid u_n) = \mathrm{logit}\, \pi + h(u_n) - \log r}{ logit p(doublet | u) =
#' logit pi + h(u) - log r}
#' with the lane's expected rate \eqn{\pi}{pi}, the network's log-odds \eqn{h}, and \eqn{r} sums a cell.
#'
#' @inheritParams scvi
#' @param scvi_model A trained [scvi()] model with whole counts. Its batches are the lanes: cells only pair up within
#'   theirs.
#' @param object Other cells than the model's own, of the same lanes; or its own, if it came back from a file without
#'   them.
#' @param restrict_to_batch Only the cells of this lane.
#' @param expected_doublet_rate Share of doublets: one number, or one for each lane, named. `NULL`: 0.8 % for each 1,000
#'   cells that the lane holds here. Give it where lanes were overloaded (hashing), or where cells were left out. (With
#'   `classifier_reads = "latent"` `NULL` takes all cells for singlets, so doublets count as common as sums are.)
#' @param doublet_ratio Sums for each cell.
#' @param seed Of the random pairs.
#' @param classifier_reads What the network reads: `"neighbours"`, the log-odds of sums among the cell's neighbours; or
#'   `"latent"`, \eqn{z} and the depth, as published and in scvi-tools (with `train(plan = "scvi-tools")`).
#' @param n_hidden,n_layers,dropout_rate The network's.
#' @inherit scvi return
#' @section Errors: `scelbo_argument_error` where the model is no scVI, or there is no such lane or rate;
#'   `scelbo_training_error` where it is not trained; `scelbo_data_error` where its data are no counts.
#' @references Bernstein et al. (2020), Solo: Doublet identification in single-cell RNA-seq via semi-supervised deep
#'   learning. \doi{10.1016/j.cels.2020.05.010}
#' @seealso [RunSOLO()] and [runSOLO()], which go from object to object in one step; [get_doublets()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells(n_cells = 100, n_genes = 50)
#' reference <- scvi(so, batch = "batch") |> train(max_epochs = 2, verbose = FALSE)
#' model <- solo(reference, expected_doublet_rate = c(batch0 = 0.08, batch1 = 0.05)) |> train(max_epochs = 2, verbose = FALSE)
#' subset(get_doublets(model), call)
#' @export
solo <- function(scvi_model, object = NULL, restrict_to_batch = NULL, expected_doublet_rate = NULL, doublet_ratio = 2,
                 seed = 0, classifier_reads = "neighbours", n_hidden = 128, n_layers = 1, dropout_rate = 0.1, ...) {
  arguments_in(environment(), ...)
  check_scvi(scvi_model)
  data <- data_of(scvi_model, object)
  rate <- expected_doublet_rate
  python <- ask_class(
    "SOLO", "from_scvi_model", scvi_model = scvi_model$python, adata = data$adata,
    restrict_to_batch = restrict_to_batch, expected_doublet_rate = if (is.null(names(rate))) rate else as_dict(rate),
    doublet_ratio = doublet_ratio, seed = seed, classifier_reads = classifier_reads, n_hidden = n_hidden,
    n_layers = n_layers, dropout_rate = dropout_rate
  )
  data$cells <- cells_held(python)
  handle_of(python, "SOLO", data)
}
