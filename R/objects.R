# A whole object, whatever its class, on its way to AnnData or back: see as_anndata(). whole_of() and its inverses
# whole_seurat() and whole_sce() know the classes, this file where things go; send_whole() and receive_whole() do it.
# A whole is a list of
#   main        name of the assay that is the AnnData's own
#   assays      by name: list(layers, var, variable, about); layers are matrices of features x cells, var a data.frame
#   cells, obs  names and metadata of the cells
#   reductions  by name: list(embeddings, loadings, projected, stdev, about)
#   graphs      cells x cells, by name: list(values, about); feature_graphs likewise
#   misc        plain values
#   about       what else only this class knows (as in every `about`: plain values that AnnData has no place for)
#   record      how the AnnData called things, if the object was made from one
#
# Where a layer goes is a place: "X", "layers/<key>", "obsm/<key>" or "raw". What the other side could not guess is noted:
# for R in uns["R"], for AnnData in the object's `record`. So what was not changed goes back to where it came from.

# Words of the two classes: what X is called where counts are elsewhere, what the other class calls that, the main assay.
seurat_words <- list(normalized = "data", foreign = "logcounts", main = "RNA")
sce_words <- list(normalized = "logcounts", foreign = "data", main = "main")

# Where R looks for layers by itself: assay -> c(layer = place). `raw`: NULL, or whether it has the features of X.
# `is_whole(place)`: may its values be counts? `roomy`: an assay can hold any layer (Seurat's before version 5 cannot);
# `needed`: the main assay is to have one.
places_guessed <- function(words, main, has_x, layers, tables, raw, is_whole, counts = "counts", roomy = TRUE, needed = TRUE) {
  own <- if (counts %in% layers) c(counts = paste0("layers/", counts)) else character()
  layers <- in_file_order(setdiff(layers, counts))
  tables <- in_file_order(tables)
  x_is <- if (roomy && words$normalized %in% layers) "X" else words$normalized
  if (has_x) own[[if (!length(own) && (counts == "X" || is_whole("X"))) "counts" else x_is]] <- "X"
  if (isTRUE(raw) && !"counts" %in% names(own) && is_whole("raw")) {
    own[["counts"]] <- "raw"
    raw <- NULL
  }
  beside <- setNames(paste0("layers/", layers, recycle0 = TRUE), layers)
  names <- setdiff(in_words(c(names(own), layers), words), names(own))
  fits <- (roomy | names %in% v3_slots) & !names %in% names(own)
  own <- c(own, setNames(beside[fits], names[fits]))
  beside <- c(beside[!fits], setNames(paste0("obsm/", tables, recycle0 = TRUE), tables))
  if (!is.null(raw)) beside[["raw"]] <- "raw"
  alone <- lapply(beside, function(place) setNames(place, if (is_whole(place)) "counts" else words$normalized))
  if (needed && !length(own) && length(alone)) {
    own <- alone[[1]]
    alone <- alone[-1]
  }
  c(setNames(list(own), main), alone)
}

in_file_order <- function(names) sort(as.character(names), method = "radix")

# Where a whole's layers go: what `layer` names is X (else what was, else the counts); tables of other features, or of
# some, go to obsm.
places_chosen <- function(whole, layer = NULL) {
  known <- whole$record$places
  own <- whole$assays[[whole$main]]
  whole_layer <- function(x) identical(rownames(x), rownames(own$var)) && identical(colnames(x), whole$cells)
  fits <- names(own$layers)[vapply(own$layers, whole_layer, NA)]
  before <- names(known[[whole$main]])[known[[whole$main]] == "X"]
  nowhere <- is.null(layer) && isTRUE(whole$record$no_x)
  x <- if (!nowhere) intersect(c(layer, before, "counts", whole$words$normalized, fits), fits)[1]
  place_of <- function(assay, name, values) {
    before <- as.list(known[[assay]])[[name]] %||% ""
    if (assay == whole$main && name %in% x) return("X")
    if (before == "raw") return("raw")
    if (whole_layer(values) && startsWith(before, "layers/")) return(before)
    if (assay == whole$main && name %in% fits) return(paste0("layers/", name))
    alone <- assay != whole$main && name == names(whole$assays[[assay]]$layers)[[1]]
    paste0("obsm/", assay, if (!alone) paste0("_", name))
  }
  sapply(names(whole$assays), function(assay) {
    layers <- whole$assays[[assay]]$layers
    vapply(setNames(names(layers), names(layers)), function(name) place_of(assay, name, layers[[name]]), "")
  }, simplify = FALSE)
}

v3_slots <- c("counts", "data", "scale.data")

# A key of obsm as a reduction's name, and back; Python's squidpy has places of cells in "spatial".
reduction_name <- function(key, taken = character()) {
  name <- sub("^X_", "", key)
  if (name %in% taken) key else name
}
reduction_key <- function(name) if (name == "spatial") name else paste0("X_", name)

# Where scanpy has the loadings of a PCA.
loadings_key <- function(name) if (tolower(name) == "pca") "PCs" else name

is_whole <- function(x) {
  values <- if (methods::is(x, "Matrix")) x@x else x
  first <- head(values, 10000) # mostly enough to tell that they are not
  all(first == round(first), na.rm = TRUE) && all(values == round(values), na.rm = TRUE) && !any(values < 0, na.rm = TRUE)
}
