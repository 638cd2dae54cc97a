# A whole object (see objects.R) -> AnnData. `layer`: what is to be X; `features`: of the main assay, all by default.
send_whole <- function(whole, layer = NULL, features = NULL, call = caller_env()) {
  whole <- with_peaks_joined(whole)
  own <- whole$assays[[whole$main]]
  if (!is.null(features)) {
    check_names(features, rownames(own$var), "feature", call)
    whole$assays[[whole$main]] <- of_features(own, features)
  }
  features <- rownames(whole$assays[[whole$main]]$var)
  places <- places_chosen(whole, layer)
  sent <- new.env() # slots of the AnnData; `note`: for R alone; `misc`: what becomes uns; `tables`: data frames in obsm
  for (slot in c("layers", "obsm", "varm", "obsp", "varp", "raw")) sent[[slot]] <- list()
  sent$note <- whole$about
  sent$misc <- whole$misc[setdiff(names(whole$misc), own_misc)]
  for (assay in names(places)) send_assay(sent, whole, assay, places[[assay]])
  for (name in names(whole$reductions)) send_reduction(sent, whole, name, features)
  for (slot in c("obsp", "varp")) {
    graphs <- whole[[c(obsp = "graphs", varp = "feature_graphs")[[slot]]]]
    sent[[slot]] <- lapply(graphs, function(graph) send_as_is(graph$values))
    sent$note[[slot]] <- noted(lapply(graphs, function(graph) graph$about))
  }
  send_aside(sent, whole$record$aside, whole$cells, features)
  note_places(sent, whole, places)
  assemble(sent, whole, call)
}

# Where the package itself keeps something among an object's misc or metadata.
own_misc <- c("scelbo", "anndata")

key_of <- function(place) sub("^[a-z]+/", "", place)

# What says something, or NULL.
noted <- function(x) {
  x <- x[lengths(x) > 0]
  if (length(x)) x
}

of_features <- function(assay, features) {
  assay$layers <- lapply(assay$layers, function(x) x[intersect(features, rownames(x)), , drop = FALSE])
  assay$layers <- assay$layers[vapply(assay$layers, nrow, 1L) > 0] # of scale.data there may be none
  assay$var <- assay$var[features, , drop = FALSE]
  if (length(assay$variable)) assay$variable <- intersect(assay$variable, features)
  assay
}

send_assay <- function(sent, whole, assay, places) {
  is_main <- assay == whole$main
  from <- whole$assays[[assay]]
  marked <- with_variable(from$var, from$variable)
  about <- from$about
  about$added <- marked$added
  for (name in names(places)) {
    place <- places[[name]]
    values <- from$layers[[name]]
    if (place == "X") sent$x <- send_turned(values)
    if (startsWith(place, "layers/")) sent$layers[[key_of(place)]] <- send_turned(values)
    if (place == "raw") sent$raw <- list(X = send_turned(values), var = to_pandas(if (is_main) raw_var(whole) else marked$var))
    if (startsWith(place, "obsm/")) {
      table <- send_table(values, whole$cells)
      sent$obsm[[key_of(place)]] <- table$python
      if (table$framed) sent$tables <- c(sent$tables, key_of(place))
      own <- list(dense = if (is.matrix(values) && name != "scale.data") TRUE, features = if (!table$framed) rownames(values),
                  cells = if (!identical(colnames(values), whole$cells)) colnames(values))
      if (any(lengths(own))) about$tables[[name]] <- noted(own)
    }
  }
  if (length(from$obs)) {
    about$obs <- paste0(assay, "_obs")
    sent$obsm[[about$obs]] <- to_pandas(from$obs, whole$cells)
  }
  if (is_main) {
    sent$var <- marked$var
  } else if (!"raw" %in% places) {
    known <- if (startsWith(places[[1]], "obsm/")) rownames(from$layers[[1]]) else rownames(whole$assays[[whole$main]]$var)
    if (length(marked$var) || !identical(rownames(marked$var), known)) about$var <- marked$var
  }
  sent$note$assays[[assay]] <- noted(about)
}

