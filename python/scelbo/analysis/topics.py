"""What one asks of topics: how much of each cell they make up, which genes they hold, how well they explain cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.elbo import elbo
from scelbo.analysis.latent import latent_representation
from scelbo.arguments import named, question
from scelbo.data import index_of
from scelbo.errors import ArgumentError

if TYPE_CHECKING:
    from scelbo.model import Model

AT_ONCE = 2**22
"""Draws x topics x genes held together."""


def _names(n_topics: int) -> list[str]:
    return [f"topic_{k}" for k in range(n_topics)]


@named
def topic_proportions(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    give_mean: bool = True,
    n_samples: int = 256,
    batch_size: int | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    r"""How much of each cell every topic makes up: :math:`E[\theta_n]` under :math:`q(\theta_n \mid x_n)`.

    Parameters
    ----------
    adata
        Other data than the model's; features are matched by name.
    indices
        Row numbers (in any order) or a mask; default all.
    give_mean
        The mean (True) or one draw.
    n_samples
        Points that the mean is taken over: quasi-random ones, the same for all cells.
    batch_size
        Cells at once.
    seed
        Of the points or the draw.

    Returns
    -------
    Cells x ``topic_0``, ``topic_1``, ...; rows as asked for, each sums to 1.
    """
    theta = latent_representation(self, adata, indices, give_mean=give_mean, mc_samples=n_samples, batch_size=batch_size, seed=seed)
    return pd.DataFrame(theta, self.cell_names(adata, indices), _names(theta.shape[1]))  # type: ignore[union-attr]


@question
def feature_by_topic(self: Model, *, give_mean: bool = True, n_samples: int = 1000, seed: int | None = None) -> pd.DataFrame:
    r"""How often each gene is drawn from a topic: :math:`E[\Phi]` under :math:`q(\Phi)`.

    Parameters
    ----------
    give_mean
        The mean (True) or one draw.
    n_samples
        Draws that the mean is taken over, each with its mirror image.
    seed
        Of the draws.

    Returns
    -------
    Genes x ``topic_0``, ``topic_1``, ...; each column sums to 1.
    """
    self.require_trained()
    q = self.module.shared()["phi"]  # type: ignore[operator]
    with settings.private_seed(seed):
        if not give_mean:
            phi = q.rsample().softmax(-1)
        else:
            phi, left = torch.zeros_like(q.mean), max(1, n_samples // 2)
            total = 2 * left
            while left > 0:
                n = min(left, max(1, AT_ONCE // phi.numel()))
                away = q.stddev * torch.randn(n, *phi.shape, device=phi.device)
                phi += (q.mean + away).softmax(-1).sum(0) + (q.mean - away).softmax(-1).sum(0)
                left -= n
            phi /= total
    return pd.DataFrame(phi.T.cpu().numpy(), index=pd.Index(self.setup.var_names), columns=_names(len(phi)))


@named
def top_features(self: Model, n: int = 10, *, n_samples: int = 1000, seed: int | None = None) -> pd.DataFrame:
    """The genes that each topic draws most often.

    Parameters
    ----------
    n
        Genes a topic.
    n_samples, seed
        As in :func:`feature_by_topic`.

    Returns
    -------
    A row for each topic and rank: ``topic``, ``rank`` (from 1), ``feature``, ``probability``.
    """
    if n < 1:
        raise ArgumentError(f"n={n!r} is not allowed: it must be above zero.")
    parts = []
    for topic, p in feature_by_topic(self, n_samples=n_samples, seed=seed).items():
        top = p.sort_values(ascending=False, kind="stable")[:n]
        ranked = {"rank": np.arange(1, len(top) + 1), "feature": top.index, "probability": top.to_numpy()}
        parts.append(pd.DataFrame({"topic": topic, **ranked}))
    return pd.concat(parts, ignore_index=True)


@named
def perplexity(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None, seed: int | None = None
) -> float:
    r"""How many equally likely genes a count is as uncertain as: :math:`\exp(-\sum_n \mathrm{ELBO}_n / \sum_n l_n)`; lower is better.

    An upper bound of the perplexity under the topics learnt, at least 1 and, for topics that explain anything, below the number of
    genes. For cells that no training has seen ask with ``indices=model.held_out_indices``, or of other ``adata``.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    seed
        Of the one draw a cell that the bound is estimated with.

    Returns
    -------
    A number, 1 or more.
    """
    bound = elbo(self, adata, indices, batch_size=batch_size, return_mean=False, seed=seed)
    data = self.read(adata)
    size = data["x"].size[torch.from_numpy(index_of(data.n_obs, indices))]
    return math.exp(-float(np.sum(bound, dtype=np.float64)) / float(size.double().sum()))
