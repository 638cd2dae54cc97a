# Seurat objects as wholes, see objects.R. Assays with layers, metadata and variable features, reductions with loadings,
# graphs, neighbours, identities and plain values of `misc` come along; images, commands and what tools left do not.

whole_of <- function(object, call = caller_env()) UseMethod("whole_of")

#' @exportS3Method
whole_of.Seurat <- function(object, call = caller_env()) {
  main <- SeuratObject::DefaultAssay(object)
  record <- SeuratObject::Misc(object, slot = "anndata")
  assays <- sapply(c(main, setdiff(SeuratObject::Assays(object), main)), function(name) {
    assay_of_seurat(object[[name]], name, name == main, record$features[[name]], call)
  }, simplify = FALSE)
  graphs <- lapply(object@graphs, function(graph) {
    used <- SeuratObject::DefaultAssay(graph)
    list(values = as(graph, "dgCMatrix"), about = if (!identical(used, main)) list(assay = used))
  })
  idents <- idents_of(object, record)
  list(
    main = main, cells = colnames(object), obs = idents$obs, words = seurat_words, roomy = is_v5(object[[main]]), record = record,
    assays = assays, reductions = sapply(names(object@reductions), reduction_of_seurat, object = object, main = main,
                                         renamed = record$features, simplify = FALSE),
    graphs = c(graphs, neighbours_of(object)), misc = object@misc,
    about = noted(list(main = if (main != seurat_words$main) main, idents = idents$about,
                       project = if (object@project.name != "SeuratProject") object@project.name))
  )
}

# One assay alone (with the cells that it has), or all beside one that has all cells.
with_main_assay <- function(whole, object, assay, layer, call = caller_env()) {
  if (!is.null(assay)) check_assay(assay, names(whole$assays), call)
  of_all <- vapply(names(whole$assays), function(name) setequal(colnames(object[[name]]), whole$cells), NA)
  main <- assay %||% if (any(of_all)) names(whole$assays)[of_all][[1]] else whole$main
  warn_corrected(object[[main]], main, layer)
  if (main != whole$main) {
    whole$main <- main
    whole$about$main <- if (main != seurat_words$main) main
  }
  if (is.null(assay) && of_all[[main]]) return(whole)
  whole$assays <- whole$assays[main]
  if (of_all[[main]]) return(whole)
  whole$obs <- whole$obs[whole$cells %in% colnames(object[[main]]), , drop = FALSE]
  whole$cells <- rownames(whole$obs)
  whole$graphs <- list()
  whole$reductions <- Filter(function(reduction) setequal(rownames(reduction$embeddings), whole$cells), whole$reductions)
  whole
}

is_v5 <- function(assay) inherits(assay, "StdAssay")
makes_v5 <- function() utils::packageVersion("SeuratObject") >= "5.0.0"

variable_columns <- c("var.features", "var.features.rank")

assay_of_seurat <- function(from, name, is_main, renamed, call) {
  layers <- if (is_v5(from)) all_layers_v5(from, call) else all_slots_v3(from)
  var <- if (is_v5(from)) from[[]] else from@meta.features
  rownames(var) <- rownames(from)
  also <- if (is_v5(from)) intersect(variable_columns, names(var)) # where Seurat 5 keeps variable features, beside a method's own column
  var <- var[setdiff(names(var), also)]
  marked <- if (length(also) && any(endsWith(names(var), ".variable"))) TRUE
  key <- SeuratObject::Key(from)
  whole <- list(layers = layers, var = var, variable = intersect(SeuratObject::VariableFeatures(from), rownames(from)), about = noted(list(
    key = if (!identical(key, assay_key(name, is_main))) key,
    v3 = if (makes_v5() && !is_v5(from)) TRUE, marked = marked,
    misc = if (is_plain_list(from@misc)) from@misc[setdiff(names(from@misc), "calcN")] # Seurat 5's own
  )))
  rename_features(whole, renamed)
}

assay_key <- function(name, is_main) if (is_main) tolower(seurat_key(name)) else seurat_key(name)

# `renamed`: c(name here = name there).
rename_features <- function(assay, renamed) {
  if (!length(renamed)) return(assay)
  assay$layers <- lapply(assay$layers, function(x) {
    rownames(x) <- rename(rownames(x), renamed)
    x
  })
  attr(assay$var, "row.names") <- rename(rownames(assay$var), renamed)
  assay$variable <- rename(assay$variable, renamed)
  assay
}

rename <- function(names, renamed) {
  at <- match(names, names(renamed))
  replace(names, !is.na(at), unname(renamed[at[!is.na(at)]]))
}

# As Seurat 4 makes it, `data` are the counts until they are normalised.
all_slots_v3 <- function(from) {
  layers <- sapply(slots_filled(from), function(name) slot(from, name), simplify = FALSE)
  if (identical(layers$data, layers$counts)) layers$data <- NULL
  lapply(layers, sparse_or_dense)
}

