#' scelbo: deep probabilistic models of single-cell omics data
#'
#' Hand over a Seurat object, a SingleCellExperiment, an AnnData or a count
#' matrix; get latent spaces, denoised expression and differential tests back
#' in that same object. Three dialects share one engine and its argument names:
#'
#' - any object: [scvi()] `|>` [train()], then [get_latent_representation()],
#'   [get_normalized_expression()], [differential_expression()], [write_back()];
#' - Seurat: [RunSCVI()], [FindMarkersSCVI()] and [MapQuerySCVI()];
#' - Bioconductor: [runSCVI()] and [mapQuerySCVI()].
#'
#' Further models of RNA go by the same three ways: [linearscvi()] (loadings), [scanvi()], [cellassign()] and [solo()]
#' ([labels] of cells), [autozi()] (zero-inflation) and [amortizedlda()] (topics). Open chromatin has [peakvi()],
#' [RunPEAKVI()], [runPEAKVI()] and the questions of [accessibility]. Cells with several kinds of data have [totalvi()]
#' (RNA and [proteins]) and [multivi()] (RNA, chromatin, proteins), spatial ones [gimvi()] and [impute()]; spots
#' that hold several cells [stereoscope()], [destvi()] and what they say of [spots].
#'
#' The models run in Python. [install_backend()] sets it up once,
#' [backend_status()] says what is there. [simulate_cells()] makes small objects to try things on.
#' @keywords internal
"_PACKAGE"

#' @importFrom cli pb_bar pb_current pb_eta_str pb_extra pb_name pb_total
#' @importFrom methods as is slot slotNames
#' @importFrom rlang %||% .data abort caller_env
#' @importFrom stats predict setNames
#' @importFrom utils head
NULL

# Declaring what Python needs is all that loading does: Python itself starts with the first model.
.onLoad <- function(libname, pkgname) {
  if ("py_require" %in% getNamespaceExports("reticulate")) {
    getExportedValue("reticulate", "py_require")(python_requirements(), python_version = ">=3.11")
  }
}
