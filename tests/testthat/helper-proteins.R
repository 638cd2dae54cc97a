# Proteins of the simulated cells: "Pa", "Pb", "Pc" mark a type each, the others are background; `missing` is a batch in
# which none was measured.
simulate_proteins <- function(missing = NULL) {
  types <- cell_types(150)
  marks <- c(Pa = "a", Pb = "b", Pc = "c", P4 = "none", P5 = "none", P6 = "none")
  there <- outer(marks, types, "==")
  counts <- withr::with_seed(11, matrix(stats::rnbinom(900, size = 5, mu = ifelse(there, 80, 4)), 6))
  dimnames(counts) <- list(names(marks), paste0("cell", 1:150))
  counts[, cell_batches(150) %in% missing] <- 0
  as_sparse(counts)
}

cite_object <- function(proteins = simulate_proteins()) {
  object <- seurat_object()
  object[["ADT"]] <- SeuratObject::CreateAssayObject(counts = proteins)
  object
}

cite_sce <- function(proteins = simulate_proteins()) {
  object <- sce_object()
  SingleCellExperiment::altExp(object, "ADT") <- SummarizedExperiment::SummarizedExperiment(list(counts = proteins))
  object
}

fit_totalvi <- function(object, ..., max_epochs = 2) {
  model <- totalvi(object, "batch", ..., n_latent = 4, n_hidden = 16)
  train(model, max_epochs = max_epochs, batch_size = 64, seed = 1, verbose = FALSE)
}

# One for all tests that only ask.
proteins_model <- function() {
  if (is.null(shared$proteins)) shared$proteins <- fit_totalvi(cite_object(), max_epochs = 60)
  shared$proteins
}
