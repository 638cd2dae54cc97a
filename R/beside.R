# What models of several modalities read beside the counts of genes. A recipe's `beside` says where it is: a list by the
# model's field, `protein` (a table in obsm) and `atac` (regions side by side with the genes), each a list of
#   assay, layer  Seurat's assay and layer, the name of an altExp and its assay; of a table a key of an AnnData's obsm
#   needed        whether it is an error where it is not there (a query may lack it)
#   key           of a table: the obsm key under which Python finds it
#   features      of regions: their names, in order
#   cellwise      of a table: whether a cell may lack it that others of its batch have

beside_of <- function(arguments) {
  beside <- list()
  if (!is.null(arguments$peak_assay)) {
    beside$atac <- list(assay = arguments$peak_assay, layer = arguments$peak_layer %||% "counts", needed = TRUE,
                        features = arguments$regions)
  }
  if (!is.null(arguments$protein_assay)) {
    beside$protein <- list(assay = arguments$protein_assay, layer = arguments$protein_layer %||% "counts", needed = TRUE,
                           key = arguments$protein_assay, cellwise = "peak_assay" %in% names(arguments))
  }
  beside
}

# What Python's setup calls it, and the layer of the counts.
beside_keys <- function(beside, layer) {
  layers <- if (is.null(beside$atac)) "layer" else c("rna_layer", "atac_layer")
  c(setNames(rep(layer, length(layers)), if (length(layer)) layers), protein_expression_obsm_key = beside$protein$key)
}

# Where another object has it (`new` are arguments of the constructors; NULL: as before), and whether it must: not if its
# field is among the `lacking`.
beside_in <- function(beside, new = list(), lacking = names(beside)) {
  words <- c(protein = "protein", atac = "peak")
  for (field in names(beside)) {
    for (part in c("assay", "layer")) {
      beside[[field]][[part]] <- new[[paste0(words[[field]], "_", part)]] %||% beside[[field]][[part]]
    }
    beside[[field]]$needed <- !field %in% lacking
  }
  beside
}

