r"""Clusters of cells as a Pyro mixture: each cell's counts are of one of K profiles.

.. math:: \pi \sim \mathrm{Dirichlet}(1), \quad \log \rho_{kg} \sim N(0, 3), \quad
    x_n \sim \textstyle\sum_k \pi_k \prod_g \mathrm{Poisson}(l_n\, \mathrm{softmax}(\log \rho_k)_g)
"""

from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

from scelbo import Setup, settings
from scelbo.fields import PlainCells
from scelbo.pyro import PyroModel, PyroModule
from scelbo.train import PlanOptions


class Mixture(PyroModule):
    """p(x, pi, rho), the cells' clusters summed out; q are free normals."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def model(self, cells: Any) -> None:
        pi = pyro.sample("pi", dist.Dirichlet(torch.ones(self.k)))
        log_rho = pyro.sample("log_rho", dist.Normal(0.0, 3.0).expand([self.k, cells.x.n_vars]).to_event(2))
        with self.plate(cells):
            each = dist.Poisson(cells.x.size[:, None] * log_rho.softmax(-1)).to_event(1)
            x = pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(pi.expand(len(cells), -1)), each), obs=cells.x.dense())
            pyro.deterministic("cluster", (pi.log() + each.log_prob(x[:, None])).softmax(-1), event_dim=1)

    def observe(self, data: Any) -> None:
        """Each profile starts as that of one cell, so that no two are alike."""
        super().observe(data)
        with settings.private_seed() as rng:
            some = data.take(rng.choice(len(data), self.k, replace=False)).x.dense()
        self.free.loc["log_rho"].data.copy_((some + 0.5).log() - (some + 0.5).log().mean(-1, keepdim=True))


class PyroMixture(PyroModel):
    """``n_clusters`` groups of cells, each with its share of the cells and its profile."""

    n_clusters: int = 8

    Cells = PlainCells
    plan = PlanOptions(lr=0.02, eps=1e-8, weight_decay=0.0)

    def build(self, setup: Setup) -> Mixture:
        return Mixture(self.n_clusters)

    def predict(self, adata: Any = None, indices: Any = None, *, soft: bool = False, batch_size: int | None = None) -> Any:
        """Cluster of each cell, or the probability of each, averaged over 20 draws."""
        told = self.sample_posterior(adata, indices, sites="cluster", n_samples=20, quantiles=(), batch_size=batch_size, seed=0)
        probability = told["cluster"]["mean"]
        return probability if soft else pd.Series(np.argmax(probability.to_numpy(), 1), probability.index)
