# Genes and peaks that stand side by side in one AnnData, as var["feature_types"] (or "modality") tells: in R two assays.
# The record knows the order in which they stood, so that they go back side by side.
with_peaks_apart <- function(whole, note) {
  own <- whole$assays[[whole$main]]
  is_peak <- as.character(own$var$feature_types) == "Peaks"
  if (!length(is_peak) || anyNA(is_peak) || !any(is_peak) || all(is_peak) || isTRUE(own$about$together)) return(whole)
  whole$record$beside <- list(assays = c(whole$main, "peaks"), features = rownames(own$var))
  part <- function(at) {
    features <- rownames(own$var)[at]
    variable <- intersect(own$variable, features)
    list(layers = lapply(own$layers, function(x) x[rownames(x) %in% features, , drop = FALSE]),
         var = droplevels(own$var[at, , drop = FALSE]), variable = variable, about = list())
  }
  whole$assays <- c(list(part(!is_peak)), list(peaks = part(is_peak)), whole$assays[setdiff(names(whole$assays), whole$main)])
  names(whole$assays)[[1]] <- whole$main
  whole
}

with_peaks_joined <- function(whole) {
  names <- whole$record$beside$assays
  if (!length(names)) {
    kinds <- as.character(whole$assays[[whole$main]]$var$feature_types)
    if (any(kinds %in% "Peaks") && !all(kinds %in% "Peaks")) whole$assays[[whole$main]]$about$together <- TRUE
    return(whole)
  }
  if (!all(names %in% names(whole$assays)) || names[[1]] != whole$main) return(whole)
  both <- whole$assays[names]
  before <- whole$record$beside$features
  ordered <- function(x) x[c(intersect(before, rownames(x)), setdiff(rownames(x), before)), , drop = FALSE]
  layers <- unique(unlist(lapply(both, function(assay) names(assay$layers))))
  both[[1]]$layers <- sapply(layers, function(layer) {
    ordered(do.call(rbind, unname(noted(lapply(both, function(assay) assay$layers[[layer]])))))
  }, simplify = FALSE)
  columns <- union(names(both[[1]]$var), names(both[[2]]$var))
  filled <- lapply(both, function(assay) {
    assay$var[setdiff(columns, names(assay$var))] <- NA
    assay$var[columns]
  })
  both[[1]]$var <- ordered(do.call(rbind, unname(filled)))
  both[[1]]$variable <- c(both[[1]]$variable, both[[2]]$variable)
  whole$assays[[whole$main]] <- both[[1]]
  whole$assays[[names[[2]]]] <- NULL
  whole
}
