# AnnData -> a whole object (see objects.R) in a class's words. `counts`: the layer in which they are, or "X"; `main`: what
# to call the AnnData's own assay; `roomy`: whether an assay of the class can hold any layer.
receive_whole <- function(adata, words, counts = "counts", main = NULL, roomy = TRUE, call = caller_env()) {
  got <- receive_pieces(adata, call)
  note <- got$misc$R
  main <- main %||% if (is.null(note$main) || note$main == sce_words$main) words$main else note$main
  if (length(note$assays)) names(note$assays)[names(note$assays) == note$main] <- main
  whole <- list(
    main = main, cells = got$cells, obs = got$obs, words = words, roomy = roomy,
    misc = got$misc[setdiff(names(got$misc), c("R", own_misc))], record = list(index = noted(got$index)),
    about = note[setdiff(names(note), c("main", "assays", "reductions", "obsp", "varp", "order", "kinds"))]
  )
  places <- places_found(got, note, words, whole$main, counts, roomy)
  check_counts(places, got, whole$main, words, counts, call)
  whole$assays <- sapply(names(places), function(assay) {
    receive_assay(got, places[[assay]], note$assays[[assay]], assay == whole$main)
  }, simplify = FALSE)
  tables <- vapply(note$assays, function(about) paste0("obsm/", about$obs %||% ""), "")
  used <- c(unlist(places, use.names = FALSE), tables)
  whole <- receive_reductions(whole, got, note$reductions, setdiff(got$of("obsm"), used))
  whole$graphs <- receive_graphs(got, "obsp", got$cells, note)
  whole$feature_graphs <- receive_graphs(got, "varp", got$features, note)
  whole <- in_order(whole, note$order)
  whole$record <- c(noted(whole$record), record_places(whole, places, got))
  told <- c(got$odd, names(got$pieces)[vapply(got$pieces, function(piece) piece$kind == "other", NA)])
  if (length(told)) warn_scelbo("data", paste0("Left out, because R has no such values: ", some_of(told), "."))
  with_peaks_apart(whole, note)
}

# Everything there is, by place.
receive_pieces <- function(adata, call) {
  py <- bridge(call)
  there <- to_r(with_python(py$contents(adata), call = call))
  told <- to_r(with_python(py$told(adata), call = call))
  kinds <- setNames(as.character(unlist(told$kinds$is)), as.character(unlist(told$kinds$of)))
  of_frame <- function(slot) {
    inside <- kinds[startsWith(names(kinds), slot)]
    setNames(inside, substring(names(inside), nchar(slot) + 1))
  }
  got <- list(
    adata = adata, cells = unique_names(names_of(adata$obs_names), "cells"), features = names_of(adata$var_names), index = there$index,
    obs = with_kinds(from_pandas(adata$obs), of_frame("obs/")), var = with_kinds(from_pandas(adata$var), of_frame("var/")),
    misc = receive_plain(told$uns, kinds), odd = unknown_in(told$uns)
  )
  rownames(got$obs) <- got$cells
  got$pieces <- list()
  for (slot in c("X", "raw", "layers", "obsm", "varm", "obsp", "varp")) {
    for (key in as.character(unlist(there[[slot]]))) {
      place <- if (nzchar(key)) paste0(slot, "/", key) else slot
      got$pieces[[place]] <- to_r(with_python(py$piece(adata, slot, key), call = call))
    }
  }
  got$of <- function(slot) grep(paste0("^", slot, "/"), names(got$pieces), value = TRUE)
  got
}

unique_names <- function(names, what) {
  if (!anyDuplicated(names)) return(names)
  warn_scelbo("data", paste0("Several ", what, " have one name, such as '", names[duplicated(names)][[1]],
                             "': they get a number behind it."))
  make.unique(names)
}