# What was known of the features that were put aside, of those of the main assay.
raw_var <- function(whole) {
  features <- rownames(whole$assays[[whole$main]]$var)
  var <- whole$record$raw_var
  if (all(features %in% rownames(var))) var[features, , drop = FALSE] else bare_frame(features)
}

# Variable features as scanpy has them: a column that marks them, and their ranks where these are not in their order.
with_variable <- function(var, variable) {
  if (is.null(variable) || identical(variable_of(var), variable)) return(list(var = var))
  before <- names(var)
  rank <- match(rownames(var), variable) - 1
  var$highly_variable <- !is.na(rank)
  if ("highly_variable_rank" %in% before || !identical(variable_of(var), variable)) var$highly_variable_rank <- rank
  list(var = var, added = if (length(setdiff(names(var), before))) setdiff(names(var), before))
}

variable_of <- function(var) {
  marked <- which(as.logical(var[["highly_variable"]]))
  rank <- suppressWarnings(as.numeric(as.character(var[["highly_variable_rank"]])))
  rownames(var)[if (length(rank)) marked[order(rank[marked])] else marked]
}

# features x cells -> Python's cells x features. Sparse, the one by columns is the other by rows.
send_turned <- function(x) {
  if (is.matrix(x)) return(bridge()$turned(plain_numbers(x)))
  bridge()$by_rows(as.array(x@i), as.array(x@p), as.array(x@x), ncol(x), nrow(x))
}

send_as_is <- function(x) {
  if (!methods::is(x, "Matrix")) return(bridge()$exact(plain_numbers(unname(as.matrix(x)))))
  bridge()$by_columns(as.array(x@i), as.array(x@p), as.array(x@x), nrow(x), ncol(x))
}

# Only doubles can be missing in NumPy.
plain_numbers <- function(x) {
  if (anyNA(x) && !is.double(x)) storage.mode(x) <- "double"
  unname(x)
}

# A table of the same cells in obsm: a data frame, with names, if it is small or dense; else sparse, with names in the note.
send_table <- function(values, cells) {
  framed <- !anyDuplicated(rownames(values)) &&
    (is.matrix(values) || (nrow(values) <= 1000 && !any(values@x == 0, na.rm = TRUE)))
  python <- send_turned(spread(values, cells))
  list(python = if (framed) bridge()$named_columns(python, as.list(rownames(values)), as.list(cells)) else python, framed = framed)
}

# A column for every cell; those that are not there have nothing.
spread <- function(values, cells) {
  if (identical(colnames(values), cells)) return(values)
  if (is.matrix(values)) values[, match(cells, colnames(values)), drop = FALSE] else with_cells(values, cells)
}

send_reduction <- function(sent, whole, name, features) {
  from <- whole$reductions[[name]]
  about <- from$about
  embeddings <- from$embeddings
  if (!identical(rownames(embeddings), whole$cells)) {
    about$cells <- rownames(embeddings)
    embeddings <- embeddings[match(whole$cells, rownames(embeddings)), , drop = FALSE]
  }
  sent$obsm[[whole$record$obsm[[name]] %||% reduction_key(name)]] <- send_as_is(embeddings)
  key <- whole$record$varm[[name]] %||% loadings_key(name)
  for (kind in c("loadings", "projected")[lengths(from[c("loadings", "projected")]) > 0]) {
    names <- rownames(from[[kind]])
    place <- paste0(key, if (kind == "projected") "_projected")
    if (all(names %in% features) && !place %in% names(sent$varm)) {
      all <- matrix(0, length(features), ncol(from[[kind]]))
      all[match(names, features), ] <- from[[kind]]
      sent$varm[[place]] <- send_as_is(all)
      if (!identical(names, features)) about[[kind]]$features <- names
    } else { # of another assay
      about[[kind]] <- list(values = unname(from[[kind]]), features = names)
    }
  }
  if (length(from$stdev)) {
    variance <- if (identical(sqrt(about$variance %||% NA_real_), from$stdev)) about$variance else from$stdev^2
    if (is.null(sent$misc[[name]]) || is_plain_list(sent$misc[[name]])) {
      others <- sent$misc[[name]] # where scanpy has it; its root is the same again, to the bit
      all <- c(others, list(variance = variance))
      sent$misc[[name]] <- if (identical(names(others), in_file_order(names(others)))) all[in_file_order(names(all))] else all
    } else {
      about$stdev <- from$stdev
    }
  }
  about$variance <- NULL
  sent$note$reductions[[name]] <- noted(about)
}

