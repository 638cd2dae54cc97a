# Objects that hold all that theirs may, and ways through a file.

# 60 cells; made once.
full_seurat <- function() {
  skip_if_not_installed("Seurat")
  if (!is.null(shared$full)) return(shared$full)
  counts <- simulate_counts(60, 40)
  rownames(counts)[3] <- "MT-\u00e9\u4e2d"
  quiet <- function(step, object, ...) suppressWarnings(suppressMessages(step(object, ..., verbose = FALSE)))
  object <- SeuratObject::CreateSeuratObject(counts, project = "blood")
  object <- quiet(Seurat::NormalizeData, object)
  object <- quiet(Seurat::FindVariableFeatures, object, nfeatures = 20)
  object <- quiet(Seurat::ScaleData, object) # of the variable features
  object <- quiet(Seurat::RunPCA, object, npcs = 5)
  object <- quiet(Seurat::FindNeighbors, object, dims = 1:4, k.param = 8)
  object <- quiet(Seurat::FindNeighbors, object, dims = 1:4, k.param = 8, return.neighbor = TRUE, graph.name = "nearest")
  proteins <- counts[1:6, ]
  rownames(proteins) <- paste0("P", 6:1)
  object[["ADT"]] <- SeuratObject::CreateAssayObject(counts = proteins)
  object <- quiet(Seurat::NormalizeData, object, assay = "ADT", normalization.method = "CLR", margin = 2)
  object[["ADT"]] <- SeuratObject::AddMetaData(object[["ADT"]], data.frame(clone = letters[1:6], row.names = paste0("P", 6:1)))
  object <- SeuratObject::AddMetaData(object, dated_metadata(colnames(object)))
  SeuratObject::Idents(object) <- "factor_too"
  SeuratObject::Misc(object, "settings") <- plain_settings()
  shared$full <- object
}

dated_metadata <- function(cells) {
  frame <- odd_metadata()[rep(1:6, length.out = length(cells)), ]
  frame$day <- as.Date(c("2020-01-01", NA))[rep(1:2, length.out = length(cells))]
  frame$time <- as.POSIXct("2020-01-01 10:11:12", tz = "Europe/Rome") + seq_along(cells)
  frame$factor_too <- factor(rep(c("z", "y"), length.out = length(cells)), levels = c("z", "y"))
  rownames(frame) <- cells
  frame
}

plain_settings <- function() {
  list(
    z_first = 1L, numbers = c(y = 1.5, x = 2), colours = c(B = "red", A = "\u00e9"), one = array(3, 1), none = character(),
    inside = list(flag = NA, texts = c("a", NA), grades = factor(c("u", "v"), levels = c("v", "u")), table = matrix(1:4, 2),
                  frame = data.frame(q = c(1.5, NA), day = as.Date(c("2020-01-01", NA)), row.names = c("r1", "r2"))),
    day = as.Date("2021-02-03"), nothing = NULL, named = matrix(1:4 / 3, 2, dimnames = list(c("\u00e9", ""), c("a", "b"))),
    sparse = Matrix::sparseMatrix(1:2, 2:3, x = c(0.5, 2), dimnames = list(NULL, letters[1:3])),
    words = matrix(c("x", NA), 1, dimnames = list("only", NULL))
  )
}

full_sce <- function() {
  counts <- simulate_counts(60, 40)
  rownames(counts)[2] <- "A_B"
  object <- SingleCellExperiment::SingleCellExperiment(list(
    logcounts = log1p(counts), counts = counts, dense = as.matrix(counts) / 3, whole = matrix(1:2400, 40), logical = counts > 2
  ))
  SummarizedExperiment::colData(object) <- S4Vectors::DataFrame(dated_metadata(colnames(counts)))
  SummarizedExperiment::rowData(object)$symbol <- toupper(rownames(object))
  withr::with_seed(1, {
    pca <- matrix(stats::rnorm(180), 60, dimnames = list(colnames(object), paste0("PC", 1:3)))
    attr(pca, "varExplained") <- c(3.1, 2.2, 1.3)
    attr(pca, "percentVar") <- c(30, 20, 10)
    attr(pca, "rotation") <- matrix(stats::rnorm(60), 20, 3, dimnames = list(rownames(object)[40:21], paste0("PC", 1:3)))
    SingleCellExperiment::reducedDims(object) <- list(PCA = pca, Alt = matrix(stats::rnorm(120), 60))
    SingleCellExperiment::colPair(object, "nearest") <-
      S4Vectors::SelfHits(rep(1:60, each = 2), c(rbind(c(2:60, 1), c(3:60, 1, 2))), nnode = 60, value = stats::runif(120))
    SingleCellExperiment::rowPair(object, "like") <- Matrix::rsparsematrix(40, 40, 0.05)
  })
  SingleCellExperiment::colPair(object, "bare") <- S4Vectors::SelfHits(c(1L, 3L), c(2L, 5L), nnode = 60)
  SingleCellExperiment::mainExpName(object) <- "gene"
  tags <- S4Vectors::DataFrame(n = 1:60, s = rep(letters[1:2], 30), row.names = colnames(object))
  SingleCellExperiment::altExp(object, "tags") <- SummarizedExperiment::SummarizedExperiment(
    list(counts = counts[1:6, ], logcounts = log1p(counts[1:6, ])), rowData = S4Vectors::DataFrame(p = 1:6), colData = tags
  )
  peaks <- do.call(rbind, rep(list(counts), 30))
  rownames(peaks) <- paste0("peak", 1:1200)
  lsi <- structure(matrix(1:120 / 7, 60, dimnames = list(colnames(object), c("L1", "L2"))), varExplained = c(2.5, 0.3))
  SingleCellExperiment::altExp(object, "peaks") <-
    SingleCellExperiment::SingleCellExperiment(list(counts = peaks), reducedDims = list(LSI = lsi))
  S4Vectors::metadata(object) <- plain_settings()
  object
}

