# From the user's object to what a model reads: an AnnData with the chosen features and only the columns asked for.

# Arguments of every constructor that say what is read; all others are fields of the Python class.
column_arguments <- c("batch", "labels", "fine_labels", "categorical", "continuous", "size_factor", "panel")
source_arguments <- c("object", "assay", "layer", "features", "allow_non_counts", "unlabeled", "protein_assay",
                      "protein_layer", "peak_assay", "peak_layer", "regions", "smoothed_layer")

# `recipe` says where: assay, layer, features (those in `absent` need not be there; none and `whole`: all that there
# are), columns (those in `optional` need not be there; `categories` names those beside R's own words that are such), beside
# (see beside.R), smoothed (a layer, see read_smoothed()), and
# `leave`: counts on disk may stay there, with all features: the caller sees to it that of these only the `chosen` ones are
# read. The answer holds the AnnData and the recipe as it was resolved, so that another object can be read likewise.
read_data <- function(object, recipe, call = caller_env()) {
  if (is_anndata(object)) return(read_anndata(object, recipe, call))
  if (length(recipe$beside)) recipe$genes <- genes_in(recipe) %||% default_modality(object)
  check_genes(object, recipe, call)
  cells <- read_together(object, recipe, call)
  recipe$columns <- find_columns(columns_needed(recipe, names(cells$obs)), cells$obs, call)
  variable <- intersect(cells$variable, rownames(cells$counts))
  if (!isTRUE(recipe$whole)) {
    recipe$features <- recipe$features %||% if (length(variable)) variable else rownames(cells$counts)
  }
  for (name in category_columns(recipe)) cells$obs[[name]] <- as_category(cells$obs[[name]])
  features <- features_there(recipe, rownames(cells$counts))
  tables <- read_tables(object, recipe, cells, call)
  layers <- read_smoothed(object, recipe, cells, call)
  if (!is.null(recipe$beside$atac)) {
    recipe <- choose_regions(recipe, cells)
    there <- regions_there(recipe, rownames(cells$regions))
    check_names(features, rownames(cells$counts), "feature", call)
    check_names(there, rownames(cells$regions), "region", call)
    cells <- side_by_side(cells, features, there)
    features <- NULL
  }
  chosen <- NULL
  if (!isTRUE(recipe$leave)) {
    cells$counts <- as_sparse(cells$counts)
  } else if (!is.null(place_on_disk(cells$counts))) {
    if (!setequal(features, rownames(cells$counts))) chosen <- features
    features <- NULL
  }
  var <- if (!is.null(recipe$beside$atac)) cells$var
  list(
    adata = send_cells(cells, features, unique(unlist(recipe$columns)), var = var, tables = tables, layers = layers, call = call),
    recipe = recipe,
    cells = colnames(cells$counts),
    variable = intersect(variable, recipe$features),
    chosen = chosen
  )
}

read_anndata <- function(object, recipe, call) {
  adata <- python_anndata(object, call = call)
  check_obsm(adata, recipe$beside$protein, call)
  known <- names_of(adata$var_names)
  features <- c(features_there(recipe, known), regions_there(recipe, known))
  chosen <- NULL
  if (isTRUE(recipe$leave) && to_r(bridge(call)$stays_on_disk(adata))) {
    if (!is.null(features) && !identical(features, known)) chosen <- check_names(features, known, "feature", call)
  } else {
    adata <- python_anndata(adata, features, call)
  }
  if (!isTRUE(recipe$whole)) recipe$features <- recipe$features %||% names_of(adata$var_names)
  obs <- from_pandas(adata$obs)
  recipe$columns <- find_columns(columns_needed(recipe, names(obs)), obs, call)
  has_layer <- recipe$layer %in% unlist(to_r(bridge()$layers(adata)))
  list(adata = adata, recipe = recipe, cells = names_of(adata$obs_names), variable = character(),
       layer = if (has_layer) recipe$layer, chosen = chosen)
}

# Other cells for a Python model, read as its own were; their counts are put where it looks for them.
read_like <- function(python, object, recipe, call = caller_env()) {
  recipe$optional <- as.character(unlist(to_r(bridge(call)$optional_columns(python))))
  recipe$leave <- TRUE # Python finds features by name
  data <- read_data(object, recipe, call)
  data$recipe$leave <- NULL
  tables <- setNames(recipe$beside$protein["assay"], recipe$beside$protein$key)
  data$adata <- with_python(bridge(call)$placed(python, data$adata, data$layer, as_dict(tables)), call = call)
  data
}

