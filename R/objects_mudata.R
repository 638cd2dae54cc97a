#' Assays as modalities of a MuData
#'
#' In an AnnData one assay is `X`, and the others stand in `obsm`; here each is an AnnData of its own, with its layers, what is known
#' of its features, and the cells that it has. All else ([as_anndata()] lists it) is with the first, metadata of cells also in
#' the MuData's own `obs`.
#'
#' @param object A Seurat object or a SingleCellExperiment.
#' @return `as_mudata()`: a Python MuData; its modalities have the names of the assays (`altExps`), the default assay is the first.
#'   [as_seurat()] and [as_sce()] take it back, or the file.
#' @seealso [as_anndata()], [from_anndata].
#' @examplesIf backend_available() && rlang::is_installed("SeuratObject")
#' so <- simulate_cells("cite", n_cells = 100, n_genes = 50, n_proteins = 5)
#' as_mudata(so)
#' path <- write_h5mu(so, tempfile(fileext = ".h5mu"))
#' as_seurat(path)
#' @export
as_mudata <- function(object) {
  if (!inherits(object, c("Seurat", "SummarizedExperiment"))) {
    abort_scelbo("setup", paste0("A MuData cannot be made of an object of class ", class(object)[[1]], "."),
                 "Give a Seurat object or a SingleCellExperiment.")
  }
  whole <- whole_of(object)
  if (inherits(object, "Seurat")) whole <- with_main_assay(whole, object, NULL, NULL)
  whole$about$order <- names(whole$assays)
  parts <- sapply(names(whole$assays), function(name) send_whole(modality_of(whole, name)), simplify = FALSE)
  with_python(bridge()$mudata(as_dict(parts), to_pandas(whole$obs, whole$cells)))
}

#' @rdname as_mudata
#' @param path Where to write, whole or not at all: a file of that name stays as it is until the new one is written.
#' @export
write_h5mu <- function(object, path) {
  mdata <- as_mudata(object)
  with_python(bridge()$write(mdata, path.expand(path)))
  invisible(path)
}

# One assay with what is known of it; the main one has all the rest.
modality_of <- function(whole, name) {
  own <- whole$assays[[name]]
  whole$assays <- whole$assays[name]
  whole$record$beside <- NULL
  if (name == whole$main) return(whole)
  cells <- colnames(own$layers[[1]])
  list(main = name, cells = cells, obs = own$obs %||% bare_frame(cells), words = whole$words, roomy = whole$roomy, record = list(),
       assays = whole$assays, reductions = list(), misc = list(), about = list())
}

# The inverse: of each modality its assays, of the first all else, and reductions of all.
receive_modalities <- function(mdata, words, counts, roomy, call) {
  told <- to_r(with_python(bridge(call)$modalities(mdata), call = call))
  names <- as.character(unlist(told))
  wholes <- lapply(setNames(names, names), function(name) {
    receive_whole(mdata$mod[[name]], words, counts, main = name, roomy = roomy, call = call)
  })
  whole <- wholes[[1]]
  order <- whole$about$order
  whole$about$order <- NULL
  whole$cells <- names_of(mdata$obs_names)
  whole$obs <- from_pandas(with_python(bridge(call)$obs_of_all(mdata), call = call))
  kept <- intersect(names(wholes[[1]]$obs), names(whole$obs))
  if (identical(wholes[[1]]$cells, whole$cells)) whole$obs[kept] <- wholes[[1]]$obs[kept] # with their kinds
  assays <- do.call(c, lapply(unname(wholes), function(part) part$assays))
  names(assays) <- make.unique(names(assays))
  whole$assays <- assays[c(intersect(order, names(assays)), setdiff(names(assays), order))]
  of_all <- function(part) setequal(part$cells, whole$cells)
  for (name in names) {
    part <- wholes[[name]]
    if (!of_all(part)) {
      if (length(part$reductions)) warn_scelbo("data", paste0("Left out, as '", name, "' has not all cells: its reductions and graphs."))
      if (name == names[[1]]) whole[c("reductions", "graphs")] <- list(list(), list())
    } else if (name != names[[1]]) {
      whole$reductions <- together(whole$reductions, part$reductions, name)
      whole$graphs <- together(whole$graphs, part$graphs, name)
    }
    if (name != names[[1]] && length(part$obs)) whole$assays[[name]]$obs <- part$obs
  }
  whole
}

# With what another modality has, of its assay.
together <- function(all, more, name) {
  more <- lapply(more, function(x) {
    x$about$assay <- name
    x
  })
  all <- c(all, more)
  if (length(all)) setNames(all, make.unique(names(all))) else all
}
