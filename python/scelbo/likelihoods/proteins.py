r"""The likelihood of antibody counts: background, or background times a foreground factor (Gayoso et al., Nature Methods 18:272, 2021).

.. math::
    y_{np} \sim \pi_{np}\, \mathrm{NB}(\beta_{np}, \phi_p) + (1 - \pi_{np})\, \mathrm{NB}(\alpha_{np}\, \beta_{np}, \phi_p),
    \qquad \alpha \ge 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import logsigmoid


def log_nb(y: Tensor, log_mu: Tensor, log_phi: Tensor) -> Tensor:
    r"""log NB(y) of mean :math:`\mu` and inverse dispersion :math:`\phi`, each from its logarithm, entry by entry."""
    phi = log_phi.exp()
    total = torch.logaddexp(log_mu, log_phi)  # log(mu + phi)
    gamma = torch.lgamma(y + phi) - torch.lgamma(phi) - torch.lgamma(y + 1)
    return gamma + y * (log_mu - total) + phi * (log_phi - total)


@dataclass(frozen=True)
class ProteinMixture:
    r"""A negative binomial for the background, one for the foreground, and which of them a protein of a cell is in.

    Parameters
    ----------
    log_back
        (..., cells, proteins) log :math:`\beta`, the mean of the background, in counts.
    log_alpha
        (..., cells, proteins) log :math:`\alpha \ge 0`: times that the foreground is the background.
    mixing
        (..., cells, proteins) logit of :math:`\pi`, the probability of background.
    log_phi
        (1 or cells, proteins) log of the inverse dispersion.
    measured
        (cells, proteins) which were measured at all: the others say nothing. None for all.
    q_back
        What :math:`\log \beta` was drawn from.
    """

    log_back: Float[Tensor, "*s cells proteins"]
    log_alpha: Float[Tensor, "*s cells proteins"]
    mixing: Float[Tensor, "*s cells proteins"]
    log_phi: Float[Tensor, "*#s #cells proteins"]
    measured: Bool[Tensor, "cells proteins"] | None = None
    q_back: Normal | None = None

    @property
    def background(self) -> Float[Tensor, "*s cells proteins"]:
        r""":math:`\beta`, counts."""
        return self.log_back.exp()

    @property
    def foreground(self) -> Float[Tensor, "*s cells proteins"]:
        r""":math:`\alpha \beta`, counts."""
        return (self.log_back + self.log_alpha).exp()

    @property
    def probability(self) -> Float[Tensor, "*s cells proteins"]:
        r""":math:`1 - \pi`: that a cell has the protein."""
        return torch.sigmoid(-self.mixing)

    @property
    def scale(self) -> Float[Tensor, "*s cells proteins"]:
        r""":math:`(1 - \pi) \alpha \beta`: expected counts without the background."""
        return self.probability * self.foreground

    @property
    def mean(self) -> Float[Tensor, "*s cells proteins"]:
        """Expected counts."""
        return self.scale + (1 - self.probability) * self.background

    @property
    def parameters(self) -> dict[str, Tensor]:
        """``background``, ``foreground`` (means), ``mixing`` (probability of the background), ``dispersions``."""
        mixing = self.mixing.sigmoid()
        return {"background": self.background, "foreground": self.foreground, "mixing": mixing, "dispersions": self.log_phi.exp()}

    def denoised(self, size: float) -> Tensor:
        """The foreground's counts, drawn without counting noise (proteins have no library size)."""
        mean, phi = self.scale, self.log_phi.exp()
        return torch._standard_gamma(phi.expand_as(mean)) * (mean / phi)

    @property
    def variance(self) -> Float[Tensor, "*s cells proteins"]:
        """Within and between the two."""
        p, back, fore, over = self.probability, self.background, self.foreground, (-self.log_phi).exp()
        within = p * fore * (1 + fore * over) + (1 - p) * back * (1 + back * over)
        return within + p * (1 - p) * (fore - back) ** 2

    def log_prob(self, y: Float[Tensor, "cells proteins"]) -> Float[Tensor, "*s cells"]:
        """Log probability of each cell's counts, summed over the proteins that were measured."""
        back = logsigmoid(self.mixing) + log_nb(y, self.log_back, self.log_phi)
        fore = logsigmoid(-self.mixing) + log_nb(y, self.log_back + self.log_alpha, self.log_phi)
        each = torch.logaddexp(back, fore)
        return (each if self.measured is None else torch.where(self.measured, each, 0)).sum(-1)

    def sample(self) -> Float[Tensor, "*s cells proteins"]:
        """One draw of the counts from torch's current random state."""
        mu = torch.where(torch.bernoulli(self.probability) > 0, self.foreground, self.background)
        phi = self.log_phi.exp().expand_as(mu)
        return torch.poisson(torch._standard_gamma(phi) * (mu / phi))
