"""totalVI from antibody counts to denoised and imputed proteins: `python examples/citeseq.py FOLDER`.

Figures, tables and the model land in FOLDER. vignettes/citeseq.Rmd is the same walk in R, with a word to each step.
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

import scelbo
from scelbo import TOTALVI
from scelbo.data.simulate import cite

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "pbmc15k_cite.h5ad"
PROTEINS = "protein_expression"


def cells(named: str | None, n_cells: int = 1500, n_genes: int = 800) -> AnnData:
    """Some real cells with ``obs["batch"]`` and proteins in ``obsm``, or simulated ones where no file is named or at hand."""
    path = BESIDE if named is None else Path(named)
    if named or path.is_file():
        adata = read_h5ad(path)
        print(f"real cells, from {path.name}")
    else:
        adata = cite(400, 300, 10, missing="batch1", seed=1)
        print("simulated cells, as there is no file of real ones: the steps are the same, and the answers mean nothing")
    some = np.sort(np.random.default_rng(1).permutation(adata.n_obs)[:n_cells])
    adata = adata[some].copy()
    logged = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
    sc.pp.highly_variable_genes(logged, n_top_genes=min(n_genes, adata.n_vars))
    return adata[:, logged.var["highly_variable"]].copy()


def trained(adata: AnnData, folder: Path, max_epochs: int | None) -> TOTALVI:
    """A trained model that was saved and loaded again."""
    print(TOTALVI.check(adata, batch_key="batch", protein_expression_obsm_key=PROTEINS))
    TOTALVI.setup_anndata(adata, batch_key="batch", protein_expression_obsm_key=PROTEINS)
    model = TOTALVI(adata)
    model.train(max_epochs, seed=1)
    model.save(folder / "model", overwrite=True)
    return scelbo.load(folder / "model", adata)  # type: ignore[no-any-return]


def beside(model: TOTALVI, measured: np.ndarray) -> plt.Figure:
    """Measured counts of each protein beside those without background, in colour how probable it is that the cell has the protein."""
    adata = model.adata
    assert adata is not None
    counts, at = adata.obsm[PROTEINS], np.flatnonzero(measured)
    _, denoised = model.get_normalized_expression(indices=at, gene_list=[adata.var_names[0]])
    has_it = model.get_protein_foreground_probability(indices=at)
    columns = 5
    figure, axes = plt.subplots(-(-len(counts.columns) // columns), columns, figsize=(14, 8), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, counts.columns, strict=False):
        shown = axis.scatter(
            np.log1p(counts[name].to_numpy()[at]), np.log1p(denoised[name]), s=3, c=has_it[name], cmap="Reds", vmin=0, vmax=1
        )
        axis.set(title=name, xlabel="log1p measured", ylabel="log1p without background")
    figure.colorbar(shown, ax=axes, label="has it", shrink=0.5)
    return figure


def maps(adata: AnnData) -> plt.Figure:
    """Clusters and batches."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, column in zip(axes, ("cluster", "batch"), strict=True):
        sc.pl.umap(adata, color=column, ax=axis, show=False)
    return figure


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for figures, tables and the model")
    parser.add_argument("--data", default=os.environ.get("SCELBO_CITE"), help="h5ad with the obs column batch, and proteins in obsm")
    parser.add_argument("--epochs", type=int, default=100, help="at most so many")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")

    adata = cells(asked.data or None)
    measured = adata.obsm[PROTEINS].to_numpy().sum(1) > 0
    print(f"{measured.sum()} of {len(measured)} cells have proteins; what was measured in no cell of a batch is imputed there")
    model = trained(adata, asked.folder, asked.epochs)

    adata.obsm["X_totalvi"] = model.get_latent_representation()
    sc.pp.neighbors(adata, use_rep="X_totalvi", random_state=1)
    sc.tl.umap(adata, min_dist=0.3, random_state=1)
    sc.tl.leiden(adata, key_added="cluster", resolution=0.5, flavor="igraph", n_iterations=2, directed=False, random_state=1)

    _, proteins = model.get_normalized_expression(gene_list=[adata.var_names[0]])
    means = [np.log1p(proteins[part].groupby(adata.obs["cluster"][part], observed=False).mean()) for part in (measured, ~measured)]
    both = means[0].notna() & means[1].notna()
    if both.any(axis=None):
        alike = np.corrcoef(means[0][both].stack(), means[1][both].stack())[0, 1]
        print(f"means of clusters, imputed against measured cells: correlation {alike:.3f}")

    table = model.differential_expression(groupby="cluster", group1=adata.obs["cluster"].cat.categories[0])
    for name, part in table.groupby("modality"):
        print(name, part[["lfc_mean", "proba_de"]].head(4).round(3).to_string(), sep="\n")
    table.to_csv(asked.folder / "markers.csv")
    proteins.to_csv(asked.folder / "proteins.csv")
    for name, figure in {"proteins": beside(model, measured), "umap": maps(adata)}.items():
        figure.savefig(asked.folder / f"{name}.png", dpi=130, bbox_inches="tight")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
