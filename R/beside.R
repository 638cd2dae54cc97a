# What models of several modalities read beside the counts of genes. A recipe's `beside` says where it is: a list by the
# model's field (`protein`) of
#   assay, layer  Seurat's assay and layer, the name of an altExp and its assay, a key of an AnnData's obsm
#   key           the obsm key under which Python finds it
#   needed        whether it is an error where it is not there (a query may lack it)

beside_of <- function(arguments) {
  if (is.null(arguments$protein_assay)) return(list())
  layer <- arguments$protein_layer %||% "counts"
  list(protein = list(assay = arguments$protein_assay, layer = layer, key = arguments$protein_assay, needed = TRUE))
}

beside_keys <- function(beside) c(protein_expression_obsm_key = beside$protein$key)

# Where another object has it, and whether it must. (`...` are protein_assay and protein_layer; NULL: as before.)
beside_in <- function(beside, ..., needed = TRUE) {
  if (length(beside$protein)) {
    new <- list(...)
    beside$protein$assay <- new$protein_assay %||% beside$protein$assay
    beside$protein$layer <- new$protein_layer %||% beside$protein$layer
    beside$protein$needed <- needed
  }
  beside
}

# The tables that a recipe asks for, by their obsm key: matrices of cells x features, in the order of `cells`.
read_tables <- function(object, recipe, cells, call = caller_env()) {
  tables <- lapply(recipe$beside, function(where) {
    if (!where$needed && !where$assay %in% modalities_in(object)) return(NULL)
    batch <- recipe$columns$batch
    read_table(object, where, cells, if (length(batch)) cells$obs[[batch]], call)
  })
  tables <- setNames(tables, vapply(recipe$beside, function(where) where$key, ""))
  tables[lengths(tables) > 0]
}

read_table <- function(object, where, cells, batch, call) {
  check_modality(object, where$assay, call)
  names <- colnames(cells$counts)
  counts <- read_modality(object, where$assay, where$layer, call)
  check_whole(counts, object, where, call)
  if (!any(colnames(counts) %in% names)) {
    abort_scelbo("setup", paste0("None of the cells of '", where$assay, "' is among those of the genes."),
                 paste0("They are matched by name: there '", colnames(counts)[[1]], "', ..., here '", names[[1]], "', ..."),
                 call = call)
  }
  table <- as.matrix(Matrix::t(counts))[match(names, colnames(counts)), , drop = FALSE]
  rownames(table) <- names
  fill_unmeasured(table, batch, where$assay, call)
}

# In R what was not measured is NA (or not there at all), in Python a batch without a count. Either way a protein was
# measured in a whole batch or not at all.
fill_unmeasured <- function(table, batch, assay, call) {
  unknown <- is.na(table)
  if (!any(unknown)) return(table)
  batch <- factor(if (is.null(batch)) rep("all", nrow(table)) else as.character(batch))
  share <- rowsum(unknown + 0, batch) / tabulate(batch)
  partly <- which(share > 0 & share < 1, arr.ind = TRUE)
  if (length(partly)) {
    first <- partly[1, ]
    abort_scelbo(
      "data", paste0("'", colnames(table)[[first[[2]]]], "' of '", assay, "' was measured in some cells of ",
                     if (nlevels(batch) > 1) paste0("batch '", rownames(share)[[first[[1]]]], "'") else "the only batch",
                     ", and is missing in ", round(100 * share[first[[1]], first[[2]]]), " % of them."),
      "What is missing must be so in whole batches: give cells without it a batch of their own, or leave them out.",
      call = call
    )
  }
  table[unknown] <- 0
  table
}

check_whole <- function(counts, object, where, call) {
  odd <- !is.na(counts@x) & (counts@x != round(counts@x) | counts@x < 0)
  if (!any(odd)) return(invisible())
  whole <- function(layer) {
    values <- read_modality(object, where$assay, layer, call)@x
    length(values) && !any(values != round(values) | values < 0, na.rm = TRUE)
  }
  others <- Filter(whole, setdiff(layers_in(object, where$assay), where$layer))
  abort_scelbo(
    "data", paste0("Layer '", where$layer, "' of '", where$assay, "' holds ", sum(odd),
                   " values that are no counts (negative, or not whole), such as ", format(counts@x[odd][[1]]), "."),
    if (length(others)) paste0("Counts are in its layer '", others[[1]], "': `protein_layer = \"", others[[1]], "\"`.")
    else "The model needs raw counts of antibodies: normalised values (CLR, DSB) cannot take their place.",
    call = call
  )
}

