"""PeakVI from open regions to marker regions, every step of its published tutorial: `python examples/atac.py FOLDER`.

Figures, tables and the model land in FOLDER. vignettes/atac.Rmd is the same walk in R, with a word to each step.
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
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

import scelbo
from scelbo import PEAKVI
from scelbo.data.simulate import counts

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "hemato_scatac.h5ad"
IMMUNOGLOBULIN_LAMBDA = ("chr22", 22_380_474, 23_265_085)  # hg19: light chains of antibodies, open in B cells
REDS = LinearSegmentedColormap.from_list("reds", ["lightgrey", "#B2182B"])
CALLED = {False: ("lightgrey", "not called"), True: ("#D55E00", "called")}


def cells(named: str | None) -> AnnData:
    """Regions of real cells with ``obs["batch"]`` and ``obs["cell_type"]``, or simulated ones where no file is named or at hand.

    From Cell Ranger ATAC's output it is ``scelbo.data.read_10x_atac("outs/filtered_peak_bc_matrix.h5")``.
    """
    path = BESIDE if named is None else Path(named)
    if named or path.is_file():
        adata = read_h5ad(path)
        print(f"real cells, from {path.name}")
        if "cell_type_coarse" in adata.obs:
            adata.obs["cell_type"] = adata.obs["cell_type_coarse"]
    else:
        adata = counts(1200, 1500, stored=0.15, seed=1)
        adata.var_names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(1, adata.n_vars + 1)]
        print("simulated cells, as there is no file of real ones: the steps are the same, and the answers mean nothing")
    places = adata.var_names.to_series().str.extract(r"^(.+)[:-](\d+)-(\d+)$").set_axis(["chr", "start", "end"], axis=1)
    adata.var[["chr", "start", "end"]] = places.astype({"start": int, "end": int})
    return adata


def filtered(adata: AnnData, n_cells: int = 2000, least: float = 0.01) -> AnnData:
    """At most ``n_cells`` in which 100 regions were seen, and the regions seen in a share of them (of whole data: 0.05)."""
    enough = np.flatnonzero(np.asarray((adata.X > 0).sum(1)).ravel() >= 100)
    some = np.random.default_rng(1).permutation(enough)[:n_cells]
    adata = adata[np.sort(some)]
    share = np.asarray((adata.X > 0).mean(0)).ravel()
    print("regions seen in 5, 2, 1 % of the cells:", ", ".join(f"{(share >= limit).sum():,}" for limit in (0.05, 0.02, 0.01)))
    return adata[:, share >= least].copy()


def trained(adata: AnnData, folder: Path) -> PEAKVI:
    """A trained model that was saved and loaded again."""
    print(PEAKVI.check(adata, batch_key="batch"))
    PEAKVI.setup_anndata(adata, batch_key="batch")
    model = PEAKVI(adata)
    model.train(seed=1)
    print(f"{len(model.history['elbo_train'])} epochs; nats in each latent dimension (0 is unused): {model.get_latent_kl().round(2)}")
    model.save(folder / "model", overwrite=True)
    return scelbo.load(folder / "model", adata)  # type: ignore[return-value]


def compared(model: PEAKVI, first: str, second: str, types: list[str]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The first against the second cluster, and three other ways to ask."""
    regions = model.differential_accessibility(groupby="cluster", group1=first, group2=second)
    here = model.adata.obs["batch"] == model.adata.obs["batch"].mode()[0]
    mask, positions = (here & (model.adata.obs["cell_type"] == kind) for kind in types)
    return regions, {
        "against all others": model.differential_accessibility(groupby="cluster", group1=first),
        "more open only": model.differential_accessibility(groupby="cluster", group1=first, group2=second, two_sided=False),
        "own cells, by a mask and by position": model.differential_accessibility(idx1=mask, idx2=np.flatnonzero(positions)),
    }