# The tables that a recipe asks for, by their obsm key: matrices of cells x features, in the order of `cells`.
read_tables <- function(object, recipe, cells, call = caller_env()) {
  where <- recipe$beside$protein
  if (is.null(where) || (!where$needed && !where$assay %in% modalities_in(object))) return(list())
  batch <- recipe$columns$batch
  table <- read_table(object, where, cells, if (length(batch)) cells$obs[[batch]], call)
  setNames(list(table), where$key)
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
  if (isTRUE(where$cellwise)) table[rowSums(!is.na(table)) == 0, ] <- 0
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

check_modality <- function(object, assay, call, argument = "protein_assay") {
  known <- modalities_in(object)
  if (assay %in% known) return(invisible())
  what <- if (inherits(object, "SingleCellExperiment")) "alternative experiment" else
    paste0("assay of ", sub("_assay", "s", argument))
  abort_scelbo("setup", paste0("There is no ", what, " '", assay, "'",
                               if (length(known)) paste0("; there are ", some_of(known)) else ", nor any other", "."),
               c(did_you_mean(assay, known), paste0("Name it by `", argument, " =`.")), call = call)
}

# Which proteins a model takes for not measured, as nobody was asked. Said once, when it is made.
say_unmeasured <- function(python, call = caller_env()) {
  lacks <- to_r(with_python(bridge(call)$unmeasured(python), call = call))
  if (!length(lacks)) return(invisible())
  n <- to_r(bridge(call)$about(python))$beside$protein
  told <- vapply(lacks, function(names) if (length(names) == n) paste("all", n) else some_of(unlist(names), 4), "")
  rlang::inform(c(
    paste0("Proteins taken for not measured, as they have no count: ",
           paste0(told, " in batch '", names(lacks), "'", collapse = "; "), "."),
    i = "They are imputed there. If they were measured and absent, use `override_missing_proteins = TRUE`."
  ), class = "scelbo_unmeasured")
}

# Of a saved model: under Python's key, wherever the object has it.
beside_saved <- function(about, python, new) {
  new$protein_assay <- new$protein_assay %||% about$keys$protein_expression_obsm_key
  fields <- intersect(c("atac", "protein"), names(about$beside))
  beside <- beside_of(new)[fields]
  if ("protein" %in% fields) beside$protein[c("key", "cellwise")] <- list(about$keys$protein_expression_obsm_key, "atac" %in% fields)
  beside_known(beside_in(beside, lacking = unlist(about$lacking)), python)
}

# The regions that a model was made of.
beside_known <- function(beside, python) {
  if (!is.null(beside$atac)) beside$atac$features <- field_features(python, "atac")
  beside
}

# Of an AnnData Python looks at the values, but takes a missing table for cells without proteins where a trained model is
# asked.
check_obsm <- function(adata, where, call) {
  if (is.null(where) || !where$needed) return(invisible())
  keys <- as.character(unlist(to_r(bridge(call)$obsm_keys(adata))))
  if (!any(c(where$assay, where$key) %in% keys)) check_names(where$assay, keys, "entry of obsm", call)
}

# The genes are not to be read where the proteins or regions are.
check_genes <- function(object, recipe, call) {
  taken <- vapply(recipe$beside, function(where) where$assay, "")
  if (!inherits(object, c("Seurat", "MultiAssayExperiment")) || !any(recipe$genes %in% taken)) return(invisible())
  abort_scelbo("argument", paste0("Assay '", recipe$genes, "' would be read for the genes, and for another modality."),
               paste0("Choose the genes' by `assay =`: there are ", some_of(setdiff(modalities_in(object), taken)), "."),
               call = call)
}

# Genes of all cells and, where the recipe asks for them, regions of the same cells: what a cell lacks is zero.
read_together <- function(object, recipe, call = caller_env()) {
  where <- recipe$beside$atac
  assay <- if (inherits(object, c("Seurat", "MultiAssayExperiment"))) genes_in(recipe) else recipe$assay
  if (is.null(where)) return(read_cells(object, assay, recipe$layer, call))
  if (only_regions(object, where, recipe$features)) {
    cells <- read_cells(object, NULL, where$layer, call)
    cells$counts <- cells$regions <- as_sparse(cells$counts)
    cells$counts <- cells$counts[0, ]
    return(cells)
  }
  there <- modalities_in(object)
  regions <- NULL
  if (where$needed || where$assay %in% there) {
    check_modality(object, where$assay, call, "peak_assay")
    regions <- read_modality(object, where$assay, where$layer, call)
  }
  genes_too <- where$needed && !setequal(recipe$absent, recipe$features)
  if (is.null(regions) || genes_too || is.null(assay) || assay %in% there) {
    cells <- read_cells(object, assay, recipe$layer, call)
    cells$counts <- as_sparse(cells$counts)
  } else { # a query with regions only
    cells <- read_cells_of(regions[0, ])
  }
  regions <- regions %||% cells$counts[0, ]
  names <- union(colnames(cells$counts), colnames(regions))
  if (length(names) > nrow(cells$obs %||% data.frame())) {
    cells$obs <- obs_of_cells(object, names, intersect(c(assay, where$assay), there))
  }
  cells$counts <- with_cells(cells$counts, names)
  cells$regions <- with_cells(regions, names)
  cells$variable_regions <- variable_in(object, where$assay)
  cells
}

# Whether an experiment of one kind of features, of the cells of a query, is of regions and not of genes: by its name, or
# as it has some of the known regions and none of the known genes.
only_regions <- function(object, where, genes) {
  if (is.null(genes) || !inherits(object, "SingleCellExperiment") || where$assay %in% modalities_in(object)) return(FALSE)
  identical(SingleCellExperiment::mainExpName(object), where$assay) ||
    (any(rownames(object) %in% where$features) && !any(rownames(object) %in% genes))
}

with_cells <- function(x, cells) {
  if (identical(colnames(x), cells)) return(x)
  Matrix::t(with_rows(Matrix::t(x), cells))
}

# Genes and regions side by side, as Python is told by var["feature_types"].
side_by_side <- function(cells, features, regions) {
  rows <- function(x, names) x[match(names, rownames(x)), , drop = FALSE] # by position: there may be no rows at all
  genes <- if (is.null(features)) cells$counts else rows(cells$counts, features)
  regions <- rows(cells$regions, regions)
  type <- rep(c("Gene Expression", "Peaks"), c(nrow(genes), nrow(regions)))
  cells$counts <- rbind(genes, regions)
  cells$var <- data.frame(feature_types = type, row.names = make.unique(rownames(cells$counts)))
  cells
}
