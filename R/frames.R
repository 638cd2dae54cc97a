# Metadata both ways, exactly. reticulate's own conversion of a data.frame turns a missing logical into TRUE or FALSE
# and a missing integer into -2147483648, silently. So each column travels as (name, kind, values, levels or mask of
# NA).

# data.frame (or DataFrame) -> pandas.DataFrame; columns that are no plain vectors are left out, and named.
to_pandas <- function(frame, index = rownames(frame)) {
  columns <- lapply(setNames(names(frame), names(frame)), function(name) plain_vector(frame[[name]]))
  odd <- vapply(columns, is.null, NA)
  if (any(odd)) {
    warn_scelbo("data", paste0("Left out, because they are no plain vectors: column ", some_of(names(frame)[odd]), "."))
  }
  columns <- columns[!odd]
  bridge()$frame(unname(Map(column_to_python, names(columns), columns)), as.list(as.character(index)))
}

plain_vector <- function(x) {
  if (methods::is(x, "Rle") || methods::is(x, "Factor")) x <- S4Vectors::decode(x)
  if (!is.atomic(x) || !is.null(dim(x)) || is.complex(x) || is.raw(x)) return(NULL)
  x
}

column_to_python <- function(name, x) {
  send <- function(kind, values, more = NULL) as_tuple(name, kind, as.array(values), more)
  coded <- function(x, levels) {
    codes <- match(x, levels, nomatch = 0L)
    as.array(codes - 1L)
  }
  mask <- function(x) if (anyNA(x)) as.array(is.na(x))
  if (is.factor(x)) {
    levels <- levels(x)[!is.na(levels(x))]
    send("factor", coded(as.character(x), levels), as_tuple(as.list(levels), is.ordered(x)))
  } else if (is.character(x)) {
    values <- unique(x[!is.na(x)])
    send("string", coded(x, values), as.list(enc2utf8(values)))
  } else if (is.logical(x)) {
    send("bool", replace(x, is.na(x), FALSE), mask(x))
  } else if (inherits(x, "Date")) { # as text: h5ad has no dates
    column_to_python(name, format(x, "%Y-%m-%d"))
  } else if (inherits(x, "POSIXt")) {
    column_to_python(name, format(x, "%Y-%m-%dT%H:%M:%OS6%z"))
  } else if (is.integer(x)) {
    send("int", as.integer(replace(x, is.na(x), 0L)), mask(x))
  } else {
    send("double", as.double(x)) # NA and NaN differ in their bits, and keep them
  }
}

# pandas.DataFrame -> data.frame
from_pandas <- function(frame) receive_frame(to_r(bridge()$columns(frame)))

receive_frame <- function(parts) {
  columns <- lapply(parts$columns, column_from_python)
  names(columns) <- vapply(parts$columns, function(column) column[[1]], "")
  index <- as.character(unlist(parts$index))
  row_names <- if (anyDuplicated(index)) seq_along(index) else index
  structure(columns, row.names = row_names, class = "data.frame")
}

column_from_python <- function(column) {
  kind <- column[[2]]
  values <- as.vector(column[[3]])
  more <- column[[4]]
  missing <- function(x) if (is.null(more)) x else replace(x, as.vector(more), NA)
  switch(kind,
    factor = structure(
      replace(values + 1L, values < 0L, NA), levels = as.character(unlist(more[[1]])),
      class = c(if (more[[2]]) "ordered", "factor")
    ),
    string = as.character(unlist(more))[replace(values + 1L, values < 0L, NA)],
    bool = missing(as.logical(values)),
    int = missing(as.integer(values)),
    double = as.double(values)
  )
}

# Of which columns the kind is not what comes back: a date is text in Python, and in a file text that may be missing is
# categories. -> character vector by column.
column_kinds <- function(frame) {
  kinds <- vapply(setNames(names(frame), names(frame)), function(name) kind_of(plain_vector(frame[[name]])), "")
  kinds[nzchar(kinds)]
}

kind_of <- function(x) {
  if (inherits(x, "Date")) return("Date")
  if (inherits(x, "POSIXt")) return(paste(c("POSIXct", attr(x, "tzone")[1]), collapse = " "))
  if (is.character(x) && anyNA(x)) return("character")
  if (is.factor(x) && !nlevels(x)) "factor" else ""
}

with_kinds <- function(frame, kinds) {
  for (name in intersect(names(kinds), names(frame))) frame[[name]] <- with_kind(frame[[name]], kinds[[name]])
  frame
}

with_kind <- function(x, kind) {
  zone <- sub("^POSIXct ?", "", kind)
  switch(sub(" .*", "", kind),
    Date = as.Date(as.character(x)),
    POSIXct = {
      time <- as.POSIXct(strptime(as.character(x), "%Y-%m-%dT%H:%M:%OS%z", tz = "UTC"))
      attr(time, "tzone") <- if (kind != "POSIXct") zone
      time
    },
    character = as.character(x),
    factor = factor(x, character()),
    x
  )
}
