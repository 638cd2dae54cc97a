r"""How many cells of each type a spot has: a hierarchical model of cell2location's kind, written in Pyro.

After Kleshchevnikov et al. (Nature Biotechnology 40:661, 2022, doi:10.1038/s41587-021-01139-4). For spot s, gene g, type f with mean counts
a cell :math:`g_{fg}` in dissociated cells, and groups r of types that are found together,

.. math::
    z_{sr} &\sim \mathrm{Gamma}(N / R,\, 1), \quad y_{rf} \sim \mathrm{Dirichlet}_f \qquad\text{cells of each group; its types} \\
    w_{sf} &\sim \mathrm{Gamma}(\textstyle\sum_r z_{sr} y_{rf},\, 1) \qquad\text{cells of each type: absolute, with mean N in all} \\
    \mu_{sg} &= d_s\, (m_g \textstyle\sum_f w_{sf}\, g_{fg} + b_g) \qquad\text{detection, sensitivity, background} \\
    x_{sg} &\sim \mathrm{NB}(\mu_{sg},\, \alpha_g)

All have free normals as their posterior, so each spot has parameters of its own.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from anndata import AnnData
from torch import Tensor

from scelbo import Setup
from scelbo.pyro import PyroModel, PyroModule
from scelbo.train import PlanOptions, TrainOptions


class Tissue(PyroModule):
    """p(x, w and all else); q are free normals."""

    profiles: Tensor  # (types, genes): mean counts a cell

    def __init__(self, model: CellAbundance, setup: Setup):
        super().__init__()
        self.register_buffer("profiles", torch.zeros(len(model.cell_types), setup.n_vars))
        self.n, self.groups, self.names = model.cells_per_spot, model.n_groups, {"w": model.cell_types}

    def model(self, spots: Any) -> None:
        types, genes = self.profiles.shape
        m = pyro.sample("m", dist.LogNormal(-0.7, 0.5).expand([genes]).to_event(1))
        b = pyro.sample("b", dist.Gamma(1.0, 100.0).expand([genes]).to_event(1))
        inverse = pyro.sample("inverse_alpha", dist.Exponential(3.0).expand([genes]).to_event(1))
        y = pyro.sample("y", dist.Dirichlet(torch.full((self.groups, types), 0.5)).to_event(1))
        with self.plate(spots):
            z = pyro.sample("z", dist.Gamma(self.n / self.groups, 1.0).expand([self.groups]).to_event(1))
            w = pyro.sample("w", dist.Gamma(z @ y + 1e-3, 1.0).to_event(1))
            d = pyro.sample("d", dist.Gamma(20.0, 20.0))
            mu = d[:, None] * (m * (w @ self.profiles) + b) + 1e-6
            pyro.sample("x", dist.GammaPoisson(1 / inverse, 1 / (inverse * mu)).to_event(1), obs=spots.x.dense())


class CellAbundance(PyroModel):
    """Cells of each type in each spot, with how sure that is: ``CellAbundance.of_cells(spots, cells, labels_key=...)``.

    Parameters
    ----------
    cell_types
        The reference's types.
    cells_per_spot
        How many cells a spot is expected to have: it sets the scale of all.
    n_groups
        Groups of types that are found together.
    """

    cell_types: list[str]
    cells_per_spot: float = 8.0
    n_groups: int = 10

    plan = PlanOptions(lr=0.02, eps=1e-8, weight_decay=0.0, n_epochs_kl_warmup=1)
    training = TrainOptions(train_size=1.0, batch_size=2500)  # a spot that does not train has no posterior

    @classmethod
    def of_cells(cls, spots: AnnData, cells: AnnData, labels_key: str, **arguments: Any) -> Self:
        """A model of the spots; ``cells`` are dissociated ones of known types, with the same genes."""
        kinds = cells.obs[labels_key].astype("category")
        means = [np.asarray(cells[(kinds == kind).to_numpy(), spots.var_names].X.mean(0)).ravel() for kind in kinds.cat.categories]
        cls.setup_anndata(spots)
        model = cls(spots, cell_types=list(kinds.cat.categories), **arguments)
        model.module.profiles.copy_(torch.from_numpy(np.stack(means)))  # type: ignore[union-attr]
        return model

    def build(self, setup: Setup) -> Tissue:
        return Tissue(self, setup)

    def get_cell_abundance(self, quantiles: tuple[float, ...] = (0.05, 0.95), **more: Any) -> dict[str, pd.DataFrame]:
        """Cells of each type: ``mean``, ``sd``, ``q05``, ``q95``, each spots x types."""
        return self.sample_posterior(sites="w", quantiles=quantiles, **more)["w"]
