r"""The proteins of a model: decoder, dispersion, the background's prior, and which were measured where.

Every model with antibody counts holds one :class:`Proteins`, and adds its log likelihood, the KL of its background and its penalties to
its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from scelbo.data import Setup
from scelbo.data.background import background_prior
from scelbo.likelihoods import ProteinMixture
from scelbo.nn import PerCategory, ProteinDecoder, Settled, for_cells, per_feature
from scelbo.nn.proteins import Decoded

START = (3.0, 0.0)
"""Mean and log standard deviation of the log background, where nothing is taken from the data."""

LEAN = 1e-3
"""How much minus the log probability of background counts: it decides where background and foreground are the same, and nothing else."""


class Proteins(Settled):
    r"""p(y | z, beta, s) with :math:`\log \beta \sim N(c_{pb}, d_{pb}^2)` for each batch (or panel) b, and :math:`q(\log \beta \mid z, s)`.

    Parameters
    ----------
    setup
        Of the data: the field ``protein``, its batches, its panels.
    n_latent, decoder, seen
        Of :class:`~scelbo.nn.ProteinDecoder`.
    dispersion
        ``"protein", "protein-batch"`` or ``"protein-label"``.
    empirical
        Whether the background's prior starts from the data; None: with more than 10 proteins.
    override_missing
        Take proteins without counts in a batch for measured.
    efficiency
        Whether each batch may stain each protein more or less than others do.
    """

    def __init__(
        self, setup: Setup, n_latent: int, decoder: dict[str, Any], seen: dict[str, Any], dispersion: str, *,
        empirical: bool | None = None, override_missing: bool = False, efficiency: bool = False,
    ):  # fmt: skip
        super().__init__()
        n, batches = len(setup.features["protein"]), len(setup.categories["batch"])
        self.n, self.empirical, self.override_missing = n, n > 10 if empirical is None else empirical, override_missing
        self.decoder = ProteinDecoder(n_latent, n, seen=seen, **decoder)
        self.log_phi = per_feature(dispersion, n, setup)
        self.panel = "panel" if setup.keys.get("panel_key") is not None else "batch"
        panels = len(setup.categories[self.panel])
        self.back_mean, self.back_log_sd = (PerCategory(self.panel, panels, n) for _ in START)
        self.back_mean.table.data.fill_(START[0])
        self.back_log_sd.table.data.fill_(START[1])
        self.measured = PerCategory(self.panel, panels, n, learns=False)  # 1 or 0
        self.counted = PerCategory("batch", batches, n, learns=False)  # the same of batches, which decoders know
        self.efficiency = PerCategory("batch", batches, n, bound=0.0) if efficiency else None

    def take(self, y: Float[Tensor, "cells proteins"], batch: Tensor, panel: Tensor) -> None:
        """Note which proteins have counts in each batch and panel, and what the background looks like."""
        for part, code in ((self.measured, panel), (self.counted, batch)):
            for c in code.unique():
                seen = (y[code == c] > 0).any(0).to(y.dtype)
                part.set_row(int(c), torch.ones_like(seen) if self.override_missing else seen)
        for p in panel.unique() if self.empirical else ():
            prior = background_prior(y[panel == p])
            if prior is not None:
                for part, value in zip((self.back_mean, self.back_log_sd), prior, strict=True):
                    part.set_row(int(p), torch.full((self.n,), value))

    def look(self) -> bool:
        return not bool(self.measured.rows().all())

    @property
    def some_missing(self) -> bool:
        """Whether a protein was not measured in some batch (or panel)."""
        return self.told()

    def mask(self, cells: Any) -> Tensor | None:
        """Which were measured in each cell, (cells, proteins); None for all."""
        return self.measured(cells) > 0 if self.some_missing else None

    def noise(self, n: int) -> Normal:
        """What draws of the background are made of, for n cells."""
        zeros = self.measured.rows().new_zeros(n, self.n)
        return Normal(zeros, torch.ones_like(zeros), validate_args=False)

    def decode(self, z: Tensor, cells: Any) -> Decoded:
        """From z to what protein counts are made of."""
        return self.decoder(z, cells, cells.numbers)

    def mixture(self, decoded: Decoded, noise: Tensor, cells: Any) -> ProteinMixture:
        """p(y | z, beta, s), with the background that the noise draws."""
        log_back = decoded.log_back.mean + decoded.log_back.stddev * noise
        if self.efficiency is not None:
            log_back = log_back + self.efficiency(cells)
        return ProteinMixture(
            log_back, decoded.log_alpha, decoded.mixing, for_cells(self.log_phi, cells), self.mask(cells), decoded.log_back
        )

    def imputed(self, z: Tensor, noise: Tensor, cells: Any) -> ProteinMixture:
        """The same, all measured: those that were not, where a cell is from, are decoded as in the batches in which they were.

        That is, with the average of their parameters there.
        """
        own = self.mixture(self.decode(z, cells), noise, cells)
        if own.measured is None:
            return own
        counted = self.counted.rows() > 0
        parts, weights = [], counted / counted.sum(0).clamp_min(1)
        for b in counted.any(1).nonzero()[:, 0].tolist():
            there = cells.replace({"batch": b})
            parts.append((weights[b], self.mixture(self.decode(z, there), noise, there)))
        fill = lambda name: torch.where(own.measured, getattr(own, name), sum(w * getattr(p, name) for w, p in parts))  # noqa: E731
        return ProteinMixture(fill("log_back"), fill("log_alpha"), fill("mixing"), fill("log_phi"))

    # ------------------------------------------------------------------ the background
    def prior(self, cells: Any) -> Normal:
        """p(log beta), (cells, proteins)."""
        return Normal(self.back_mean(cells), self.back_log_sd(cells).exp(), validate_args=False)

    def kl(self, p: ProteinMixture, cells: Any) -> Float[Tensor, " cells"]:
        """KL(q || p) of the background of what was measured."""
        assert p.q_back is not None
        kl = kl_divergence(p.q_back, self.prior(cells))
        return (kl if p.measured is None else torch.where(p.measured, kl, 0)).sum(-1)

    def log_ratio(self, z: Tensor, noise: Tensor, cells: Any) -> Float[Tensor, "*s cells"]:
        """log p - log q of the drawn background of what was measured."""
        q = self.decode(z, cells).log_back
        log_beta, measured = q.mean + q.stddev * noise, self.mask(cells)
        ratio = self.prior(cells).log_prob(log_beta) - q.log_prob(log_beta)
        return (ratio if measured is None else torch.where(measured, ratio, 0)).sum(-1)

    def lean(self, p: ProteinMixture) -> Float[Tensor, "*s cells"]:
        r"""The price of foreground, which is to be background where counts do not tell them apart (:math:`\alpha = 1`)."""
        price = LEAN * F.softplus(-p.mixing)
        return (price if p.measured is None else torch.where(p.measured, price, 0)).sum(-1)

    def penalties(self, cells: Any) -> dict[str, Float[Tensor, ""]]:
        """Of efficiencies, log-normal around one, each cell its share."""
        if self.efficiency is None:
            return {}
        return {"efficiency": 0.5 * (self.efficiency(cells) ** 2).sum(-1).mean()}
