# 150 cells of four types, and 60 spots of other such cells whose shares are known, in a reduction "spatial".
simulated_spots <- function() {
  if (is.null(shared$spots)) {
    both <- core()$data$simulate$spots(60L, 150L, 120L, stored = 0.5, seed = 1L)
    shared$spots <- list(cells = both[[0]], spots = both[[1]], shares = from_pandas(both[[1]]$obsm[["proportions"]]))
  }
  shared$spots
}
cells_object <- function() as_seurat(simulated_spots()$cells)
spots_object <- function() {
  object <- as_seurat(simulated_spots()$spots, assay = "Spatial")
  object[["proportions"]] <- NULL # the truth
  object
}
fit_spots <- function(run, object = spots_object(), reference = cells_object(), ..., labels = "cell_type") {
  run(object, reference, labels, reference_max_epochs = 3, max_epochs = 3, seed = 1, verbose = FALSE, ...)
}
spots_fitted <- function(run = RunStereoscope, key = "stereoscope") {
  if (is.null(shared[[key]])) shared[[key]] <- fit_spots(run)
  shared[[key]]
}
dest_fitted <- function() spots_fitted(RunDestVI, "destvi")