# Split layers are joined; a layer may have part of the features, or of the cells.
all_layers_v5 <- function(from, call) {
  known <- seurat5("Layers")(from)
  joined <- known
  for (base in setdiff(rev(v3_slots), known)) joined[startsWith(joined, paste0(base, "."))] <- base
  sapply(unique(joined), function(name) {
    if (!name %in% known) return(layers_v5(from, name, call))
    sparse_or_dense(seurat5("LayerData")(from, layer = name, fast = FALSE))
  }, simplify = FALSE)
}

sparse_or_dense <- function(x) if (is.matrix(x) || inherits(x, c("dgCMatrix", "lgCMatrix"))) x else as_sparse(x)

reduction_of_seurat <- function(name, object, main, renamed) {
  from <- object@reductions[[name]]
  filled <- function(x) {
    rownames(x) <- rename(rownames(x), renamed[[from@assay.used]])
    if (length(x)) x
  }
  misc <- from@misc
  columns <- colnames(from@cell.embeddings)
  about <- list(
    key = if (from@key != dimension_key(name, object)) from@key, global = if (from@global) TRUE,
    assay = if (!identical(from@assay.used, main)) from@assay.used, variance = misc$variance,
    columns = if (!identical(columns, paste0(from@key, seq_along(columns)))) columns, misc = misc[setdiff(names(misc), "variance")]
  )
  list(embeddings = from@cell.embeddings, loadings = filled(from@feature.loadings),
       projected = filled(from@feature.loadings.projected), stdev = if (length(from@stdev)) from@stdev, about = noted(about))
}

# The key of a reduction; that of the assay "Spatial" is not for "spatial".
dimension_key <- function(name, object) {
  key <- seurat_key(name)
  if (key %in% vapply(object@assays, SeuratObject::Key, "")) sub("_$", "dim_", key) else key
}

# Each cell's neighbours as two graphs: how far they are, and which is the nearest, second, ...
neighbours_of <- function(object) {
  graphs <- list()
  for (name in names(object@neighbors)) {
    from <- object@neighbors[[name]]
    index <- from@nn.idx
    cells <- colnames(object)
    fits <- identical(from@cell.names, cells) && nrow(index) == length(cells) && all(index %in% seq_along(cells)) &&
      !any(apply(index, 1, anyDuplicated))
    if (!fits) {
      warn_scelbo("data", paste0("Left out, because they are not neighbours among the object's cells: '", name, "'."))
      next
    }
    sparse <- function(values) Matrix::sparseMatrix(as.vector(row(index)), as.vector(index), x = values, dims = rep(length(cells), 2))
    ranks <- paste0(name, "_ranks")
    graphs[[name]] <- list(values = sparse(as.vector(from@nn.dist)), about = noted(list(ranks = ranks, info = from@alg.info)))
    graphs[[ranks]] <- list(values = sparse(as.vector(col(index)) + 0))
  }
  graphs
}

# The identities are mostly a column of the metadata. What as_seurat() added itself does not go back.
idents_of <- function(object, record) {
  obs <- object@meta.data
  idents <- object@active.ident
  same <- function(column) {
    column <- if (is.factor(column)) column else factor(column)
    identical(as.character(column), as.character(idents)) && identical(levels(column), levels(idents))
  }
  columns <- names(obs)[vapply(obs, same, NA)]
  column <- if ("orig.ident" %in% columns) "orig.ident" else utils::tail(columns, 1)
  added <- setdiff(record$added, if (nlevels(factor(obs$orig.ident)) > 1 && !"orig.ident" %in% column) "orig.ident")
  about <- NULL
  if (!length(column)) about <- list(column = "active.ident", added = TRUE)
  if (length(column) && !column %in% c("orig.ident", added)) about <- list(column = column)
  if (isTRUE(about$added)) obs$active.ident <- unname(idents)
  list(obs = obs[setdiff(names(obs), added)], about = about)
}

# The inverse of whole_of().
whole_seurat <- function(whole, call = caller_env()) {
  rlang::check_installed("SeuratObject", reason = "to make a Seurat object.", call = call)
  renamed <- list()
  for (name in names(whole$assays)) {
    before <- rownames(whole$assays[[name]]$var)
    after <- make.unique(gsub("[_|]", "-", before)) # as Seurat writes them
    renamed[[name]] <- setNames(before, after)[before != after]
    whole$assays[[name]] <- rename_features(whole$assays[[name]], setNames(after, before)[before != after])
  }
  whole$record$features <- noted(renamed)
  if (length(whole$feature_graphs)) whole$record$aside$varp <- noted(lapply(whole$feature_graphs, function(graph) graph$values))
  object <- NULL
  for (name in names(whole$assays)) {
    assay <- assay_seurat(whole$assays[[name]], whole$cells)
    SeuratObject::Key(assay) <- whole$assays[[name]]$about$key %||% assay_key(name, is.null(object))
    if (is.null(object)) {
      object <- SeuratObject::CreateSeuratObject(assay, assay = name, project = whole$about$project %||% "SeuratProject")
    } else {
      suppressWarnings(object[[name]] <- assay) # Seurat 5 misses a layer of counts in some
    }
  }
  for (name in names(whole$reductions)) object[[name]] <- reduction_seurat(whole$reductions[[name]], name, object, renamed[[whole$main]])
  object <- with_graphs(object, whole)
  added <- object@meta.data # Seurat's own columns
  if ("orig.ident" %in% names(whole$obs)) added <- added[0]
  added <- added[setdiff(names(added), names(whole$obs))]
  obs <- cbind(added, whole$obs)
  about <- whole$about$idents %||% list(column = "orig.ident")
  if (about$column %in% names(obs)) {
    idents <- obs[[about$column]]
    object@active.ident <- setNames(if (is.factor(idents)) idents else factor(idents), whole$cells)
    if (isTRUE(about$added)) obs[[about$column]] <- NULL
  }
  object@meta.data <- obs
  record <- noted(c(whole$record, list(added = names(added))))
  object@misc <- c(whole$misc, if (length(record)) list(anndata = record))
  object
}

