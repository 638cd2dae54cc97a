r"""Negative binomials that add up: counts of a spot, each from a cell of one type or another.

With log-odds :math:`o_g` that all types share, sums of :math:`\mathrm{NB}(r_{zg}, o_g)` are :math:`\mathrm{NB}(\sum_z r_{zg}, o_g)`:

.. math:: \log p(x_g) = \log \frac{\Gamma(x_g + r_g)}{\Gamma(r_g)\, x_g!} + x_g \log \sigma(o_g) - r_g \log(1 + e^{o_g}),
    \qquad E[x_g] = r_g e^{o_g}

Only the first term is not linear in r, and it is 0 where nothing was counted. So it is concave in r, and in amounts v with
:math:`r_g = \sum_z v_z b_{zg}`, whose best values :func:`amounts` finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scelbo.data import Counts

SMALL = 1e-12
"""A shape below which a count is as good as impossible."""
ROUNDS, HALVINGS, SETTLED = 200, 3, 1e-8
"""Of the search for amounts at most; how often one of Newton's steps is halved; the change of a share at which it ends."""
NONE, WORTHLESS, RIDGE = 1e-3, 1e-2, 1e-9
"""Amounts below this share of the largest are held at 0 while what they gain falls short of their price by this share of it; what keeps the
matrix of Newton's step regular, as a share of its largest."""


@dataclass(frozen=True)
class AdditiveNB:
    r""":math:`\mathrm{NB}(l\, r_g, o_g)`: mean :math:`l\, r_g e^{o_g}`, variance :math:`(1 + e^{o_g})` times that.

    Parameters
    ----------
    shape
        r, (..., cells, genes), above zero.
    logits
        o, (genes,).
    size
        l, (cells, 1); 1 where r holds it.
    """

    shape: Float[Tensor, "*s cells genes"]
    logits: Float[Tensor, " genes"]
    size: Float[Tensor, "*#s #cells 1"]

    @property
    def scale(self) -> Float[Tensor, "*s cells genes"]:
        """Expected share of the cell's counts, as far as the model has it sum to one."""
        return self.shape * self.logits.exp()

    @property
    def mean(self) -> Float[Tensor, "*s cells genes"]:
        """Expected counts."""
        return self.size * self.scale

    @property
    def variance(self) -> Float[Tensor, "*s cells genes"]:
        """Of the counts."""
        return self.mean * (1 + self.logits.exp())

    @property
    def parameters(self) -> dict[str, Tensor]:
        """By the names that users know: ``mean``, and ``dispersions``, the inverse dispersion, which is l r."""
        return {"mean": self.mean, "dispersions": self.size * self.shape}

    def denoised(self, size: float) -> Float[Tensor, "*s cells genes"]:
        """The mean at a library of this size, drawn without counting noise."""
        return torch._standard_gamma(size * self.shape) * self.logits.exp()

    def sample(self) -> Float[Tensor, "*s cells genes"]:
        """One draw of the counts from torch's current random state."""
        return torch.poisson(torch._standard_gamma(self.size * self.shape) * self.logits.exp())

    def log_prob(self, x: Counts) -> Float[Tensor, "*s cells"]:
        """Log probability of each cell's counts, summed over genes (those that were measured)."""
        if x.measured is not None:
            shape, logits = (q.index_select(-1, x.measured) for q in (self.shape, self.logits))
            return AdditiveNB(shape, logits, self.size).log_prob(x.kept())
        nothing = -(self.shape @ F.softplus(self.logits)[:, None]) * self.size
        r = (self.shape.flatten(-2)[..., x.flat] * self.size[..., 0][..., x.row]).clamp_min(SMALL)
        stored = torch.lgamma(x.val + r) - torch.lgamma(r) + (x.val * F.logsigmoid(self.logits)[x.col])
        total = torch.zeros_like(nothing[..., 0]).index_add(-1, x.row, stored)
        return nothing[..., 0] + total - x.log_factorial[:, 0]


def mixed(v: Float[Tensor, "cells types"], basis: Float[Tensor, "*cells types genes"]) -> Float[Tensor, "cells genes"]:
    """R = v B, where B is of each cell, or one for all."""
    return (v[:, None] @ basis)[:, 0] if basis.dim() == 3 else v @ basis


