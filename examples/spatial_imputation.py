"""gimVI from dissociated and spatial cells to genes that no panel measured: `python examples/spatial_imputation.py FOLDER`.

Figures, tables and the model land in FOLDER. vignettes/spatial_imputation.Rmd is the same walk in R, with a word to each step.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData, read_h5ad
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from scelbo import GIMVI
from scelbo.data.simulate import counts

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def cells(reference: str | None, spatial: str | None, n_genes: int = 600, n_cells: int = 1000) -> tuple[AnnData, AnnData]:
    """Dissociated and spatial cells, or simulated ones where no files are named or at hand."""
    paths = [Path(named) if named else BESIDE / name for named, name in ((reference, "zeisel550.h5ad"), (spatial, "osmfish.h5ad"))]
    if all(path.is_file() for path in paths):
        seq, panel = (read_h5ad(path) for path in paths)
        print("real cells, from", *(path.name for path in paths))
    else:
        seq, panel = counts(400, 120, stored=0.4, seed=1), counts(300, 120, stored=0.4, seed=1)[:, :33].copy()
        print("simulated cells, as there are no files of real ones: the steps are the same, and the answers mean nothing")
    some = np.sort(np.random.default_rng(1).permutation(panel.n_obs)[:n_cells])
    logged = sc.pp.log1p(sc.pp.normalize_total(seq, copy=True), copy=True)
    sc.pp.highly_variable_genes(logged, n_top_genes=min(n_genes, seq.n_vars))
    wanted = logged.var["highly_variable"].to_numpy() | seq.var_names.isin(panel.var_names)
    return seq[:, wanted].copy(), panel[some].copy()


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for figures, tables and the model")
    parser.add_argument("--reference", default=os.environ.get("SCELBO_REFERENCE"), help="h5ad of dissociated cells")
    parser.add_argument("--spatial", default=os.environ.get("SCELBO_SPATIAL"), help="h5ad of spatial cells")
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")

    seq, spatial = cells(asked.reference, asked.spatial)
    hidden = list(spatial.var_names[1::4])  # measured, and left out, to see how well they come back
    panel = spatial[:, ~spatial.var_names.isin(hidden)]
    left = np.asarray(panel.X.sum(1)).ravel() > 0  # a cell without any other count has no place
    spatial, panel = spatial[left].copy(), panel[left].copy()
    for adata in (seq, panel):
        GIMVI.setup_anndata(adata)
    model = GIMVI(seq, panel)
    model.train(asked.epochs, seed=1)
    model.save(asked.folder / "model", overwrite=True)

    found = model.impute(hidden, seed=1)
    share = spatial[:, hidden].to_df().div(np.asarray(panel.X.sum(1)).ravel(), axis=0)
    score = pd.Series({gene: spearmanr(found.mean[gene], share[gene]).statistic for gene in hidden}).sort_values(ascending=False)
    print("genes that were left out, measured against imputed (Spearman):", score.round(2).to_string(), sep="\n")

    best = score.index[0]
    order = np.argsort(found.mean[best].to_numpy())
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    axis.fill_between(np.arange(len(order)), found.lower[best].iloc[order], found.upper[best].iloc[order], color="lightgrey")
    axis.plot(found.mean[best].iloc[order].to_numpy(), color="black")
    axis.set(xlabel="cells, by what is imputed", ylabel=f"share of {best}")
    figure.savefig(asked.folder / "interval.png", dpi=130)

    z = np.concatenate(model.get_latent_representation())
    both = AnnData(z, obs=pd.DataFrame({"from": ["dissociated"] * seq.n_obs + ["spatial"] * panel.n_obs}, [str(i) for i in range(len(z))]))
    sc.pp.neighbors(both, use_rep="X", random_state=1)
    sc.tl.umap(both, random_state=1)
    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    sc.pl.umap(both, color="from", ax=axis, show=False)
    figure.savefig(asked.folder / "umap.png", dpi=130)

    score.to_csv(asked.folder / "scores.csv")
    model.impute(seed=1).mean.iloc[:, :50].to_csv(asked.folder / "imputed.csv")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