assay_seurat <- function(from, cells) {
  layers <- from$layers
  if (makes_v5() && !isTRUE(from$about$v3) && all(dim(layers[[1]]) > 1)) {
    first <- intersect(c("counts", "data"), names(layers))
    if (!length(first)) first <- names(layers)[[1]]
    assay <- do.call(seurat5("CreateAssay5Object"), if (any(v3_slots[1:2] %in% first)) layers[first] else list(counts = layers[[first]]))
    fits <- vapply(layers, function(x) nrow(x) > 1, NA)
    if (!all(fits)) {
      warn_scelbo("data", paste0("Left out, because Seurat 5 has no layer of one feature: ", some_of(names(layers)[!fits]), "."))
    }
    for (name in setdiff(names(layers)[fits], first)) assay <- seurat5("LayerData<-")(assay, layer = name, value = layers[[name]])
    if (length(from$var)) assay <- SeuratObject::AddMetaData(assay, from$var)
  } else {
    layers <- lapply(layers, function(x) spread(if (methods::is(x, "lMatrix")) as(x, "dMatrix") else x, cells))
    assay <- if (is.null(layers$counts)) {
      SeuratObject::CreateAssayObject(data = layers$data)
    } else {
      SeuratObject::CreateAssayObject(counts = layers$counts)
    }
    if (!is.null(layers$data)) assay@data <- layers$data
    if (!is.null(layers$scale.data)) assay@scale.data <- as.matrix(layers$scale.data)
    assay@meta.features <- from$var
  }
  known <- SeuratObject::VariableFeatures(assay) # in Seurat 5 also from metadata
  if (length(from$variable) && (!identical(known, from$variable) || isTRUE(from$about$marked))) {
    SeuratObject::VariableFeatures(assay) <- from$variable
  }
  if (length(from$about$misc)) assay@misc <- from$about$misc
  assay
}

reduction_seurat <- function(from, name, object, renamed) {
  about <- from$about
  key <- about$key %||% dimension_key(name, object)
  columns <- about$columns %||% paste0(key, seq_len(ncol(from$embeddings)))
  storage.mode(from$embeddings) <- "double"
  colnames(from$embeddings) <- columns
  loadings <- lapply(from[c("loadings", "projected")], function(x) {
    if (is.null(x)) return(methods::new("matrix"))
    dimnames(x) <- list(rename(rownames(x), setNames(names(renamed), renamed)), columns[seq_len(ncol(x))])
    x
  })
  SeuratObject::CreateDimReducObject(
    embeddings = from$embeddings, loadings = loadings[[1]], projected = loadings[[2]], stdev = from$stdev %||% numeric(), key = key,
    assay = about$assay %||% SeuratObject::DefaultAssay(object), global = isTRUE(about$global),
    misc = c(about$misc, if (!is.null(about$variance)) list(variance = about$variance)) %||% list()
  )
}

with_graphs <- function(object, whole) {
  ranks <- unlist(lapply(whole$graphs, function(graph) graph$about$ranks))
  for (name in setdiff(names(whole$graphs), ranks)) {
    from <- whole$graphs[[name]]
    neighbours <- if (name %in% names(ranks)) neighbours_seurat(from, whole$graphs[[ranks[[name]]]]$values)
    if (is.null(neighbours)) {
      neighbours <- SeuratObject::as.Graph(as_sparse(from$values))
      SeuratObject::DefaultAssay(neighbours) <- from$about$assay %||% whole$main
    }
    object[[name]] <- neighbours
  }
  object
}

# NULL where some cells of the neighbours are gone: then only a graph is left of them.
neighbours_seurat <- function(from, ranks) {
  if (is.null(ranks)) return(NULL)
  n <- nrow(ranks)
  at <- Matrix::summary(ranks)
  k <- max(at$x, 0)
  if (nrow(at) != n * k) return(NULL)
  index <- far <- matrix(0, n, k)
  index[cbind(at$i, at$x)] <- at$j
  far[cbind(at$i, at$x)] <- Matrix::summary(from$values)$x # they have the same cells in the same order
  methods::new(structure("Neighbor", package = "SeuratObject"), nn.idx = index, nn.dist = far,
               alg.info = from$about$info %||% list(), cell.names = rownames(ranks))
}
