"""Are genes that spatial data did not measure found again, by gimVI here and in scvi-tools, and by neighbours?

Mouse somatosensory cortex: dissociated (``../shared/data/zeisel550.h5ad``), and by osmFISH (``osmfish.h5ad``, 33 genes); skipped where
absent.
Some genes at a time are taken out of the spatial data and imputed; each is scored by the correlation over cells (Spearman's, and Pearson's)
of what was imputed with the gene's measured share of the cell's counts. The simple method averages the shares of the 30 nearest dissociated
cells by cosine in principal components of both data sets' panel genes, each standardised. Ends with an error if scelbo's defaults find less
than any other by median Spearman. Run with ``make bench``; ``--quick`` for a smaller one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData, read_h5ad
from children import load, timed
from output import quiet
from scipy import sparse, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = FOLDER / "zeisel550.h5ad", FOLDER / "osmfish.h5ad"
OURS, AS_PAPER, PEER, NEIGHBOURS = "scelbo, defaults", "scelbo, as in the paper", "scvi-tools, defaults", "30 nearest cells"
FEWEST = 20
"""Counts of a spatial cell that is looked at, of which at least 5 are not of its four best counted genes (it keeps some in every fold)."""

Found = tuple[np.ndarray, float]
"""Imputed values (cells, genes), CPU seconds an epoch."""


# ------------------------------------------------------------------ data
def two(n_genes: int, n_cells: int | None) -> tuple[AnnData, AnnData]:
    """Dissociated cells with the most variable genes and the panel's, and spatial cells."""
    seq, spatial = (read_h5ad(path) for path in DATA)
    x = spatial.X.toarray()
    spatial = spatial[(x.sum(1) >= FEWEST) & (np.sort(x, 1)[:, :-4].sum(1) >= 5)].copy()
    if n_cells is not None and n_cells < spatial.n_obs:
        spatial = spatial[np.sort(np.random.default_rng(0).choice(spatial.n_obs, n_cells, replace=False))].copy()
    sc.pp.highly_variable_genes(seq, n_top_genes=n_genes, flavor="seurat_v3")
    return seq[:, seq.var["highly_variable"] | seq.var_names.isin(spatial.var_names)].copy(), spatial


def shares(adata: AnnData) -> np.ndarray:
    x = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    return x / np.maximum(x.sum(1, keepdims=True), 1)


# ------------------------------------------------------------------ methods: of spatial cells without some genes, these genes
def by_scelbo(
    seq: AnnData, panel: AnnData, genes: list[str], seed: int, epochs: int | None, plan: str | None = None, **hyper: Any
) -> Found:
    from scelbo import GIMVI

    for adata in (seq, panel):
        GIMVI.setup_anndata(adata)
    model = GIMVI(seq, panel, **hyper)
    seconds = timed(lambda: model.train(epochs, plan=plan, seed=seed, accelerator="cpu", progress=False))
    return model.get_imputed_values(panel)[:, seq.var_names.get_indexer(genes)], seconds / model.trained_epochs


def as_in_the_paper(seq: AnnData, panel: AnnData, genes: list[str], seed: int, epochs: int | None) -> Found:
    paper = {"panel_view": False, "batch_factors": False, "encoder_reads": "counts"}
    return by_scelbo(seq, panel, genes, seed, epochs, plan="scvi-tools", **paper)


def by_scvi_tools(seq: AnnData, panel: AnnData, genes: list[str], seed: int, epochs: int | None) -> Found:
    import scvi

    scvi.settings.seed = seed
    for adata in (seq, panel):
        scvi.external.GIMVI.setup_anndata(adata)
    model = scvi.external.GIMVI(seq, panel)
    epochs = epochs or 200
    seconds = timed(lambda: model.train(epochs, accelerator="cpu", enable_progress_bar=False))
    return model.get_imputed_values()[1][:, seq.var_names.get_indexer(genes)], seconds / epochs