check_modality <- function(object, assay, call) {
  known <- modalities_in(object)
  if (assay %in% known) return(invisible())
  what <- if (inherits(object, "SingleCellExperiment")) "alternative experiment" else "assay of proteins"
  abort_scelbo("setup", paste0("There is no ", what, " '", assay, "'",
                               if (length(known)) paste0("; there are ", some_of(known)) else ", nor any other", "."),
               c(did_you_mean(assay, known), "Name it by `protein_assay =`."), call = call)
}

# A class of objects says which modalities it holds beside the genes, the layers of each, and gives the counts of one,
# features x cells.
modalities_in <- function(object) UseMethod("modalities_in")
layers_in <- function(object, assay) UseMethod("layers_in")
read_modality <- function(object, assay, layer, call) UseMethod("read_modality")

#' @exportS3Method
modalities_in.default <- function(object) character()

#' @exportS3Method
modalities_in.Seurat <- function(object) SeuratObject::Assays(object)

#' @exportS3Method
layers_in.Seurat <- function(object, assay) {
  from <- object[[assay]]
  if (inherits(from, "StdAssay")) return(seurat5("Layers")(from))
  slots_filled(from)
}

#' @exportS3Method
read_modality.Seurat <- function(object, assay, layer, call) read_cells(object, assay, layer, call)$counts

#' @exportS3Method
modalities_in.SingleCellExperiment <- function(object) SingleCellExperiment::altExpNames(object)

#' @exportS3Method
layers_in.SingleCellExperiment <- function(object, assay) {
  SummarizedExperiment::assayNames(SingleCellExperiment::altExp(object, assay))
}

#' @exportS3Method
read_modality.SingleCellExperiment <- function(object, assay, layer, call) {
  beside <- SingleCellExperiment::altExp(object, assay)
  colnames(beside) <- colnames(object) # they are the same cells, whether it has their names or not
  read_cells(beside, NULL, layer, call)$counts
}

# Which proteins a model takes for not measured, as nobody was asked. Said once, when it is made.
say_unmeasured <- function(python, call = caller_env()) {
  lacks <- reticulate::py_to_r(with_python(bridge(call)$unmeasured(python), call = call))
  if (!length(lacks)) return(invisible())
  n <- reticulate::py_to_r(bridge(call)$about(python))$beside$protein
  told <- vapply(lacks, function(names) if (length(names) == n) paste("all", n) else some_of(unlist(names), 4), "")
  rlang::inform(c(
    paste0("Proteins taken for not measured, as they have no count: ",
           paste0(told, " in batch '", names(lacks), "'", collapse = "; "), "."),
    i = "They are imputed there. If they were measured and absent, use `override_missing_proteins = TRUE`."
  ), class = "scelbo_unmeasured")
}

# Of a saved model: under Python's key, wherever the object has it.
beside_saved <- function(about, protein_assay, protein_layer) {
  key <- about$keys$protein_expression_obsm_key
  if (is.null(key)) return(list())
  where <- beside_of(list(protein_assay = key))
  beside_in(where, protein_assay = protein_assay, protein_layer = protein_layer,
            needed = !"protein" %in% unlist(about$lacking))
}

# Of an AnnData Python looks at the values, but takes a missing table for cells without proteins where a trained model is
# asked.
check_obsm <- function(adata, beside, call) {
  keys <- as.character(unlist(reticulate::py_to_r(bridge(call)$obsm_keys(adata))))
  for (where in beside) {
    if (where$needed && !any(c(where$assay, where$key) %in% keys)) check_names(where$assay, keys, "entry of obsm", call)
  }
}

# The genes are not to be read where the proteins are.
check_genes <- function(cells, object, recipe, call) {
  taken <- vapply(recipe$beside, function(where) where$assay, "")
  assay <- recipe$assay %||% if (inherits(object, "Seurat")) SeuratObject::DefaultAssay(object)
  if (!any(assay %in% taken)) return(invisible())
  abort_scelbo("argument", paste0("Assay '", assay, "' would be read for the genes and for the proteins."),
               paste0("Choose the genes' by `assay =`: there are ", some_of(setdiff(modalities_in(object), taken)), "."),
               call = call)
}
