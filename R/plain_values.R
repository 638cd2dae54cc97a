# Plain values both ways, as the `uns` of an AnnData holds them: nested lists of vectors, matrices and data frames. Python
# tells a number from an array of one number; in R the latter is an array of one dimension.

# list -> list(python, kinds, left): a Python dict; the kinds, by path, that Python has no word for; and the paths of what
# is no plain value, and stays here.
send_plain <- function(values) {
  notes <- new.env()
  notes$kinds <- notes$left <- character()
  python <- send_list(values, "uns", notes)
  list(python = python, kinds = notes$kinds, left = notes$left)
}

# A file sorts what has names, so their order is noted, too: by lines.
send_list <- function(values, path, notes, kind = "list") {
  paths <- paste0(path, "/", names(values), recycle0 = TRUE)
  plain <- vapply(values, is_plain, NA)
  names <- names(values)[plain]
  sorted <- identical(names, in_file_order(names))
  if (kind != "list" || !sorted) notes$kinds[[path]] <- paste(c(kind, if (!sorted) names), collapse = "\n")
  notes$left <- c(notes$left, paths[!plain])
  as_dict(Map(send_value, values[plain], paths[plain], MoreArgs = list(notes = notes)))
}

send_value <- function(x, path, notes) {
  below <- paste0(path, "/")
  note <- function(kinds, paths = path) notes$kinds <- c(notes$kinds, setNames(kinds, rep_len(paths, length(kinds))))
  if (is.null(x)) return(NULL)
  if (is_frame(x)) {
    kinds <- column_kinds(x)
    note(kinds, paste0(below, names(kinds), recycle0 = TRUE))
    frame <- to_pandas(x)
    return(if (inherits(x, "recarray")) bridge()$recarray(frame) else frame)
  }
  if (is.list(x)) return(send_list(x, path, notes))
  if (length(dim(x)) == 2 && (length(unlist(dimnames(x))) || (is.character(x) && anyNA(x)))) note(sides_of(x), paste0(below, "sides"))
  if (methods::is(x, "Matrix") || (length(dim(x)) > 1 && !is.character(x))) return(send_as_is(x))
  if (length(names(x))) return(send_list(as.list(x), path, notes, "names"))
  bare <- if (is.object(x)) x else as.vector(x)
  note(unname(column_kinds(list(x = bare))))
  if (length(x) == 1 && is.null(dim(x)) && !anyNA(x) && !is.object(x)) return(reticulate::r_to_py(bare))
  parts <- column_to_python("", bare)
  bridge()$vector(parts[[1]], parts[[2]], parts[[3]], as.list(dim(x)))
}

is_plain_list <- function(x) is.list(x) && !is.object(x)

is_frame <- function(x) is.data.frame(x) || methods::is(x, "DataFrame")

is_plain <- function(x) {
  if (is.null(x) || is_frame(x)) return(TRUE)
  if (is.list(x)) return(!is.object(x) && (!length(x) || !is.null(names(x))))
  if (methods::is(x, "Matrix")) return(inherits(x, c("dgCMatrix", "lgCMatrix")))
  x <- if (length(dim(x))) as.vector(x) else x
  !is.null(plain_vector(x)) && (!is.object(x) || is.factor(x) || inherits(x, c("Date", "POSIXct")))
}

# What bridge_objects.told() says -> list. `kinds`: of send_plain(), to read it by.
receive_plain <- function(told, kinds = character(), path = "uns") {
  below <- paste0(path, "/")
  kind <- if (path %in% names(kinds)) kinds[[path]]
  sided <- function(x) if (paste0(below, "sides") %in% names(kinds)) with_sides(x, kinds[[paste0(below, "sides")]]) else x
  switch(told$kind,
    null = NULL,
    list = {
      keys <- as.character(unlist(told$names))
      values <- Map(receive_plain, told$items, path = paste0(below, keys, recycle0 = TRUE), MoreArgs = list(kinds = kinds))
      values <- if (length(values)) setNames(values, keys) else list()
      order <- strsplit(kind %||% "list", "\n", fixed = TRUE)[[1]]
      values <- values[c(intersect(order[-1], keys), setdiff(keys, order[-1]))]
      if (order[[1]] == "names") unlist(values) else values
    },
    records = ,
    frame = {
      frame <- receive_frame(told$frame)
      inside <- kinds[startsWith(names(kinds), below)]
      frame <- with_kinds(frame, setNames(inside, substring(names(inside), nchar(below) + 1)))
      if (told$kind == "records") class(frame) <- c("recarray", class(frame))
      frame
    },
    vector = {
      x <- column_from_python(c(list(""), told$parts))
      if (!is.null(kind)) x <- with_kind(x, kind) else if (told$one) told$dim <- 1
      if (length(told$dim)) dim(x) <- as.integer(unlist(told$dim))
      sided(x)
    },
    dense = sided(told$values),
    sparse = sided(sparse_from(told))
  )
}

# A matrix's sides, by lines: how long they are, how many names each has, and these. Python has no matrix of texts of which some
# are missing, and no matrix with names.
sides_of <- function(x) {
  names <- dimnames(x) %||% list(NULL, NULL)
  if (any(grepl("\n", unlist(names)))) names[] <- list(NULL)
  paste(c(dim(x), lengths(names), unlist(names)), collapse = "\n")
}

with_sides <- function(x, noted) {
  noted <- strsplit(paste0(noted, "\n"), "\n", fixed = TRUE)[[1]] # a name at the end may be empty
  long <- as.integer(noted[1:4])
  dim(x) <- long[1:2]
  names <- split(noted[-(1:4)], rep(factor(1:2), long[3:4]))
  if (any(long[3:4] > 0)) dimnames(x) <- lapply(unname(names), function(side) if (length(side)) side)
  x
}

# The paths of what R has no word for.
unknown_in <- function(told, path = "uns") {
  if (told$kind == "other") return(path)
  keys <- paste0(path, "/", as.character(unlist(told$names)), recycle0 = TRUE)
  unlist(Map(unknown_in, told$items, keys), use.names = FALSE)
}
