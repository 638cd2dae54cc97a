"""Cell types in spots of a tissue, by Stereoscope and DestVI: `python examples/spatial.py FOLDER`.

Figures, tables and the models land in FOLDER. vignettes/spatial.Rmd is the same walk in R, with a word to each step.
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

from scelbo import CondSCVI, DestVI, RNAStereoscope, SpatialStereoscope, pl
from scelbo.data.simulate import as_spots, spots, sums

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def tissue(reference: str | None, spatial: str | None, n_spots: int = 600) -> tuple[AnnData, AnnData]:
    """Dissociated cells with types, and spots, both of the genes that they share; or simulated ones where no files are named or at hand."""
    paths = [Path(named) if named else BESIDE / name for named, name in ((reference, "lymph_sc.h5ad"), (spatial, "lymph_st.h5ad"))]
    if all(path.is_file() for path in paths):
        cells, there = (read_h5ad(path) for path in paths)
        print("real cells and spots, from", *(path.name for path in paths))
    else:
        cells, there = spots(400, 400, 200, stored=0.4, seed=1)
        print("simulated cells and spots, as there are no files of real ones: the steps are the same, and the answers mean nothing")
    genes = cells.var_names[cells.var_names.isin(there.var_names)]
    some = np.sort(np.random.default_rng(1).permutation(there.n_obs)[:n_spots])
    return cells[:, genes].copy(), there[some, genes].copy()


def known_mixtures(cells: AnnData, depth: float) -> tuple[AnnData, AnnData]:
    """Half of the cells, and sums of the others, of which the shares are known."""
    rng = np.random.default_rng(1)
    held = rng.random(cells.n_obs) < 0.5
    kinds = cells.obs["cell_type"].astype("category")
    kept = min(1.0, depth / (8 * np.median(np.asarray(cells.X.sum(1)).ravel())))
    x, shares = sums(cells[held].X, kinds.cat.codes.to_numpy()[held], 200, rng, 8, kept)
    return cells[~held].copy(), as_spots(x, shares, list(cells.var_names), list(kinds.cat.categories))


def stereoscope(cells: AnnData, there: AnnData, epochs: int) -> SpatialStereoscope:
    """Both steps."""
    RNAStereoscope.setup_anndata(cells, labels_key="cell_type")
    reference = RNAStereoscope(cells)
    reference.train(epochs, seed=1)
    model = SpatialStereoscope.from_rna_model(there, reference)
    model.train(epochs, seed=1)
    return model


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for figures, tables and the models")
    parser.add_argument("--reference", default=os.environ.get("SCELBO_CELLS"), help='h5ad of dissociated cells with obs["cell_type"]')
    parser.add_argument("--spatial", default=os.environ.get("SCELBO_SPOTS"), help='h5ad of spots with obsm["spatial"]')
    parser.add_argument("--epochs", type=int, default=50)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    cells, there = tissue(asked.reference, asked.spatial)
    save = lambda figure, name: figure.savefig(asked.folder / f"{name}.png")  # noqa: E731

    # How well can it be done with these cells, at this depth? Mix some of them, and see.
    half, mixed = known_mixtures(cells, float(np.median(np.asarray(there.X.sum(1)).ravel())))
    tried, truth = stereoscope(half, mixed, asked.epochs), mixed.obsm["proportions"]
    found = tried.estimate_proportions(interval=0.9)
    print(f"mixtures of known shares: root mean square error {np.sqrt(((found.mean - truth) ** 2).to_numpy().mean()):.3f}")
    print(f"90 % intervals hold {((found.lower <= truth) & (truth <= found.upper)).to_numpy().mean():.0%} of the shares")

    model = stereoscope(cells, there, asked.epochs)
    model.save(asked.folder / "stereoscope", overwrite=True)
    there.obsm["proportions"] = model.get_proportions()
    save(pl.proportions(there), "panels")
    common = list(there.obsm["proportions"].mean().nlargest(4).index)
    save(pl.proportions(there, types=common, kind="pie"), "pies")
    sure = model.estimate_proportions(interval=0.9)
    known = pd.DataFrame({"mean share": sure.mean.mean(), "spots where it is surely above 5 %": (sure.lower > 0.05).sum()})
    print(known.round(3).to_string())
    print(f"of the counts no type explains {model.get_proportions(keep_noise=True)['noise_term'].mean():.1%}")

    # States of the cells of the commonest type.
    CondSCVI.setup_anndata(cells, labels_key="cell_type")
    states = CondSCVI(cells)
    states.train(2 * asked.epochs, seed=1)
    dest = DestVI.from_rna_model(there, states)
    dest.train(asked.epochs, seed=1)
    dest.save(asked.folder / "destvi", overwrite=True)
    here = dest.get_proportions()[common[0]] > 0.1
    scale = dest.get_scale_for_ct(common[0], indices=np.flatnonzero(here))
    varies = (np.log(scale).std() * scale.mean() ** 0.5).nlargest(20)
    print(f"genes whose expression in cells of type {common[0]} differs most over {here.sum()} spots:", ", ".join(varies.index[:8]))
    there.obs["state"] = scale[varies.index[0]]  # NaN where the type is not
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    sc.pl.embedding(there, "spatial", color="state", title=f"{varies.index[0]} in {common[0]}", ax=axes, show=False)
    save(figure, "state")

    there.obsm["proportions"].to_csv(asked.folder / "proportions.csv")
    scale[varies.index].to_csv(asked.folder / "states.csv")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