# assay -> c(layer = place): as noted, and what no note knows by itself.
places_found <- function(got, note, words, main, counts, roomy) {
  noted <- Filter(function(about) !is.null(about$places), note$assays)
  noted <- lapply(noted, function(about) setNames(about$places, in_words(about$layers, words)))
  if (!roomy) noted <- lapply(noted, function(places) places[names(places) %in% v3_slots])
  if (counts != "counts") noted[[main]] <- NULL
  noted <- lapply(noted, function(places) places[places %in% names(got$pieces)])
  noted <- noted[lengths(noted) > 0]
  own <- vapply(note$assays, function(about) paste0("obsm/", about$obs %||% ""), "")
  free <- setdiff(names(got$pieces), c(unlist(noted), own))
  framed <- Filter(function(place) !is.null(got$pieces[[place]]$names), intersect(free, got$of("obsm")))
  raw <- if ("raw" %in% free) identical(raw_features(got), got$features)
  keys <- function(places) key_of(places)
  guess <- places_guessed(words, main, "X" %in% free, keys(intersect(free, got$of("layers"))), keys(framed), raw,
                          function(place) is_whole(matrix_at(got, place)), counts, roomy, is.null(noted[[main]]))
  own <- c(noted[[main]], guess[[main]][setdiff(names(guess[[main]]), names(noted[[main]]))])
  places <- c(setNames(list(own), main), noted[setdiff(names(noted), main)], guess[setdiff(names(guess), c(main, names(noted)))])
  places[lengths(places) > 0]
}

# What the other class calls its normalised values.
in_words <- function(layers, words) {
  if (words$normalized %in% layers) layers else replace(layers, layers == words$foreign, words$normalized)
}

raw_features <- function(got) as.character(unlist(got$pieces$raw$var$index))

check_counts <- function(places, got, main, words, counts, call) {
  if (!length(places)) abort_scelbo("data", "The AnnData holds no matrix: neither X nor layers.", call = call)
  if (!"counts" %in% names(places[[main]])) {
    warn_scelbo("data", c(
      paste0("The values are not whole numbers, so they are no counts: they become '", words$normalized, "'."),
      i = "Name the layer that holds counts by `layer =`; `layer = \"X\"` takes X for counts whatever it holds.",
      i = "Counts come back from log values by backend()$data$counts_from_log(adata)."
    ))
  }
}

receive_assay <- function(got, places, about, is_main) {
  layers <- sapply(names(places), function(name) {
    own <- about$tables[[name]]
    x <- matrix_at(got, places[[name]], own$features)
    if (!is.null(own$cells)) x <- x[, got$cells[got$cells %in% own$cells], drop = FALSE]
    if (startsWith(places[[name]], "obsm/")) x <- if (isTRUE(own$dense) || name == "scale.data") as.matrix(x) else as_sparse(x)
    x
  }, simplify = FALSE)
  var <- if (is_main) {
    got$var
  } else if ("raw" %in% places) {
    receive_frame(got$pieces$raw$var)
  } else {
    about$var %||% bare_frame(rownames(layers[[1]]))
  }
  variable <- variable_of(var)
  obs <- if (!is.null(about$obs)) from_pandas(got$adata$obsm[[about$obs]])
  known <- c("layers", "places", "tables", "var", "added", "obs")
  list(layers = layers, var = var[setdiff(names(var), about$added)], variable = variable, obs = obs,
       about = about[setdiff(names(about), known)])
}

# A piece that is features x cells, with names.
matrix_at <- function(got, place, features = NULL) {
  piece <- got$pieces[[place]]
  if (place == "raw") features <- raw_features(got)
  if (startsWith(place, "obsm/")) features <- as.character(unlist(piece$names %||% features)) else features <- features %||% got$features
  x <- values_of(piece)
  if (startsWith(place, "obsm/") && is.null(piece$names)) x <- Matrix::t(x)
  dimnames(x) <- list(if (length(features) == nrow(x)) features, got$cells)
  x
}

values_of <- function(piece) if (piece$kind == "sparse") sparse_from(piece) else piece$values

sparse_from <- function(piece) {
  bare <- function(x) {
    dim(x) <- NULL
    x
  }
  methods::new(if (is.logical(piece$x)) "lgCMatrix" else "dgCMatrix", i = bare(piece$i), p = bare(piece$p), x = bare(piece$x),
               Dim = as.integer(unlist(piece$dim)))
}

