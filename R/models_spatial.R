#' gimVI: unmeasured genes of spatial data
#'
#' Spatial data with a panel of some genes, and dissociated cells of the same tissue with all of them, in one latent space:
#' what the panel leaves out is imputed for each spatial cell,
#' \deqn{z_n \sim N(0, I), \quad \rho_{ng} = e^{h_{ng}} / \sum_{k \in G_d} e^{h_{nk}}, \quad h_n = f(z_n) + b_{s_n}, \quad
#' x_{ng} \sim p_d(\ell_n \rho_{ng}, \theta_g, \pi_{ng})}{ z ~ N(0, I), rho = softmax of h over the genes G_d, h = f(z) + b, x
#' ~ p_d(l rho, theta, pi)}
#' with the genes \eqn{G_d} that data set \eqn{d} measured, and \eqn{p_d} a ZINB of dissociated, an NB of spatial cells. An
#' adversary keeps \eqn{z} from telling which data set a cell is from.
#'
#' The arguments after `spatial_layer` are the model's hyper-parameters, with the same names and defaults as in Python; of
#' those that are pairs, the first is the dissociated cells', the second the spatial ones'. The model's own cells are both,
#' dissociated ones first; cells that are given as `object =` may be of either kind.
#'
#' @inheritParams scvi
#' @param object Dissociated cells: a Seurat object, a SingleCellExperiment, a matrix of genes x cells, an AnnData or the
#'   path of an h5ad file.
#' @param spatial Spatial cells: the same.
#' @param batch,labels Columns of the dissociated cells. (Batches of one name in both data sets are two.)
#' @param features Names of the genes to model. `NULL`: the variable features of `object`, and the panel; else all.
#' @param spatial_features The panel. `NULL`: all features of `spatial`.
#' @param spatial_batch,spatial_labels Columns of the spatial cells.
#' @param spatial_assay,spatial_layer Where the spatial counts are.
#' @param generative_distributions Of the counts of either, `"zinb"`, `"nb"` or `"poisson"`.
#' @param model_library_size Of either, whether the library size is latent (else the cell's total).
#' @param n_hidden Width of the hidden layers.
#' @param n_layers_encoder,n_layers_shared Hidden layers of each data set's own encoder, and of both.
#' @param n_layers_decoder Hidden layers of the decoder; `NULL`: \eqn{f} is linear.
#' @param batch_factors Whether each batch counts each gene with an efficiency of its own.
#' @param panel_view Whether dissociated cells are also trained as the panel shows them.
#' @param encoder_reads `"shares"`: counts over the cell's mean; or `"counts"`.
#' @param dispersion What the inverse dispersion \eqn{\theta} depends on: `"gene"`, `"gene-batch"` or `"gene-label"`.
#' @inherit scvi return
#' @section Errors: As in [scvi()]; `scelbo_data_error` where the panel has genes that the dissociated cells lack, with the
#'   nearest match.
#' @references Lopez et al. (2019), A joint model of unpaired data from scRNA-seq and spatial transcriptomics for imputing
#'   missing gene expression measurements. \doi{10.48550/arXiv.1905.02269}
#' @seealso [RunGIMVI()] and [runGIMVI()], which go from object to object in one step; [impute()].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' reference <- simulate_cells(n_cells = 100, n_genes = 50)
#' spatial <- simulate_cells(n_cells = 60, n_genes = 50, seed = 1)[paste0("gene", 1:30), ]
#' model <- gimvi(reference, spatial) |> train(max_epochs = 2, verbose = FALSE)
#' spatial <- write_back(model, spatial, features = c("gene40", "gene45"))
#' spatial[["gimvi_imputed"]]
#' @export
gimvi <- function(object, spatial, batch = NULL, labels = NULL, assay = NULL, layer = "counts", features = NULL,
                  spatial_features = NULL, spatial_batch = NULL, spatial_labels = NULL, spatial_assay = NULL,
                  spatial_layer = "counts", generative_distributions = c("zinb", "nb"),
                  model_library_size = c(TRUE, FALSE), n_latent = 10, n_hidden = 64, n_layers_encoder = 1,
                  n_layers_shared = 1, n_layers_decoder = NULL, batch_factors = TRUE, panel_view = TRUE,
                  encoder_reads = "shares", dropout_rate = 0.2, dispersion = "gene-batch", ...) {
  if (missing(spatial)) {
    abort_scelbo("argument", "gimvi() reads two data sets: `spatial` is missing.",
                 "Give dissociated and spatial cells: gimvi(reference, spatial).")
  }
  new_pair("GIMVI", arguments_in(environment(), ...))
}

