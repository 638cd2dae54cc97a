# SingleCellExperiments (and SummarizedExperiments) as wholes, see objects.R: assays, altExps with theirs, reduced dimensions with
# loadings, pairs of cells and of features, data of rows (with ranges) and columns, metadata.

#' @exportS3Method
whole_of.SummarizedExperiment <- function(object, call = caller_env()) {
  is_sce <- inherits(object, "SingleCellExperiment")
  name <- if (is_sce) SingleCellExperiment::mainExpName(object)
  cells <- colnames(object) %||% sprintf("cell%d", seq_len(ncol(object)))
  main <- name %||% sce_words$main
  whole <- list(
    main = main, cells = cells, obs = as_frame(SummarizedExperiment::colData(object), cells), words = sce_words, roomy = TRUE,
    record = S4Vectors::metadata(object)$anndata, assays = setNames(list(assay_of_sce(object, cells)), main),
    reductions = list(), misc = S4Vectors::metadata(object),
    about = noted(list(main = name, unnamed = if (is.null(colnames(object)) && ncol(object)) TRUE))
  )
  if (!is_sce) return(whole)
  whole$reductions <- lapply(as.list(SingleCellExperiment::reducedDims(object)), reduction_of_sce, cells = cells)
  for (name in SingleCellExperiment::altExpNames(object)) {
    beside <- SingleCellExperiment::altExp(object, name)
    whole$assays[[name]] <- assay_of_sce(beside, cells)
    whole$assays[[name]]$obs <- as_frame(SummarizedExperiment::colData(beside), cells)
    misc <- S4Vectors::metadata(beside)
    whole$assays[[name]]$about <- c(whole$assays[[name]]$about, noted(list(
      sce = if (inherits(beside, "SingleCellExperiment")) TRUE, misc = misc
    )))
    if (inherits(beside, "SingleCellExperiment")) whole <- with_reductions_of(whole, beside, name)
  }
  whole$graphs <- Map(graph_of_pairs, as.list(SingleCellExperiment::colPairs(object)), SingleCellExperiment::colPairNames(object))
  whole$feature_graphs <- Map(graph_of_pairs, as.list(SingleCellExperiment::rowPairs(object)), SingleCellExperiment::rowPairNames(object))
  whole
}

# An altExp's own reduced dimensions, among those of the object under the names of both.
with_reductions_of <- function(whole, beside, assay) {
  for (name in SingleCellExperiment::reducedDimNames(beside)) {
    from <- reduction_of_sce(SingleCellExperiment::reducedDim(beside, name, withDimnames = FALSE), whole$cells)
    from$about <- c(from$about, list(assay = assay, within = name))
    whole$reductions[[utils::tail(make.unique(c(names(whole$reductions), paste0(assay, "_", name))), 1)]] <- from
  }
  whole
}

# A DataFrame as a data.frame, with whatever columns it has.
as_frame <- function(x, names) structure(as.list(x), names = as.character(names(x)), row.names = names, class = "data.frame")

assay_of_sce <- function(from, cells) {
  layers <- as.list(SummarizedExperiment::assays(from, withDimnames = FALSE))
  if (!length(layers)) layers <- list(counts = Matrix::sparseMatrix(integer(), integer(), x = numeric(), dims = dim(from)))
  names(layers) <- if (is.null(names(layers))) c("counts", sprintf("assay%d", seq_along(layers)[-1]))[seq_along(layers)] else names(layers)
  features <- rownames(from) %||% sprintf("gene%d", seq_len(nrow(from)))
  var <- as_frame(SummarizedExperiment::rowData(from), features)
  has_ranges <- inherits(from, "RangedSummarizedExperiment") && inherits(SummarizedExperiment::rowRanges(from), "GRanges") &&
    !any(range_columns %in% names(var))
  if (has_ranges) {
    ranges <- as.data.frame(unname(SummarizedExperiment::rowRanges(from)))[range_columns]
    var[range_columns] <- ranges
  }
  list(
    layers = lapply(layers, function(x) {
      x <- sparse_or_dense(x)
      dimnames(x) <- list(features, cells)
      x
    }),
    var = var, about = noted(list(ranges = if (has_ranges) TRUE, unnamed = if (is.null(rownames(from)) && nrow(from)) TRUE))
  )
}

# What Bioconductor counts from one.
range_columns <- c("seqnames", "start", "end", "strand")

reduction_of_sce <- function(from, cells) {
  loadings <- attr(from, "rotation")
  variance <- attr(from, "varExplained")
  about <- list(columns = colnames(from), percentVar = attr(from, "percentVar"), variance = variance)
  values <- as.matrix(from)
  values <- matrix(values, nrow(values), ncol(values), dimnames = list(cells, NULL)) # without scater's attributes
  list(embeddings = values, loadings = if (length(rownames(loadings))) loadings, stdev = if (length(variance)) sqrt(variance),
       about = noted(c(about, list(loadings_columns = if (!identical(colnames(loadings), colnames(from))) colnames(loadings)))))
}

