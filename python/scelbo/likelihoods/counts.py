r"""Likelihoods of counts, given their mean :math:`\mu = l\,\rho` (:class:`~scelbo.likelihoods.Mean`).

Every one holds its parameters, gives ``log_prob`` summed over genes, ``mean``, ``scale``, ``variance`` and draws ``sample``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scelbo.data import Counts
from scelbo.likelihoods import kernels
from scelbo.likelihoods.sparse import Mean, log_prob


@dataclass(frozen=True)
class Likelihood:
    """What all count likelihoods share; subclasses add parameters and ``log_prob``."""

    rate: Mean

    @property
    def scale(self) -> Float[Tensor, "*s cells genes"]:
        """Expected proportions (or, with size factors, expectations at size factor 1)."""
        return self.rate.scale

    @property
    def mean(self) -> Float[Tensor, "*s cells genes"]:
        """Expected counts."""
        return self.rate.value

    @property
    def parameters(self) -> dict[str, Tensor]:
        """By the names that users know: ``mean``, and ``dispersions``, ``dropout`` where there are such."""
        return {"mean": self.mean}

    def denoised(self, size: float) -> Float[Tensor, "*s cells genes"]:
        """The mean at a library of this size, drawn without counting noise."""
        return self.scale * size

    def log_prob(self, x: Counts) -> Float[Tensor, "*s cells"]:
        """Log probability of each cell's counts, summed over genes."""
        raise TypeError(f"{type(self).__name__} must say its log_prob")

    def sample(self) -> Float[Tensor, "*s cells genes"]:
        """One draw of the counts from torch's current random state."""
        raise TypeError(f"{type(self).__name__} must say how to sample")


@dataclass(frozen=True)
class Poisson(Likelihood):
    r"""Poisson(:math:`\mu`); variance :math:`\mu`."""

    @property
    def variance(self) -> Tensor:
        return self.mean

    def log_prob(self, x: Counts) -> Tensor:
        return log_prob(x, kernels.POISSON, self.rate) - x.log_factorial[:, 0]

    def sample(self) -> Tensor:
        return torch.poisson(self.mean)


@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    r"""NB with mean :math:`\mu` and inverse dispersion :math:`\theta`: variance :math:`\mu + \mu^2 / \theta`.

    Parameters
    ----------
    rate
        The mean.
    log_theta
        (1, genes) or (..., cells, genes), natural log.
    """

    log_theta: Float[Tensor, "*#s #cells genes"]

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**super().parameters, "dispersions": self.log_theta.exp()}

    def denoised(self, size: float) -> Tensor:
        mean, theta = super().denoised(size), self.log_theta.exp()
        return torch._standard_gamma(theta.expand_as(mean)) * (mean / theta)

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean**2 / self.log_theta.exp()

    def log_prob(self, x: Counts) -> Tensor:
        return log_prob(x, kernels.NB, self.rate, self.log_theta) - x.log_factorial[:, 0]

    def sample(self) -> Tensor:
        theta = self.log_theta.exp().expand_as(self.rate.h)
        return torch.poisson(torch._standard_gamma(theta) * (self.mean / theta))


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r"""With probability :math:`\sigma(\pi)` a structural zero, else NB(:math:`\mu, \theta`)."""

    zi_logits: Float[Tensor, "*s cells genes"]

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**super().parameters, "dropout": self.zi_logits}

    @property
    def variance(self) -> Tensor:
        pi = self.zi_logits.sigmoid()
        return (1 - pi) * self.mean * (1 + self.mean * (pi + 1 / self.log_theta.exp()))

    def log_prob(self, x: Counts) -> Tensor:
        return log_prob(x, kernels.ZINB, self.rate, self.log_theta, self.zi_logits) - x.log_factorial[:, 0]

    def sample(self) -> Tensor:
        return super().sample() * torch.bernoulli(torch.sigmoid(-self.zi_logits))


@dataclass(frozen=True)
class Normal(Likelihood):
    r"""Normal(:math:`\mu, \sigma`), for values that are not counts."""

    log_sigma: Float[Tensor, "*#s #cells genes"]

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**super().parameters, "dispersions": self.log_sigma.exp()}

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_sigma).exp().expand_as(self.rate.h)

    def log_prob(self, x: Counts) -> Tensor:
        return log_prob(x, kernels.NORMAL, self.rate, self.log_sigma)

    def sample(self) -> Tensor:
        return torch.normal(self.mean, self.variance.sqrt())


def of_counts(
    kind: str, rate: Mean, log_dispersion: Float[Tensor, "*#s #cells genes"], zi_logits: Float[Tensor, "*s cells genes"] | None = None
) -> Likelihood:
    """The likelihood that models call ``kind``: ``"zinb"``, ``"nb"``, ``"poisson"`` or ``"normal"``."""
    match kind:
        case "zinb":
            assert zi_logits is not None
            return ZeroInflatedNegativeBinomial(rate, log_dispersion, zi_logits)
        case "nb":
            return NegativeBinomial(rate, log_dispersion)
        case "poisson":
            return Poisson(rate)
    return Normal(rate, log_dispersion)
