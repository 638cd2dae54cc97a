"""Stereoscope's shares of types: intervals of the model's own spots, and of sums of cells, at every level.

Stereoscope has one best value of each share, no posterior. What `estimate_proportions` says of its error is held against the truth: the
level of the smallest interval that holds the true share is uniform where intervals are right. scvi-tools' Stereoscope has no uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from calibrated.ranks import LEVELS
from scelbo import RNAStereoscope, SpatialStereoscope, settings
from scelbo.analysis.augmentation import reach
from scelbo.data import simulate

GRID = np.arange(0.05, 1.0, 0.05)
NOISE = 0.05
"""Of the counts of the model's own spots, what no type explains."""
PRESENT = 0.02
"""A type with a smaller share is as good as absent."""
OWN, SUMS, REAL = "spots of the model itself", "sums of simulated cells", "sums of cells of mouse cortex"
LAPLACE, FULL = "Laplace alone", "scelbo"


@dataclass(frozen=True)
class Spots:
    """Of one kind of spots and one way of intervals: what each level of ``GRID`` covers, all shares and those of types that are there."""

    kind: str
    method: str
    covered: pd.DataFrame
    rmse: float
    bias: float
    """Mean of estimate - truth, where the type is there."""

    @property
    def row(self) -> dict[str, float]:
        at = {f"{level:.0%}": float(np.interp(level, GRID, self.covered["all"])) for level in LEVELS}
        there = {f"{level:.0%}, present": float(np.interp(level, GRID, self.covered["present"])) for level in LEVELS}
        return at | there | {"RMSE": self.rmse, "bias, present": self.bias}


def tissues(n_spots: int) -> Iterator[tuple[str, AnnData, AnnData]]:
    """Cells and spots; those of the model itself are made in :func:`of_model`."""
    cells, spots = simulate.spots(n_spots, 800, 400, n_types=6, stored=0.4)
    yield SUMS, cells, spots
    import deconvolution

    if (deconvolution.FOLDER / "zeisel550.h5ad").exists():
        yield REAL, *deconvolution.simulated("zeisel550", 500, n_spots, 0)


def judged(kind: str, method: str, model: Any, spots: AnnData) -> Spots:
    """Coverage at every level."""
    truth = spots.obsm["proportions"].to_numpy()
    found, rows = model.estimate_proportions(spots), []
    mean, std = found.mean.to_numpy(), found.std.to_numpy()
    for level in GRID:  # what estimate_proportions(interval=level) would say
        held = np.abs(truth - mean) <= reach(model.calibration, mean, float(level)) * std
        rows.append({"all": held.mean(), "present": held[truth > PRESENT].mean()})
    error = mean - truth
    rmse, bias = float(np.sqrt((error**2).mean())), float(error[truth > PRESENT].mean())
    return Spots(kind, method, pd.DataFrame(rows, index=GRID), rmse, bias)


@torch.no_grad()
def of_model(model: Any, like: AnnData, seed: int = 0) -> AnnData:
    """Spots that are as the model says: amounts of few types, its own profiles and efficiencies, negative binomial counts."""
    module, total = model.module, torch.tensor(np.asarray(like.X.sum(1)), dtype=torch.float32)
    with settings.private_seed(seed) as rng:
        shares = rng.dirichlet(np.full(len(model.cell_types), 0.3), like.n_obs)
        batch = model.read(like).take(np.arange(like.n_obs))
        v = torch.from_numpy(np.column_stack([shares, np.zeros(like.n_obs)])).float()
        v[:, -1] = NOISE / (1 - NOISE) * module.explained(v, batch, module.w).mean.sum(1) / noise_of(module)
        v = v * total / module.explained(v, batch, module.w).mean.sum(1, keepdim=True)
        mean, odds = module.explained(v, batch, module.w).mean, module.o.exp()
        x = torch.poisson(torch._standard_gamma(mean / odds) * odds).numpy()
    names = list(map(str, model.cell_types))
    made = AnnData(sparse.csr_matrix(x), obs=like.obs.copy(), var=pd.DataFrame(index=model.setup.var_names))
    made.obsm["proportions"] = pd.DataFrame(shares, like.obs_names, names)
    return made


def noise_of(module: Any) -> torch.Tensor:
    """Expected counts of a unit of what no type explains."""
    return torch.nn.functional.softplus(module.noise["eta"]) @ module.o.exp()


def found(n_spots: int, epochs: tuple[int | None, int | None]) -> Iterator[Spots]:
    """Every kind of spots, with and without what mixtures teach."""
    for kind, cells, spots in tissues(n_spots):
        RNAStereoscope.setup_anndata(cells, labels_key="cell_type")
        reference = RNAStereoscope(cells)
        reference.train(epochs[0], seed=0, accelerator="cpu", progress=False)
        model = SpatialStereoscope.from_rna_model(spots, reference)
        model.train(epochs[1], seed=0, accelerator="cpu", progress=False)
        plain = SpatialStereoscope.from_rna_model(spots, reference, augmentation=False)
        plain.train(epochs[1], seed=0, accelerator="cpu", progress=False)
        for name, one in ((FULL, model), (LAPLACE, plain)):
            if name == LAPLACE:
                one.calibration = {}
            yield judged(kind, name, one, spots)
            if kind == SUMS:
                yield judged(OWN, name, one, of_model(plain, spots))
