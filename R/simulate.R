#' Simulated cells, to try things on
#'
#' Counts with a known structure: cells of four types (`cell_type`) in two batches (`batch`), of three donors (`donor`).
#'
#' @param what `"counts"` of genes; `"cite"`: with proteins, each of which marks a type; `"multiome"`: with peaks; `"spots"`:
#'   spots of a tissue that are sums of such cells, whose shares of types are known, beside other cells.
#' @param as What to make of them: `"seurat"`, `"sce"` (a SingleCellExperiment), or `"anndata"` (Python's, not converted).
#' @param n_cells,n_genes How many.
#' @param seed Of the draws. R's own random numbers are not touched.
#' @param ... Further sizes: `n_types`, `n_batches`, `stored` (share of counts above zero), `batch_effect`; `n_proteins`;
#'   `n_regions`, `lacking` (share of cells without genes, and of those without peaks); `n_spots`, `cells_a_spot`.
#' @return The object, with proteins as the assay (`altExp`) `protein_expression` and peaks as `peaks`. Of `"spots"` a list of two,
#'   `cells` and `spots`, the latter with the true shares as the assay (`altExp`) `proportions`.
#' @section Errors: `scelbo_argument_error` where an argument is not allowed (with the nearest match).
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' simulate_cells(n_cells = 100, n_genes = 50)
#' simulate_cells("cite", n_cells = 100, n_genes = 50, n_proteins = 5)
#' simulate_cells("spots", n_cells = 100, n_genes = 50, n_spots = 40)$spots
#' @export
simulate_cells <- function(what = c("counts", "cite", "multiome", "spots"), as = c("seurat", "sce", "anndata"), n_cells = 500,
                           n_genes = 200, seed = 0, ...) {
  what <- one_of(what[[1]], c("counts", "cite", "multiome", "spots"), "what")
  as <- as[[1]]
  check_object_kind(as)
  convert <- switch(as, seurat = as_seurat, sce = as_sce, identity)
  sizes <- as_dict(list(n_cells = n_cells, n_genes = n_genes, seed = seed, ...))
  drawn <- heard(with_python(bridge()$ask(core()$data$simulate, what, sizes)))
  if (what == "spots") list(cells = convert(drawn[[0]]), spots = convert(drawn[[1]])) else convert(drawn)
}