class Amounts:
    r"""How the log likelihood of counts depends on amounts v, with :math:`r = v B`: in float64, as Newton's steps need.

    Parameters
    ----------
    x
        Counts.
    basis
        B, of each cell, or one for all.
    logits
        o.
    """

    def __init__(self, x: Counts, basis: Float[Tensor, "*cells types genes"], logits: Float[Tensor, " genes"]):
        self.x, self.basis, self.softplus = x.to(torch.float64), basis.double(), F.softplus(logits.double())
        self.price = (self.basis @ self.softplus[:, None])[..., 0]  # (*cells, types): what a unit costs where nothing is counted

    def shape(self, v: Tensor) -> Float[Tensor, " stored"]:
        """R at the stored values."""
        return mixed(v, self.basis).flatten()[self.x.flat].clamp_min(SMALL)

    def dense(self, stored: Tensor) -> Float[Tensor, "cells genes"]:
        """Values at the stored counts among zeros."""
        return stored.new_zeros(len(self.x), self.x.n_vars).view(-1).index_copy(0, self.x.flat, stored).view(len(self.x), -1)

    def value(self, v: Tensor) -> Float[Tensor, " cells"]:
        """Log likelihood, up to what does not depend on v."""
        r = self.shape(v)
        gained = torch.lgamma(self.x.val + r) - torch.lgamma(r)
        return torch.zeros_like(v[:, 0]).index_add(0, self.x.row, gained) - (v * self.price).sum(-1)

    def gain(self, v: Tensor) -> Float[Tensor, "cells types"]:
        """Its slope in v, without the price."""
        r = self.shape(v)
        slope = self.dense(torch.digamma(self.x.val + r) - torch.digamma(r))
        return (self.basis @ slope[..., None])[..., 0] if self.basis.dim() == 3 else slope @ self.basis.T

    def information(self, v: Tensor) -> Float[Tensor, "cells types types"]:
        """Minus its second derivative."""
        r = self.shape(v)
        curve = self.dense(torch.polygamma(1, r) - torch.polygamma(1, self.x.val + r))
        if self.basis.dim() == 3:
            return (self.basis * curve[:, None]) @ self.basis.mT
        pairs = self.basis[:, None] * self.basis
        return (curve @ pairs.flatten(0, 1).T).view(len(v), *pairs.shape[:2])

    def newton(self, v: Tensor, slope: Tensor, held: Tensor) -> Float[Tensor, "cells types"]:
        """Newton's step among the amounts that are not held. A small one that would fall below 0 goes there."""
        bend, small, gone = self.information(v), v < NONE * v.amax(-1, keepdim=True), torch.zeros_like(v)
        for _ in range(v.shape[-1]):
            free = (~held).double()
            among = bend * free[:, None] * free[..., None]
            ridge = 1 - free + RIDGE * among.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
            rest = free * (slope + (bend @ gone[..., None])[..., 0])
            step = free * torch.linalg.solve(among + torch.diag_embed(ridge), rest) - gone
            falls = small & ~held & (v + step < 0)
            if not falls.any():
                break
            held, gone = held | falls, torch.where(falls, v, gone)
        return step

    def along(self, v: Tensor, step: Tensor) -> Float[Tensor, "cells types"]:
        """From v along a step: all of it, cut at 0; else as far as the first amount that gets there, or a part of that; or not at all."""
        before, found = self.value(v), v
        first = torch.where(step < 0, v / -step.clamp(max=-1e-300), torch.inf).amin(-1, keepdim=True).clamp(max=1)
        left = step.abs().amax(-1) > SETTLED * v.sum(-1)
        for part in (torch.ones_like(first), *(first * 0.5**power for power in range(HALVINGS))):
            tried = (v + step * part).clamp_min(0)
            better = left & (self.value(tried) > before)
            found, left = torch.where(better[:, None], tried, found), left & ~better
            if not left.any():
                break
        return found


@torch.no_grad()
def amounts(
    x: Counts, basis: Float[Tensor, "*cells types genes"], logits: Float[Tensor, " genes"], rounds: int = ROUNDS
) -> Float[Tensor, "cells types"]:
    r"""The v >= 0 that :math:`\log p(x)` is largest at, of each cell by itself.

    The likelihood is concave in v, so that the answer does not depend on where the search starts. Each round makes a step of the EM,

    .. math:: v_z \leftarrow v_z \frac{\sum_g b_{zg}\, (\psi(x_g + r_g) - \psi(r_g))}{\sum_g b_{zg} \log(1 + e^{o_g})},

    which is never for the worse, and one of Newton's among the types that are not held at 0, as far as it is for the better.

    Parameters
    ----------
    x, basis, logits
        As of :class:`Amounts`.
    rounds
        At most so many.
    """
    of = Amounts(x, basis, logits)
    v = (of.x.size / of.price.sum(-1, keepdim=True)).expand(len(x), basis.shape[-2])
    for _ in range(rounds):
        before, v = v, v * of.gain(v) / of.price
        slope = of.gain(v) - of.price
        held = ((v == 0) & (slope <= 0)) | ((v < NONE * v.amax(-1, keepdim=True)) & (slope < -WORTHLESS * of.price))
        v = v.masked_fill(held, 0)
        v = of.along(v, of.newton(v, slope, held))
        if float(((v - before).abs() / v.sum(-1, keepdim=True)).max()) < SETTLED:
            break
    return v.to(basis.dtype)
