"""Mixtures of normals in several dimensions at once, as priors of latents."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, register_kl

from scelbo.data import Batch
from scelbo.nn.conditional import PerCategory

NODES = 32
"""Of the quadrature for the KL of a single dimension."""


class Mixture(Distribution):
    r""":math:`\sum_k w_k\, N(m_k, \mathrm{diag}(s_k^2))`.

    Parameters
    ----------
    log_weight
        :math:`\log w`, (..., k); minus infinity leaves a component out.
    mean, sd
        m and s, (..., k, dimensions).
    """

    def __init__(self, log_weight: Float[Tensor, "*s k"], mean: Float[Tensor, "*s k d"], sd: Float[Tensor, "*s k d"]):
        super().__init__(validate_args=False)
        self.log_weight, self.each = log_weight, Normal(mean, sd, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*s d"]) -> Float[Tensor, "*s 1"]:
        """Of all dimensions together, as these are not independent."""
        return (self.each.log_prob(value[..., None, :]).sum(-1) + self.log_weight).logsumexp(-1, keepdim=True)


@register_kl(Normal, Mixture)
def _by_dimension(q: Normal, p: Mixture) -> Float[Tensor, "*s d"]:
    """KL of every dimension by itself, by Gauss-Hermite quadrature; these do not add up to that of all."""
    nodes, weight = (torch.from_numpy(part).to(q.loc) for part in np.polynomial.hermite.hermgauss(NODES))
    each = [1] * q.loc.dim()
    z = q.loc + math.sqrt(2) * q.scale * nodes.view(-1, *each)
    log_p = (p.each.log_prob(z[..., None, :]) + p.log_weight[..., None]).logsumexp(-2)
    return -q.entropy() - (weight.view(-1, *each) / math.sqrt(math.pi) * log_p).sum(0)


class MixtureOf(nn.Module):
    """A learnt :class:`Mixture` for each category of a covariate.

    Parameters
    ----------
    covariate, n
        As of :class:`~scelbo.nn.PerCategory`.
    components, dimensions
        Of each mixture.
    """

    def __init__(self, covariate: str, n: int, components: int, dimensions: int):
        super().__init__()
        self.logit = PerCategory(covariate, n, components, bound=0.0)
        self.mean = PerCategory(covariate, n, components, dimensions)
        self.log_sd = PerCategory(covariate, n, components, dimensions, bound=0.0)

    def forward(self, cells: Batch) -> Mixture:
        return Mixture(self.logit(cells).log_softmax(-1), self.mean(cells), self.log_sd(cells).exp())