# A model of two data sets, of which the second measured some of the first's features.
new_pair <- function(class, arguments, call = caller_env()) {
  own <- startsWith(names(arguments), "spatial")
  of_second <- setNames(arguments[own], sub("^spatial_?", "", names(arguments)[own]))
  names(of_second)[names(of_second) == ""] <- "object"
  second <- read_arguments(class, of_second, call)
  panel <- second$recipe$features
  if (is.null(arguments$features) && inherits(arguments$object, "Seurat")) {
    assay <- arguments$assay %||% SeuratObject::DefaultAssay(arguments$object)
    variable <- variable_in(arguments$object, assay)
    if (length(variable)) arguments$features <- union(variable, intersect(panel, rownames(arguments$object[[assay]])))
  }
  first <- read_arguments(class, arguments[!own], call)
  absent <- setdiff(panel, first$recipe$features)
  if (length(absent)) {
    near <- did_you_mean(absent[[1]], first$recipe$features)
    abort_scelbo(
      "data", paste0(length(absent), " of the panel's ", length(panel), " genes are not among those of the dissociated ",
                     "cells: ", some_of(absent), "."),
      c(near, "Leave them out: `spatial_features = intersect(rownames(spatial), rownames(object))`. Or rename them."),
      call = call
    )
  }
  python <- heard(with_python(bridge(call)$create_pair(
    class, list(first$adata, second$adata), list(as_dict(first$keys), as_dict(second$keys)), as_dict(first$fields)
  ), call = call))
  model <- handle_of(python, class, first)
  model$recipe$features <- first$recipe$features
  model$second <- second$recipe
  model$cells <- cells_held(python)
  model
}

# Cells of a model of two data sets are read as those of the first were, if they have all that these have.
recipe_for <- function(model, object, call = caller_env()) {
  if (is.null(model$second)) return(model$recipe)
  assay <- model$recipe$assay
  if (inherits(object, "Seurat") && !is.null(assay) && !assay %in% modalities_in(object)) return(model$second)
  known <- if (is_anndata(object)) names_of(python_anndata(object, call = call)$var_names) else
    rownames(read_cells(object, assay, model$recipe$layer, call)$counts)
  if (all(model$recipe$features %in% known)) model$recipe else model$second
}

#' Genes that spatial cells were not measured for
#'
#' Of a trained [gimvi()] model: the expression of genes in spatial cells, measured or not, and how sure the model is of it.
#' A gene's expression is in units of all of the panel's, which compares to counts over the cell's total. The interval is
#' of this expectation, given the model; counts scatter around it.
#'
#' @inheritParams questions
#' @param object Spatial cells that are not the model's own. `NULL`: the model's own.
#' @param features Names of the genes. `NULL`: those that the panel lacks, as long as the result stays below half a gigabyte.
#'   `"all"`: these, whatever their number.
#' @param measured_by `"seq"` or `"spatial"`: the data set whose measurement is imagined; `NULL`: the cells' own.
#' @param library_size What the proportions are multiplied by: a number, or `"latent"` for each cell's own total (expected
#'   counts).
#' @param interval Share of the posterior between `lower` and `upper`.
#' @param n_samples Draws of \eqn{z} a cell.
#' @return A list of matrices, genes x cells: `mean` and `std` of the posterior, `lower` and `upper` bounds of the interval.
#' @inheritSection questions Errors
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' reference <- simulate_cells(n_cells = 100, n_genes = 50)
#' spatial <- simulate_cells(n_cells = 60, n_genes = 50, seed = 1)[paste0("gene", 1:30), ]
#' model <- gimvi(reference, spatial) |> train(max_epochs = 2, verbose = FALSE)
#' found <- impute(model, c("gene40", "gene45"))
#' sure <- found$std < 0.5 * found$mean
#' rowMeans(sure)
#' @export
impute <- function(model, ...) UseMethod("impute")

#' @rdname impute
#' @export
impute.scelbo_model <- function(model, features = NULL, object = NULL, cells = NULL, measured_by = NULL,
                                library_size = 1, interval = 0.9, n_samples = 100, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells)
  if (is.null(features) || identical(features, "all")) {
    lacking <- setdiff(model$features, model$second$features)
    features <- dense_features(model, features, 4 * length(at %||% about$cells), known = lacking)
  } else {
    check_names(features, model$features, "feature in the model")
  }
  found <- ask(model, "impute", adata = about$adata, indices = at, gene_list = as.list(features),
               measured_by = measured_by, library_size = library_size, interval = interval, n_samples = n_samples, ...)
  names <- names_of(found$mean$index)
  sapply(c("mean", "std", "lower", "upper"),
         function(part) features_by_cells(found[[part]]$to_numpy(), features, names), simplify = FALSE)
}

#' @rdname questions
#' @export
get_latent_representation.scelbo_gimvi <- function(model, object = NULL, cells = NULL, give_mean = TRUE, ...) {
  about <- cells_asked(model, object)
  at <- cell_positions(cells, about$cells) %||% (seq_along(about$cells) - 1L) # of some cells Python answers with one array
  z <- ask(model, "get_latent_representation", adata = about$adata, indices = at, give_mean = give_mean, ...)
  by_latent(model, z, chosen(about$cells, at))
}
