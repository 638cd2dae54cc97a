r"""The aggregated posterior of a set of cells: where a cell of this set lies, :math:`\bar q(z) = \frac1N \sum_n q(z \mid x_n)`.

Boyeau et al., "An empirical Bayes method for differential expression analysis of single cells with deep generative models",
PNAS 120 (2023), doi:10.1073/pnas.2209124120.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
import torch
from anndata import AnnData
from scipy.special import softmax
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal, StudentT

from scelbo.analysis.elbo import marginal_ll
from scelbo.arguments import question
from scelbo.data import Columns

if TYPE_CHECKING:
    from scelbo.model import Model

DRAWS_AT_ONCE = 1024
EFFECTIVE = 0.1
"""Share of the draws that have to count, after importance weights, for a test on them."""


@question
def aggregated_posterior(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, dof: float | None = None, batch_size: int | None = None
) -> MixtureSameFamily:
    r"""The distribution of z in these cells together, an even mixture of all :math:`q(z \mid x_n)`.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    dof
        Degrees of freedom of Student's t with the same location and scale, whose heavier tails bridge gaps between cells;
        None: normal.

    Returns
    -------
    A torch distribution over (n_latent,): ``log_prob``, ``sample``, ``mean``.
    """
    self.require_trained()
    loc, scale = posteriors(self, adata, indices, batch_size)
    each: Distribution = Normal(loc, scale) if dof is None else StudentT(dof, loc, scale)
    return MixtureSameFamily(Categorical(torch.ones(len(loc), device=loc.device)), Independent(each, 1))


def posteriors(model: Model, adata: AnnData | None, indices: Any, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(z | x), each (cells, n_latent)."""
    module: Any = model.module
    found = [module.posterior(cells).z for cells in model.batches(adata, indices, batch_size)]
    return torch.cat([q.mean for q in found]), torch.cat([q.stddev for q in found])


@question
def importance_weights(
    model: Model, adata: AnnData | None, anchors: np.ndarray, z: Tensor, *, n_mc_samples: int = 500, seed: int | None = None
) -> np.ndarray:
    r"""How far draws from the cells' approximate posteriors should count, were they to stand for the true ones.

    .. math:: w(z) = \sum_n \frac{p(x_n \mid z)\, p(z)}{p(x_n)} \Big/ \sum_n q(z \mid x_n)

    Parameters
    ----------
    model, adata
        The model, and the cells.
    anchors
        Rows of the cells n, from whose posteriors z was drawn.
    z
        (draws, n_latent).
    n_mc_samples
        Draws for each :math:`p(x_n)`.
    seed
        Of those draws.

    Returns
    -------
    (draws,) weights that sum to one.
    """
    log_evidence = torch.as_tensor(marginal_ll(model, adata, anchors, n_mc_samples=n_mc_samples, return_mean=False, seed=seed))
    loc, scale = posteriors(model, adata, anchors)
    likelihood, proposal = torch.full((len(z),), -math.inf, dtype=torch.float64), torch.full((len(z),), -math.inf, dtype=torch.float64)
    data = model.read(adata)
    for n, anchor in enumerate(anchors):
        joint = torch.cat(list(_log_joint(model, data, anchor, z))).double().cpu() - log_evidence[n]
        likelihood = torch.logaddexp(likelihood, joint)
        proposal = torch.logaddexp(proposal, Normal(loc[n], scale[n]).log_prob(z).sum(-1).double().cpu())
    return (likelihood - proposal).softmax(0).numpy()


def tempered(weights: np.ndarray, share: float = EFFECTIVE) -> np.ndarray:
    r"""Weights to the largest power, at most 1, whose effective sample size :math:`1 / \sum w^2` is ``share`` of the draws.

    Where q is far from the true posterior a few draws would carry all weight, and what a few draws agree on would look certain.
    """
    logs = np.log(np.maximum(weights, np.finfo(float).tiny))
    at = lambda power: softmax(power * logs)  # noqa: E731
    missing = lambda power: 1 / (at(power) ** 2).sum() - share * len(weights)  # noqa: E731
    return at(1.0 if missing(1) >= 0 else scipy.optimize.brentq(missing, 0, 1))


def _log_joint(model: Model, data: Columns, anchor: int, z: Tensor) -> Iterator[Tensor]:
    """log p(x_n, z) of one cell for every z; its other latents are at their mean."""
    module: Any = model.module
    one: Any = data.take(np.array([anchor])).to(model.device)
    q = module.posterior(one)
    for part in z.split(DRAWS_AT_ONCE):
        cells = data.take(np.repeat(anchor, len(part))).to(model.device)
        own = {name: d.mean.expand(len(part), -1) for name, d in q._asdict().items() if name not in module.shared()}
        latents = type(q)(**{name: d.mean for name, d in module.shared().items()} | own | {"z": part})
        explained = module.explained(cells, module.generative(latents, cells))
        yield sum(explained.values(), module.log_prior(q, latents, cells)["z"])