def by_neighbours(seq: AnnData, panel: AnnData, genes: list[str], seed: int, epochs: int | None) -> Found:
    of_panel = seq[:, panel.var_names]
    there = np.asarray(of_panel.X.sum(1)).ravel() > 0
    logs = [np.log1p(shares(a) * np.median(np.asarray(a.X.sum(1)))) for a in (of_panel[there], panel)]
    logs = [(x - x.mean(0)) / (x.std(0) + 1e-9) for x in logs]
    pca = PCA(10, random_state=0).fit(np.concatenate(logs))
    a, b = (normalize(pca.transform(x)) for x in logs)
    nearest = NearestNeighbors(n_neighbors=30).fit(a).kneighbors(b, return_distance=False)
    return shares(seq)[there][:, seq.var_names.get_indexer(genes)][nearest].mean(1), np.nan


METHODS: dict[str, Callable[..., Found]] = {OURS: by_scelbo, AS_PAPER: as_in_the_paper, PEER: by_scvi_tools, NEIGHBOURS: by_neighbours}


# ------------------------------------------------------------------ all of them
def scored(method: str, seq: AnnData, spatial: AnnData, folds: list[np.ndarray], seed: int, epochs: int | None) -> pd.DataFrame:
    """A row a gene: its correlations, and what an epoch took."""
    truth, rows = shares(spatial), []
    for held in folds:
        genes = list(spatial.var_names[held])
        panel = spatial[:, ~spatial.var_names.isin(genes)].copy()
        values, seconds = METHODS[method](seq.copy(), panel, genes, seed, epochs)
        for j, (gene, at) in enumerate(zip(genes, held, strict=True)):
            flat = values[:, j].std() == 0
            spearman, pearson = (0.0 if flat else f(values[:, j], truth[:, at]).statistic for f in (stats.spearmanr, stats.pearsonr))
            rows.append({"gene": gene, "Spearman": spearman, "Pearson": pearson, "CPU s an epoch": seconds})
        print(f"  {method}, seed {seed}: {len(rows)} genes", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=11)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--genes", type=int, default=1000, help="most variable genes of the dissociated cells")
    parser.add_argument("--cells", type=int, help="spatial cells, chosen at random")
    parser.add_argument("--epochs", type=int, help="by default each program's own")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="3 folds, one seed, 100 genes, 900 cells")
    given = parser.parse_args()
    if given.quick:
        given.folds, given.seeds, given.genes, given.cells = 3, 1, 100, 900
    if not all(path.exists() for path in DATA):
        print(f"skipped: no {' or '.join(path.name for path in DATA)} in {FOLDER.name}")
        return 0
    quiet()
    seq, spatial = two(given.genes, given.cells)
    folds = np.array_split(np.random.default_rng(0).permutation(spatial.n_vars), given.folds)
    size = f"{seq.n_obs} dissociated cells x {seq.n_vars:,} genes, {spatial.n_obs:,} spatial cells x {spatial.n_vars} genes"
    print(f"{size}; {given.folds} folds, {given.seeds} seeds\n")
    print("| | Spearman, median of genes (each seed) | mean | Pearson, median | CPU s an epoch |\n|---|---|---|---|---|")
    found = {}
    for method in given.methods:
        seeds = range(1 if method == NEIGHBOURS else given.seeds)
        runs = [scored(method, seq, spatial, folds, seed, given.epochs) for seed in seeds]
        medians = [run["Spearman"].median() for run in runs]
        mean, pearson = (np.mean([of(run) for run in runs]) for of in (lambda r: r["Spearman"].mean(), lambda r: r["Pearson"].median()))
        seconds = np.mean([run["CPU s an epoch"].mean() for run in runs])
        found[method] = float(np.mean(medians))
        each = ", ".join(f"{m:.3f}" for m in medians)
        cost = "" if np.isnan(seconds) else f"{seconds:.2f}"
        print(f"| {method} | **{np.mean(medians):.3f}** ({each}) | {mean:.3f} | {pearson:.3f} | {cost} |", flush=True)
    wrong = [f"{name} finds more" for name, median in found.items() if OURS in found and median > found[OURS]]
    print(f"\n({load()})\n" + (f"\nFAILED: {'; '.join(wrong)}" if wrong else "\npassed"))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