# What the object's class could not hold goes back, if its cells and features are all there.
send_aside <- function(sent, aside, cells, features) {
  names <- list(obsm = list(cells), varm = list(features), obsp = list(cells, cells), varp = list(features, features))
  for (slot in names(names)) {
    for (key in setdiff(names(aside[[slot]]), names(sent[[slot]]))) {
      values <- aside[[slot]][[key]]
      at <- Map(match, names[[slot]], dimnames(values)[seq_along(names[[slot]])])
      if (anyNA(unlist(at))) next
      values <- if (length(at) == 2) values[at[[1]], at[[2]], drop = FALSE] else values[at[[1]], , drop = FALSE]
      sent[[slot]][[key]] <- if (is.data.frame(values)) to_pandas(values, rownames(values)) else send_as_is(values)
    }
  }
}

# For R: where it would look in vain, and the order of what a file sorts.
note_places <- function(sent, whole, places) {
  at <- function(place) {
    for (assay in names(places)) {
      if (place %in% places[[assay]]) return(whole$assays[[assay]]$layers[[names(places[[assay]])[places[[assay]] == place][1]]])
    }
  }
  raw <- if (length(sent$raw)) "raw" %in% places[[whole$main]]
  guess <- places_guessed(whole$words, whole$main, !is.null(sent$x), names(sent$layers), sent$tables, raw,
                          function(place) is_whole(at(place)), roomy = whole$roomy)
  for (assay in names(places)) {
    if (!identical(guess[[assay]], places[[assay]])) {
      sent$note$assays[[assay]][c("layers", "places")] <- list(names(places[[assay]]), unname(places[[assay]]))
    }
  }
  orders <- list(assays = list(names(places), names(guess)))
  for (what in c("reductions", "graphs", "feature_graphs")) {
    names <- names(whole[[what]])
    orders[[what]] <- list(names, names[order(vapply(names, reduction_key, ""), method = "radix")])
  }
  sent$note$order <- noted(lapply(orders, function(both) if (!identical(both[[1]], both[[2]])) both[[1]]))
}

assemble <- function(sent, whole, call) {
  if (length(sent$note$assays[[whole$main]])) sent$note$main <- whole$main
  uns <- sent$misc
  if (length(noted(sent$note))) uns[["R"]] <- noted(sent$note)
  plain <- send_plain(uns)
  if (length(plain$left)) {
    left <- some_of(sub("^uns/", "", plain$left))
    warn_scelbo("data", c(paste0("Left out, because they are no plain values: ", left, " of the object's misc."),
                          i = "An AnnData holds lists (with names) of vectors, matrices and data frames."))
  }
  of_frame <- function(frame, name) {
    kinds <- column_kinds(frame)
    setNames(kinds, paste0(name, "/", names(kinds), recycle0 = TRUE))
  }
  kinds <- c(plain$kinds, of_frame(whole$obs, "obs"), of_frame(sent$var, "var"))
  slots <- lapply(mget(c("layers", "obsm", "varm", "obsp", "varp"), sent), as_dict)
  if (length(sent$raw)) slots$raw <- as_dict(sent$raw)
  py <- bridge(call)
  with_python(py$assemble(
    sent$x, to_pandas(whole$obs, whole$cells), to_pandas(sent$var, rownames(sent$var)), as_dict(slots), plain$python,
    as_dict(as.list(kinds)), as_dict(whole$record$index)
  ), call = call)
}