# Dense matrices in obsm that are no tables; what else there is in obsm and varm is put aside.
receive_reductions <- function(whole, got, notes, places) {
  is_reduction <- vapply(places, function(place) got$pieces[[place]]$kind == "dense", NA)
  used <- places[is_reduction]
  for (place in used) {
    name <- reduction_name(key_of(place), names(whole$reductions))
    if (reduction_key(name) != key_of(place)) whole$record$obsm[[name]] <- key_of(place)
    about <- notes[[name]]
    embeddings <- got$pieces[[place]]$values
    rownames(embeddings) <- got$cells
    if (!is.null(about$cells)) embeddings <- embeddings[got$cells %in% about$cells, , drop = FALSE]
    found <- receive_loadings(got, about, name, setdiff(got$of("varm"), used))
    used <- c(used, found$places)
    if (length(found$key) && found$key != loadings_key(name)) whole$record$varm[[name]] <- found$key
    known <- c("cells", "loadings", "projected", "stdev")
    whole$reductions[[name]] <- list(embeddings = embeddings, loadings = found$loadings, projected = found$projected,
                                     stdev = about$stdev, about = about[setdiff(names(about), known)])
    if (is.null(about$stdev)) whole <- receive_stdev(whole, name)
  }
  for (place in setdiff(c(places, got$of("varm")), used)) {
    slot <- sub("/.*", "", place)
    whole$record$aside[[slot]][[key_of(place)]] <- with_rownames(got$pieces[[place]], if (slot == "obsm") got$cells else got$features)
  }
  whole
}

receive_loadings <- function(got, about, name, places) {
  key <- intersect(c(loadings_key(name), name), key_of(places))[1]
  found <- list(key = if (!is.na(key)) key)
  for (kind in c("loadings", "projected")) {
    own <- about[[kind]]
    place <- paste0("varm/", key, if (kind == "projected") "_projected")
    if (!is.null(own$values)) {
      found[[kind]] <- own$values
      rownames(found[[kind]]) <- own$features
    } else if (place %in% places && got$pieces[[place]]$kind == "dense") {
      values <- with_rownames(got$pieces[[place]], got$features)
      found[[kind]] <- if (is.null(own$features)) values else values[intersect(own$features, got$features), , drop = FALSE]
      found$places <- c(found$places, place)
    }
  }
  found
}

# Where scanpy has the variances of a PCA.
receive_stdev <- function(whole, name) {
  variance <- if (is_plain_list(whole$misc[[name]])) as.vector(whole$misc[[name]]$variance)
  from <- whole$reductions[[name]]
  if (!is.numeric(variance) || length(variance) != ncol(from$embeddings) || !all(variance >= 0)) return(whole)
  from$stdev <- sqrt(variance)
  if (!identical(from$stdev^2, variance)) from$about$variance <- variance
  whole$reductions[[name]] <- from
  whole$misc[[name]]$variance <- NULL
  if (!length(whole$misc[[name]])) whole$misc[[name]] <- NULL
  whole
}

with_rownames <- function(piece, names) {
  if (piece$kind == "frame") {
    frame <- receive_frame(piece$frame)
    attr(frame, "row.names") <- names
    return(frame)
  }
  values <- values_of(piece)
  if (is.null(values)) return(NULL)
  dimnames(values) <- list(names, NULL)
  values
}

receive_graphs <- function(got, slot, names, note) {
  places <- got$of(slot)
  places <- places[vapply(places, function(place) got$pieces[[place]]$kind != "other", NA)]
  lapply(setNames(places, key_of(places)), function(place) {
    values <- values_of(got$pieces[[place]])
    if (!methods::is(values, "Matrix")) values <- as_sparse(values)
    dimnames(values) <- list(names, names)
    list(values = values, about = note[[slot]][[key_of(place)]])
  })
}

# A file sorts its keys.
in_order <- function(whole, order) {
  for (what in names(order)) {
    names <- names(whole[[what]])
    whole[[what]] <- whole[[what]][c(intersect(order[[what]], names), setdiff(names, order[[what]]))]
  }
  whole
}

# For AnnData: what it would else find in another place.
record_places <- function(whole, places, got) {
  chosen <- places_chosen(whole)[names(places)]
  odd <- !unlist(Map(identical, chosen, places))
  noted(list(places = places[odd], no_x = if (!"X" %in% names(got$pieces)) TRUE,
             raw_var = if ("raw" %in% places[[whole$main]]) receive_frame(got$pieces$raw$var)))
}
