# scVI on 700 real blood cells, from a Seurat object and back into it: `make demo`, or `Rscript examples/demo.R FOLDER`.
suppressPackageStartupMessages({
  library(scelbo)
  library(Seurat)
  library(ggplot2)
})
options(Seurat.warn.umap.uwot = FALSE)
folder <- c(commandArgs(TRUE), "demo")[[1]]
dir.create(folder, showWarnings = FALSE)
started <- Sys.time()
chapter <- function(...) cli::cli_h2(sprintf(...))

chapter("The cells: a Seurat object of counts")
backend_status()
# Peripheral blood (Zheng et al. 2017) that the Python package scanpy ships: the 765 most variable genes, as counts.
cells <- reticulate::import("scelbo.data.readers", convert = FALSE)$pbmc68k()
from <- function(value) as.vector(reticulate::py_to_r(value))
csr <- cells$X # cells x genes by rows is genes x cells by columns: the same three vectors
counts <- Matrix::sparseMatrix(
  i = from(csr$indices), p = from(csr$indptr), x = from(csr$data), index1 = FALSE,
  dims = rev(unlist(reticulate::py_to_r(csr$shape))),
  dimnames = list(from(cells$var_names$to_list()), from(cells$obs_names$to_list()))
)
pbmc <- CreateSeuratObject(counts, project = "pbmc68k")
lineages <- c( # the sorted types, each lineage in shades of one colour
  "CD4+/CD45RA+/CD25- Naive T" = "#9ECAE1", "CD4+/CD45RO+ Memory" = "#4292C6", "CD4+/CD25 T Reg" = "#08519C",
  "CD8+/CD45RA+ Naive Cytotoxic" = "#BCBDDC", "CD8+ Cytotoxic T" = "#807DBA", "CD56+ NK" = "#54278F",
  "CD19+ B" = "#F16913", "CD14+ Monocyte" = "#74C476", "Dendritic" = "#006D2C", "CD34+" = "#CB181D"
)
pbmc$cell_type <- factor(from(cells$obs[["bulk_labels"]]$astype("str")$to_list()), names(lineages))
print(pbmc)

chapter("scVI: a latent space of 10 dimensions")
pbmc <- RunSCVI(pbmc, n_latent = 10, seed = 1, early_stopping = TRUE)

chapter("UMAP and clusters in that space, by Seurat")
pbmc <- RunUMAP(pbmc, reduction = "scvi", dims = 1:10, min.dist = 0.7, seed.use = 1, verbose = FALSE)
pbmc <- FindNeighbors(pbmc, reduction = "scvi", dims = 1:10, verbose = FALSE)
pbmc <- FindClusters(pbmc, resolution = 1, random.seed = 1, verbose = FALSE)
members <- table(pbmc$seurat_clusters, pbmc$cell_type)
print(data.frame(
  cluster = rownames(members), cells = rowSums(members), "mostly" = colnames(members)[max.col(members)],
  share = sprintf("%.0f %%", 100 * apply(members, 1, max) / rowSums(members))
), row.names = FALSE)

chapter("Markers of B cells against the rest, by the model")
markers <- FindMarkersSCVI(pbmc, ident.1 = "CD19+ B", group.by = "cell_type", seed = 1)
top <- head(markers[markers$avg_log2FC > 0, ], 10)
print(round(top[c("avg_log2FC", "pct.1", "pct.2", "proba_de", "p_val_adj")], 3))
b_genes <- intersect(c("MS4A1", "CD79A"), rownames(top))
if (!length(b_genes)) stop("neither MS4A1 nor CD79A, the textbook's markers of B cells, is among the first ten")

chapter("Normalised expression, figures and files")
shown <- c("CD79A", "CD3D", "LYZ", "NKG7")
pbmc <- write_back(get_model(pbmc), pbmc, features = shown)

save_figure <- function(plot, name, width = 6, height = 4) {
  path <- file.path(folder, paste0(name, ".png"))
  ggsave(path, plot, width = width, height = height, dpi = 120, bg = "white")
  path
}
umap <- as.data.frame(Embeddings(pbmc, "umap"))
names(umap) <- c("x", "y")
cloud <- function(points) {
  ggplot(points, aes(x, y)) +
    coord_equal() +
    theme_void(base_size = 11) +
    theme(plot.margin = margin(8, 8, 8, 8), plot.title = element_text(face = "bold"))
}
by_type <- cloud(cbind(umap, type = pbmc$cell_type)) +
  geom_point(aes(colour = type), size = 1.1) +
  scale_colour_manual(NULL, values = lineages) +
  guides(colour = guide_legend(override.aes = list(size = 3))) +
  labs(title = "700 blood cells in scVI's latent space")
denoised <- GetAssayData(pbmc, assay = "scvi_normalized")
expression <- do.call(rbind, lapply(shown, function(gene) {
  value <- denoised[gene, ]
  cbind(umap, gene = gene, share = value / max(value))[order(value), ]
}))
by_gene <- cloud(transform(expression, gene = factor(gene, shown))) +
  geom_point(aes(colour = share), size = 0.6) +
  facet_wrap(~gene, nrow = 1) +
  scale_colour_gradient("share of\nmaximum", low = "grey90", high = "#B2182B")
figures <- c(
  "UMAP by cell type" = save_figure(by_type, "umap", 7, 4.5),
  "expression of four markers" = save_figure(by_gene, "expression", 10, 3),
  "training curve" = save_figure(plot(get_model(pbmc)), "training"),
  "B cells' volcano" = save_figure(plot_volcano(markers) + labs(title = "B cells against the rest"), "volcano", 6, 5)
)
write.csv(markers, file.path(folder, "b_cell_markers.csv"))
write.csv(Embeddings(pbmc, "scvi"), file.path(folder, "latent.csv"))
saveRDS(pbmc, file.path(folder, "pbmc.rds"))
save_model(get_model(pbmc), file.path(folder, "model"), overwrite = TRUE)

chapter("The same model, opened from Python")
python <- reticulate::py_config()$python
agreement <- system2(python, c("examples/open_in_python.py", folder), stdout = TRUE)
if (!is.null(attr(agreement, "status"))) stop("Python could not open the model, or gave another latent space")
cat(agreement, sep = "\n")

chapter("What was found, and where it lies")
# How well types keep together: the share of cells whose nearest neighbour in the latent space is of their own type.
z <- as.matrix(dist(Embeddings(pbmc, "scvi")))
diag(z) <- Inf
same <- mean(pbmc$cell_type[max.col(-z, ties.method = "first")] == pbmc$cell_type)
found <- c(
  "cells x genes" = paste(rev(dim(counts)), collapse = " x "),
  "clusters" = nlevels(pbmc$seurat_clusters),
  "nearest neighbour of the same type" = sprintf("%.0f %%", 100 * same),
  "textbook B-cell markers in the top ten" = paste(b_genes, collapse = ", "),
  "time" = sprintf("%.0f s", as.numeric(Sys.time() - started, units = "secs")),
  figures,
  "markers" = file.path(folder, "b_cell_markers.csv"),
  "the Seurat object" = file.path(folder, "pbmc.rds"),
  "the model, for R and Python" = file.path(folder, "model")
)
cat(paste0(format(names(found)), "  ", found), sep = "\n")