# Counts smoothed over neighbours, if the recipe asks for them: a list with a matrix like that of the counts, under the name of
# its layer (or of an assay of its own, as Seurat 4 has no further layers).
read_smoothed <- function(object, recipe, cells, call = caller_env()) {
  name <- recipe$smoothed
  if (is.null(name)) return(list())
  layers <- own_layers(object, genes_in(recipe))
  others <- modalities_in(object)
  check_names(name, c(layers, others), "layer (or assay) of smoothed counts", call)
  values <- if (name %in% layers) read_cells(object, if (inherits(object, "Seurat")) genes_in(recipe), name, call)$counts else
    read_modality(object, name, layers_in(object, name)[[1]], call)
  check_names(rownames(cells$counts), rownames(values), paste0("feature of '", name, "'"), call)
  check_names(colnames(cells$counts), colnames(values), paste0("spot of '", name, "'"), call)
  setNames(list(values[rownames(cells$counts), colnames(cells$counts), drop = FALSE]), name)
}

features_there <- function(recipe, known) {
  if (length(recipe$absent)) setdiff(recipe$features, setdiff(recipe$absent, known)) else recipe$features
}

# Regions: those that were chosen, else the variable ones, else all.
choose_regions <- function(recipe, cells) {
  known <- rownames(cells$regions)
  variable <- intersect(cells$variable_regions, known)
  recipe$beside$atac$features <- recipe$beside$atac$features %||% if (length(variable)) variable else known
  recipe
}

# As with the features of a query, so with its regions.
regions_there <- function(recipe, known) {
  regions <- recipe$beside$atac$features
  if (length(recipe$absent) || isFALSE(recipe$beside$atac$needed)) intersect(regions, known) else regions
}

columns_needed <- function(recipe, known) {
  lapply(recipe$columns, function(asked) {
    if (is.character(asked)) setdiff(asked, setdiff(recipe$optional, known)) else asked
  })
}

names_of <- function(index) as.character(to_r(index$astype("str")$tolist()))

category_columns <- function(recipe) {
  unique(unlist(recipe$columns[c("batch", "labels", "fine_labels", "categorical", "panel", recipe$categories)]))
}

# Numbers and logicals become factors, so that their categories read as in R ("1", not "1.0") and in R's order.
as_category <- function(x) if (is.numeric(x) || is.logical(x)) factor(x) else x

# The columns asked for: a formula is taken apart, and every one must be there.
find_columns <- function(columns, obs, call = caller_env()) {
  formula <- columns$batch
  named <- lapply(columns, function(asked) if (rlang::is_formula(asked)) formula_columns(asked, call) else asked)
  odd <- !vapply(named, function(asked) is.null(asked) || is.character(asked), NA)
  if (any(odd)) {
    abort_scelbo("argument", paste0("`", names(named)[odd][[1]], "` must name columns of the metadata."),
                 "Add the values to the object first, then give the column's name.", call = call)
  }
  there <- check_names(unique(unlist(named)), names(obs), "column in the metadata", call)
  columns <- lapply(named, function(asked) asked[asked %in% there])
  if (!rlang::is_formula(formula)) return(columns)
  terms <- columns$batch
  categorical <- !vapply(terms, function(name) is.numeric(obs[[name]]), NA)
  factors <- terms[categorical]
  more <- list(categorical = factors[-1], continuous = terms[!categorical])
  odd <- setdiff(names(more)[lengths(more) > 0], names(columns))
  if (length(odd)) {
    abort_scelbo("argument", paste0("The model takes out no more than the batch: '", more[[odd[[1]]]][[1]], "' is beyond it."),
                 "Name the batch alone; or add a column that combines factors: interaction(batch, donor).", call = call)
  }
  columns["batch"] <- list(if (length(factors)) factors[[1]])
  for (kind in intersect(names(more), names(columns))) columns[[kind]] <- c(columns[[kind]], more[[kind]])
  columns
}

formula_columns <- function(formula, call) {
  terms <- stats::terms(formula)
  labels <- gsub("^`|`$", "", attr(terms, "term.labels"))
  if (length(formula) != 2 || any(attr(terms, "order") > 1)) {
    abort_scelbo("argument", paste0("The formula `", deparse1(formula), "` cannot be used."),
                 "It only names columns, as in `~ batch + donor + percent.mt`.", call = call)
  }
  labels
}

# Cells as names, positions or logicals -> positions from zero, for Python. NULL stays NULL: all.
cell_positions <- function(cells, names, call = caller_env()) {
  if (is.null(cells)) return(NULL)
  if (is.logical(cells) && length(cells) > length(names) && all(names %in% names(cells))) cells <- cells[names] # of a sketch
  if (is.character(cells)) {
    check_names(cells, names, "cell", call)
    cells <- match(cells, names)
  } else if (is.logical(cells) && length(cells) == length(names)) {
    cells <- which(cells)
  } else if (!is.numeric(cells) || anyNA(cells) || any(cells < 1 | cells > length(names))) {
    abort_scelbo("argument", paste0("`cells` must be names, positions from 1 to ", length(names),
                                    ", or one logical for each of these cells."), call = call)
  }
  as.integer(cells) - 1L
}
