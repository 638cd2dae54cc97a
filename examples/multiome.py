"""MultiVI from RNA and chromatin, of cells that lack one of them, to one map and what they lack: `python examples/multiome.py FOLDER`.

Figures, tables and the model land in FOLDER. vignettes/multiome.Rmd is the same walk in R, with a word to each step.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import scanpy as sc
from anndata import AnnData, read_h5ad
from matplotlib import pyplot as plt
from scipy import sparse

from scelbo import MULTIVI
from scelbo.data.simulate import multiome

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "a549_multiome.h5ad"
GENES, PEAKS = "Gene Expression", "Peaks"


def cells(named: str | None, n_cells: int = 900, n_peaks: int = 1500) -> AnnData:
    """Some real cells with genes and peaks side by side, or simulated ones where no file is named or at hand."""
    path = BESIDE if named is None else Path(named)
    if named or path.is_file():
        adata = read_h5ad(path)
        print(f"real cells, from {path.name}")
    else:
        adata = multiome(400, 300, 400, seed=1)
        print("simulated cells, as there is no file of real ones: the steps are the same, and the answers mean nothing")
    adata = adata[np.sort(np.random.default_rng(1).permutation(adata.n_obs)[:n_cells])].copy()
    seen, peaks = np.asarray((adata.X > 0).sum(0)).ravel(), (adata.var["feature_types"] == PEAKS).to_numpy()
    often = np.where(peaks, seen, 0) >= np.sort(seen[peaks])[-min(n_peaks, peaks.sum())]
    return adata[:, ~peaks | often].copy()


def hide(adata: AnnData) -> AnnData:
    """A quarter of the cells without their chromatin, a quarter without their RNA; ``obs["has"]`` says which."""
    which = np.random.default_rng(2).choice(["both", "both", "RNA", "chromatin"], adata.n_obs)
    peaks = (adata.var["feature_types"] == PEAKS).to_numpy()
    kept = np.where(peaks[None], (which != "RNA")[:, None], (which != "chromatin")[:, None])
    out = AnnData(sparse.csr_matrix(adata.X).multiply(kept).tocsr(), obs=adata.obs.assign(has=which), var=adata.var)
    parts = [np.asarray(out.X[:, part].sum(1)).ravel() for part in (peaks, ~peaks)]
    return out[(parts[0] + parts[1]) > 0].copy()


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for figures, tables and the model")
    parser.add_argument("--data", default=os.environ.get("SCELBO_MULTIOME"), help="h5ad of genes and peaks, as var['feature_types'] says")
    parser.add_argument("--epochs", type=int, default=100, help="at most so many")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")

    whole = cells(asked.data or None)
    adata = hide(whole)
    MULTIVI.setup_anndata(adata)
    model = MULTIVI(adata)
    model.train(asked.epochs, seed=1)
    model.save(asked.folder / "model", overwrite=True)

    adata.obsm["X_multivi"] = model.get_latent_representation()
    sc.pp.neighbors(adata, use_rep="X_multivi", random_state=1)
    sc.tl.umap(adata, random_state=1)
    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    sc.pl.umap(adata, color="has", ax=axis, show=False)
    figure.savefig(asked.folder / "umap.png", dpi=130)

    true, types = whole[adata.obs_names], whole.var["feature_types"].to_numpy()
    for lacks, kind, ask in (("chromatin", GENES, model.get_normalized_expression), ("RNA", PEAKS, model.get_normalized_accessibility)):
        rows, columns = np.flatnonzero(adata.obs["has"] == lacks), types == kind
        seen = np.asarray((true.X[rows][:, columns] > 0).mean(0)).ravel()
        told = np.asarray(ask(indices=rows)).mean(0)
        print(f"{kind}, in cells that have {lacks} alone: averages told and seen correlate by {np.corrcoef(told, seen)[0, 1]:.2f}")

    sc.tl.leiden(adata, key_added="cluster", resolution=0.5, flavor="igraph", n_iterations=2, directed=False, random_state=1)
    first = adata.obs["cluster"].cat.categories[0]
    if len(adata.obs["cluster"].cat.categories) > 1:
        genes = model.differential_expression(groupby="cluster", group1=first, seed=1)
        regions = model.differential_accessibility(groupby="cluster", group1=first, seed=1)
        print(genes.head(4).round(3).to_string(), regions.head(4).round(3).to_string(), sep="\n")
        genes.to_csv(asked.folder / "genes.csv")
        regions.to_csv(asked.folder / "regions.csv")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