# All slots but those that AnnData has no place for.
expect_same_seurat <- function(back, object) {
  for (part in setdiff(slotNames("Seurat"), c("commands", "tools", "version", "images"))) {
    expect_identical(slot(back, part), slot(object, part), info = part)
  }
}

obsm_in <- function(adata) as.character(unlist(reticulate::py_to_r(bridge()$obsm_keys(adata))))

through_file <- function(object, to, ...) {
  path <- withr::local_tempfile(fileext = ".h5ad")
  write_h5ad(object, path, ...)
  read_h5ad(path, to)
}

# Cells as scanpy leaves them.
scanpy_cells <- function() {
  if (!is.null(shared$scanpy)) return(shared$scanpy)
  path <- tempfile(fileext = ".h5ad")
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, pandas as pd, scanpy as sc, scipy.sparse as sp, anndata as ad",
    "rng = np.random.default_rng(0)",
    "n, g = 80, 50",
    "names = pd.Index([f'c_{i}' for i in range(n)], name='barcode')",
    "obs = pd.DataFrame({'batch': pd.Categorical(['b', 'a'] * 40, categories=['b', 'a']), 'depth': np.arange(n) / 3,",
    "    'whole': pd.array([1, None] * 40, dtype='Int64'), 'flag': pd.array([True, None] * 40, dtype='boolean'),",
    "    'good': [True, False] * 40, 'text': [f't{i}' for i in range(n)], 'again': ['u', '\\u00e9'] * 40,",
    "    'big': np.arange(n) * 2**40}, index=names)",
    "var = pd.DataFrame({'id': range(g)}, index=[f'G_{i}' for i in range(g)])",
    "a = ad.AnnData(sp.csr_matrix(rng.poisson(1.5, (n, g)).astype('float32')), obs=obs, var=var)",
    "a.layers['counts'] = a.X.copy()",
    "sc.pp.normalize_total(a); sc.pp.log1p(a)",
    "a.raw = a",
    "a = a[:, 5:].copy()",
    "a.layers['spliced'] = sp.csr_matrix(a.layers['counts'].toarray() // 2)",
    "sc.pp.highly_variable_genes(a, n_top_genes=20)",
    "sc.pp.pca(a, n_comps=5); sc.pp.neighbors(a, n_neighbors=6, method='gauss')",
    "sc.tl.rank_genes_groups(a, 'batch', method='t-test')",
    "frame = lambda **columns: pd.DataFrame(columns, index=a.obs_names)",
    "a.obsm['spatial'] = rng.normal(size=(n, 2))",
    "a.obsm['protein'] = frame(p_1=rng.poisson(3, n), p2=rng.poisson(3, n)); a.obsm['notes'] = frame(s=['x', 'y'] * 40)",
    "a.obsm['sparse'] = sp.random(n, 6, .3, format='csr', random_state=0); a.varm['else'] = rng.normal(size=(45, 3))",
    "a.varp['like'] = sp.random(45, 45, .1, format='csr', random_state=0); a.obsp['dense'] = rng.normal(size=(n, n))",
    "a.uns.update(batch_colors=np.array(['#ff0000', '#00ff00']), one=np.array([5]), none=None, nested={'a': {'b': 1.5}, 'l': [1, 2, 3]},",
    "    frame=pd.DataFrame({'q': [1, 2]}, index=['r', 's']), texts=np.array([['a', 'b'], ['c', 'd']], dtype=object))",
    "a.write_h5ad(sys.argv[1])"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, path))), 0)
  shared$scanpy <- path
}

# Both files hold the same, but for the width of numbers; what is TRUE of them is printed.
compare_files <- function(one, other) {
  script <- withr::local_tempfile(lines = c(
    "import sys, numpy as np, pandas as pd, anndata as ad",
    "from anndata.tests.helpers import assert_equal",
    "def wide(x):",
    "    if isinstance(x, pd.DataFrame): return x.apply(lambda c: c.astype('Float64') if c.dtype.kind in 'iuf' else c)",
    "    if isinstance(x, np.ndarray) and x.dtype.names: return pd.DataFrame.from_records(x).pipe(wide)",
    "    return {k: wide(v) for k, v in x.items()} if isinstance(x, dict) else x",
    "a, b = map(ad.read_h5ad, sys.argv[1:])",
    "for slot in ('obs', 'var', 'uns', 'obsm', 'varm', 'obsp', 'varp', 'layers'):",
    "    one, other = getattr(a, slot), getattr(b, slot)",
    "    assert_equal(*(wide(x if slot in ('obs', 'var') else dict(x)) for x in (one, other)), elem_name=slot)",
    "assert_equal(a.X, b.X); assert_equal(a.raw.X, b.raw.X); assert_equal(wide(a.raw.var), wide(b.raw.var))"
  ))
  expect_equal(system2(reticulate::py_config()$python, shQuote(c(script, one, other))), 0)
}