graph_of_pairs <- function(pairs, name) {
  known <- S4Vectors::mcols(pairs)
  from <- S4Vectors::queryHits(pairs)
  to <- S4Vectors::subjectHits(pairs)
  values <- if (length(known)) known[[1]] else rep(TRUE, length(pairs))
  if (anyDuplicated(cbind(from, to)) || !(is.numeric(values) || is.logical(values))) {
    warn_scelbo("data", paste0("Of the pairs '", name, "' only whether there are any is kept: they repeat, or have no numbers."))
    values <- rep(TRUE, length(values))
  }
  column <- if (length(known) && (names(known)[[1]] != "x" || is.logical(values))) names(known)[[1]]
  by_columns <- is.unsorted(order(from, to)) && !is.unsorted(order(to, from))
  whole <- is.integer(values)
  values <- if (whole) as.double(values) else values
  list(values = Matrix::sparseMatrix(from, to, x = values, dims = rep(S4Vectors::nnode(pairs), 2)),
       about = noted(list(column = column, by_columns = if (by_columns) TRUE, whole = if (whole) TRUE)))
}

# The inverse of whole_of().
whole_sce <- function(whole, call = caller_env()) {
  rlang::check_installed("SingleCellExperiment", reason = "to make a SingleCellExperiment.", call = call)
  whole <- with_partial_apart(whole)
  main <- experiment_of(whole$assays[[whole$main]], whole, SingleCellExperiment::SingleCellExperiment)
  SummarizedExperiment::colData(main) <- S4Vectors::DataFrame(whole$obs, row.names = whole$cells, check.names = FALSE)
  of <- vapply(whole$reductions, function(from) if (is.null(from$about$within)) whole$main else from$about$assay, "")
  SingleCellExperiment::reducedDims(main) <- lapply(whole$reductions[of == whole$main], reduction_sce)
  for (name in setdiff(names(whole$assays), whole$main)) {
    from <- whole$assays[[name]]
    make <- if (isTRUE(from$about$sce)) SingleCellExperiment::SingleCellExperiment else SummarizedExperiment::SummarizedExperiment
    beside <- experiment_of(from, whole, make)
    for (own in whole$reductions[of == name]) SingleCellExperiment::reducedDim(beside, own$about$within) <- reduction_sce(own)
    SingleCellExperiment::altExp(main, name) <- beside
  }
  for (name in names(whole$graphs)) SingleCellExperiment::colPair(main, name) <- pairs_of(whole$graphs[[name]])
  for (name in names(whole$feature_graphs)) SingleCellExperiment::rowPair(main, name) <- pairs_of(whole$feature_graphs[[name]])
  if (whole$main != sce_words$main) SingleCellExperiment::mainExpName(main) <- whole$main
  record <- noted(whole$record)
  S4Vectors::metadata(main) <- c(whole$misc, if (length(record)) list(anndata = record))
  if (isTRUE(whole$about$unnamed)) colnames(main) <- NULL
  main
}

# A layer of some of the features (Seurat's scale.data) is an altExp of its own.
with_partial_apart <- function(whole) {
  for (name in names(whole$assays)) {
    from <- whole$assays[[name]]
    part <- !vapply(from$layers, function(x) identical(rownames(x), rownames(from$var)), NA)
    whole$assays[[name]]$layers <- from$layers[!part]
    for (layer in names(from$layers)[part]) {
      x <- from$layers[[layer]]
      whole$assays[[paste0(name, "_", layer)]] <- list(layers = setNames(list(x), layer), var = bare_frame(rownames(x)))
    }
  }
  whole
}

experiment_of <- function(from, whole, make) {
  made <- make(lapply(from$layers, spread, whole$cells))
  var <- from$var
  if (isTRUE(from$about$ranges) && all(range_columns %in% names(var))) {
    ranges <- GenomicRanges::makeGRangesFromDataFrame(var[range_columns])
    names(ranges) <- rownames(var)
    var <- var[setdiff(names(var), range_columns)]
    SummarizedExperiment::rowRanges(made) <- ranges
  }
  SummarizedExperiment::rowData(made) <- S4Vectors::DataFrame(var, row.names = rownames(var), check.names = FALSE)
  if (length(from$obs)) SummarizedExperiment::colData(made) <- S4Vectors::DataFrame(from$obs, row.names = whole$cells, check.names = FALSE)
  if (length(from$about$misc)) S4Vectors::metadata(made) <- from$about$misc
  if (isTRUE(from$about$unnamed)) rownames(made) <- NULL
  made
}

reduction_sce <- function(from) {
  values <- from$embeddings
  colnames(values) <- from$about$columns
  if (!is.null(from$loadings)) {
    rotation <- from$loadings
    colnames(rotation) <- from$about$loadings_columns %||% from$about$columns
    attr(values, "rotation") <- rotation
  }
  attr(values, "varExplained") <- from$about$variance %||% if (!is.null(from$stdev)) from$stdev^2
  attr(values, "percentVar") <- from$about$percentVar
  values
}

pairs_of <- function(graph) {
  at <- Matrix::summary(graph$values)
  if (!isTRUE(graph$about$by_columns)) at <- at[order(at$i, at$j), ]
  values <- if (isTRUE(graph$about$whole)) as.integer(at$x) else at$x
  pairs <- S4Vectors::SelfHits(at$i, at$j, nnode = nrow(graph$values))
  column <- graph$about$column %||% if (!is.logical(values)) "x"
  if (!is.null(column)) S4Vectors::mcols(pairs)[[column]] <- values
  pairs
}
