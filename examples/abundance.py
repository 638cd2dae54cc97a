"""How many cells of each type a spot has, with how sure that is: `python examples/abundance.py FOLDER`.

The model is examples/models/cell_abundance.py, of cell2location's kind, written in Pyro. Tables, a figure and the model land in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from matplotlib import pyplot as plt
from scipy import sparse

from scelbo.data.simulate import spots

sys.path.insert(0, str(Path(__file__).resolve().parent / "models"))
from cell_abundance import CellAbundance

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def tissue(reference: str | None, spatial: str | None, n_spots: int) -> tuple[AnnData, AnnData]:
    """Dissociated cells with types, and spots, both of the genes that they share; or simulated ones where no files are named or at hand."""
    paths = [Path(named) if named else BESIDE / name for named, name in ((reference, "lymph_sc.h5ad"), (spatial, "lymph_st.h5ad"))]
    if all(path.is_file() for path in paths):
        cells, there = (read_h5ad(path) for path in paths)
        print("real cells and spots, from", *(path.name for path in paths))
    else:
        cells, there = spots(200, 300, 120, stored=0.4, seed=1)
        print("simulated cells and spots, as there are no files of real ones: the steps are the same, and the answers mean nothing")
    genes = cells.var_names[cells.var_names.isin(there.var_names)]
    some = np.sort(np.random.default_rng(1).permutation(there.n_obs)[:n_spots])
    return cells[:, genes].copy(), there[some, genes].copy()


def known(cells: AnnData, n_spots: int, kept: float) -> tuple[AnnData, AnnData, pd.DataFrame]:
    """Half of the cells; sums of the others, of whose counts a share is kept; and how many of each type are in each."""
    rng = np.random.default_rng(1)
    kinds = cells.obs["cell_type"].astype("category")
    held, code = rng.random(cells.n_obs) < 0.5, kinds.cat.codes.to_numpy()
    mixture = rng.dirichlet(np.full(code.max() + 1, 0.2), n_spots)
    numbers = rng.multinomial(1 + rng.poisson(7, n_spots), mixture)
    picks = [np.concatenate([rng.choice(np.flatnonzero(held & (code == t)), n) for t, n in enumerate(row)]) for row in numbers]
    sums = np.stack([np.asarray(cells.X[pick].sum(0)).ravel() for pick in picks]).astype(int)
    x = rng.binomial(sums, kept * rng.uniform(0.5, 1, cells.n_vars)).astype(np.float32)
    x[:, 0] += x.sum(1) == 0  # no model reads a spot without counts
    names = [f"mixture{i}" for i in range(n_spots)]
    mixed = AnnData(sparse.csr_matrix(x), pd.DataFrame(index=names), pd.DataFrame(index=cells.var_names))
    return cells[~held].copy(), mixed, pd.DataFrame(numbers, names, list(kinds.cat.categories))


def main() -> None:
    """The walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the figure, tables and the model")
    parser.add_argument("--reference", default=os.environ.get("SCELBO_CELLS"), help='h5ad of dissociated cells with obs["cell_type"]')
    parser.add_argument("--spatial", default=os.environ.get("SCELBO_SPOTS"), help='h5ad of spots with obsm["spatial"]')
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--spots", type=int, default=300)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    cells, there = tissue(asked.reference, asked.spatial, asked.spots)

    # How well can it be done with these cells, at this depth? Mix some of them in known numbers, and see.
    depths = [float(np.median(np.asarray(x.sum(1)).ravel())) for x in (there.X, cells.X)]
    half, mixed, numbers = known(cells, asked.spots, min(1.0, depths[0] / (8 * depths[1])))
    tried = CellAbundance.of_cells(mixed, half, labels_key="cell_type")
    tried.train(asked.epochs, seed=1)
    found = tried.get_cell_abundance(seed=1)
    r = np.corrcoef(found["mean"].to_numpy().ravel(), numbers.to_numpy().ravel())[0, 1]
    near = ((found["q05"] - 0.5 <= numbers) & (numbers <= found["q95"] + 0.5)).to_numpy()
    print(
        f"mixtures of known numbers: told and true numbers correlate {r:.2f}; {found['mean'].sum(axis=1).mean():.1f} cells a spot are told,"
    )
    print(f"{numbers.sum(axis=1).mean():.1f} are there; 90 % intervals hold {near.mean():.0%} of the numbers, give or take half a cell")

    model = CellAbundance.of_cells(there, cells, labels_key="cell_type")
    model.train(asked.epochs, seed=1)
    model.save(asked.folder / "model", overwrite=True)
    told = model.get_cell_abundance(seed=1)
    for name in ("mean", "q05", "q95"):
        told[name].to_csv(asked.folder / f"{name}.csv")
    summary = pd.DataFrame({"mean cells a spot": told["mean"].mean(), "spots where surely one or more": (told["q05"] > 1).sum()})
    print(summary.round(2).to_string())

    kind = told["mean"].mean().idxmax()
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", sharex=True, sharey=True)
    for panel, name, title in zip(axes, ("mean", "q05"), ("mean", "surely at least (5 % quantile)"), strict=True):
        drawn = panel.scatter(*there.obsm["spatial"].T, c=told[name][kind], s=14, vmin=0, vmax=told["mean"][kind].max())
        panel.set(title=f"{kind}, cells a spot: {title}", aspect="equal")
    figure.colorbar(drawn, ax=axes)
    figure.savefig(asked.folder / "abundance.png")
    print("written:", *sorted(path.name for path in asked.folder.iterdir()))


if __name__ == "__main__":
    main()