def cloud(axis: Axes, adata: AnnData, values: pd.Series, title: str) -> None:
    """The UMAP: categories in random order with a legend, or numbers, the highest on top."""
    xy = adata.obsm["X_umap"]
    if isinstance(values.dtype, pd.CategoricalDtype):
        colours = mpl.colormaps["tab20" if len(values.cat.categories) > 10 else "tab10"].colors  # type: ignore[attr-defined]
        order = np.random.default_rng(0).permutation(len(xy))
        axis.scatter(*xy[order].T, s=4, lw=0, c=[colours[code % len(colours)] for code in values.cat.codes.to_numpy()[order]])
        for code, name in enumerate(values.cat.categories):
            axis.scatter([], [], s=25, color=colours[code % len(colours)], label=name)
        axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        order = np.argsort(values.to_numpy(), kind="stable")
        shown = axis.scatter(*xy[order].T, s=4, lw=0, c=values.to_numpy()[order], cmap=REDS, vmin=0)
        axis.figure.colorbar(shown, ax=axis, shrink=0.7)
    axis.set(title=title, xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")


def by_call(axis: Axes, table: pd.DataFrame, x: str, y: str, **labels: str) -> None:
    """Two columns of a table of regions, coloured by whether they are called."""
    for called, (colour, name) in CALLED.items():
        rows = table[table["is_da_fdr"] == called]
        axis.scatter(rows[x], rows[y], s=5, lw=0, alpha=0.6, color=colour, label=name)
    axis.set(**labels)
    axis.legend(frameon=False, fontsize=8, markerscale=2.5)


def curve(model: PEAKVI) -> plt.Figure:
    """How well training and held-out cells are explained, by epoch."""
    figure, axis = plt.subplots(figsize=(5.5, 3.5))
    for cells_of, colour in {"train": "#0072B2", "validation": "#D55E00"}.items():
        axis.plot(model.history[f"reconstruction_loss_{cells_of}"], color=colour, label=cells_of)
    axis.set(xlabel="epoch", ylabel="reconstruction loss (nats a cell)", title="Training")
    axis.legend(frameon=False)
    return figure


def maps(adata: AnnData) -> plt.Figure:
    """Clusters, known types and batches."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
    for axis, column in zip(axes, ("cluster", "cell_type", "batch"), strict=True):
        cloud(axis, adata, adata.obs[column].astype("category"), column)
    return figure


def calibration(regions: pd.DataFrame) -> plt.Figure:
    """Effect against probability, and estimated against seen effect."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    by_call(axes[0], regions, "effect_size", "prob_da", xlabel="estimated effect", ylabel="probability that the region differs")
    by_call(axes[1], regions, "emp_effect", "effect_size", xlabel="difference of the shares of cells seen", ylabel="estimated effect")
    axes[1].axline((0, 0), slope=1, color="grey", ls="--", lw=0.8)
    return figure


def volcano(regions: pd.DataFrame, title: str) -> plt.Figure:
    """Effect and certainty of every region; the largest called effect to either side by name."""
    figure, axis = plt.subplots(figsize=(6.5, 5))
    by_call(axis, regions, "effect_size", "bayes_factor", xlabel="difference of probabilities", ylabel="log Bayes factor", title=title)
    called = regions.loc[regions["is_da_fdr"], ["effect_size", "bayes_factor"]].sort_values("effect_size")
    for side, end in {"left": called.head(1), "right": called.tail(1)}.items():
        for name, point in end.iterrows():
            axis.annotate(name, point, (0, -5), textcoords="offset points", ha=side, va="top", fontsize=7)
    return figure


def marker(model: PEAKVI, name: str) -> plt.Figure:
    """Where a region was seen, and how often it is open in cells like these."""
    adata = model.adata
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    cloud(axes[0], adata, (sc.get.obs_df(adata, [name])[name] > 0).astype(float), f"{name} seen")
    cloud(axes[1], adata, model.get_normalized_accessibility(region_list=[name])[name], "probability that it is open")
    return figure


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for figures, tables and the model")
    parser.add_argument("--data", default=os.environ.get("SCELBO_ATAC"), help="h5ad with the obs columns batch and cell_type")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")

    adata = filtered(cells(asked.data))
    model = trained(adata, asked.folder)

    adata.obsm["X_peakvi"] = model.get_latent_representation()
    sc.pp.neighbors(adata, use_rep="X_peakvi", random_state=1)
    sc.tl.umap(adata, min_dist=0.3, random_state=1)
    sc.tl.leiden(adata, key_added="cluster", resolution=0.5, flavor="igraph", n_iterations=2, directed=False, random_state=1)
    members = pd.crosstab(adata.obs["cluster"], adata.obs["cell_type"])
    print(members)

    types = ["B", "Mono"] if {"B", "Mono"} <= set(members) else list(members.sum().nlargest(2).index)
    first = members[types[0]].idxmax()
    second = members[types[1]].drop(first).idxmax()
    regions, more = compared(model, first, second, types)
    print(regions.head().round(3).to_string())
    print(f"called: {regions['is_da_fdr'].sum()};", "; ".join(f"{way}: {table['is_da_fdr'].sum()}" for way, table in more.items()))

    chromosome, start, end = IMMUNOGLOBULIN_LAMBDA if types[0] == "B" else (adata.var["chr"].iloc[0], 0, np.inf)
    there = (adata.var["chr"] == chromosome) & (adata.var["end"] > start) & (adata.var["start"] < end)
    known = regions.loc[regions.index.isin(adata.var_names[there])]
    print(known[["prob_da", "effect_size", "emp_prob1", "emp_prob2"]].head().round(3).to_string())

    regions.to_csv(asked.folder / "regions.csv")
    title = f"cluster {first} ({types[0]}) against {second} ({types[1]})"
    figures = {
        "training": curve(model), "umap": maps(adata), "calibration": calibration(regions), "volcano": volcano(regions, title),
        "marker": marker(model, known["effect_size"].idxmax()),
    }  # fmt: skip
    for name, figure in figures.items():
        figure.savefig(asked.folder / f"{name}.png", dpi=130, bbox_inches="tight")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
