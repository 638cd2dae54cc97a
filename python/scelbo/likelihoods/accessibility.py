r"""The likelihood of open chromatin: a region counts as seen or not, :math:`[x > 0] \sim \mathrm{Bernoulli}(p),\ p = y\,l\,r`.

As in :mod:`scelbo.likelihoods.sparse`, :math:`\sum_j \log(1 - p_j)` is dense and cheap, and what a seen region adds,
:math:`\log p_j - \log(1 - p_j)`, is needed at the stored values only. With :math:`G_j = d \log P / d \log p_j` (1 where seen, else
:math:`-p_j / (1 - p_j)`) all gradients are :math:`G` times :math:`1 - y`, :math:`1 - l` and :math:`1 - r`, for the logits of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo import kernels
from scelbo.data import Counts
from scelbo.likelihoods import compiled, fused
from scelbo.likelihoods.sparse import at, pieces


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Counts, h: Tensor, cell: Tensor, region: Tensor) -> Tensor:
        wants = any(ctx.needs_input_grad)
        n, regions = h.shape
        value, of_cell, of_region = h.new_empty(n), cell.sigmoid(), region.sigmoid()
        d_h, G = (torch.empty_like(h), torch.empty_like(h)) if wants else (None, None)
        for i, j, s in pieces(x):
            flat = x.flat[s] - i * regions
            y = h[i:j].sigmoid()
            p = (y * of_region).mul_(of_cell[i:j])
            rest = (1 - p).clamp_min_(torch.finfo(p.dtype).eps)
            p_at, rest_at = at(p, x.col[s], flat), at(rest, x.col[s], flat)
            stored = p_at.clamp_min(torch.finfo(p.dtype).tiny).log() - rest_at.log()
            value[i:j] = _sum_of_logs(rest) + torch.segment_reduce(stored, "sum", offsets=x.crow[i : j + 1] - x.crow[i])
            if d_h is None or G is None:
                continue
            torch.div(p, rest.neg_(), out=G[i:j]).view(-1).scatter_(0, flat, torch.ones_like(stored))
            torch.mul(G[i:j], y.neg_().add_(1), out=d_h[i:j])
        ctx.save_for_backward(d_h, G, of_cell, of_region)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_h, G, of_cell, of_region = ctx.saved_tensors
        d_cell = G.sum(-1, keepdim=True) * (1 - of_cell) * grad[:, None]
        return None, d_h * grad[:, None], d_cell, (grad @ G) * (1 - of_region)


def _sum_of_logs(positive: Tensor) -> Tensor:
    """Sum of the logs of each row: of products of four, as a logarithm costs as much as five multiplications."""
    k = positive.shape[1] // 4
    a, b, c, d, left = positive.split([k, k, k, k, positive.shape[1] - 4 * k], dim=1)
    return ((a * b).mul_(c * d)).log_().sum(-1) + left.log().sum(-1)


@dataclass(frozen=True)
class Accessibility:
    r"""Bernoulli(:math:`y\,l\,r`) of whether a region was seen.

    Parameters
    ----------
    h
        (..., cells, regions) logit of y, how often the region is open in cells like this one.
    cell
        (cells, 1) logit of the cell factor l: how much of what is open was seen.
    region
        (regions,) logit of the region factor r: width, mappability and the like.
    """

    h: Float[Tensor, "*s cells regions"]
    cell: Float[Tensor, "cells 1"]
    region: Float[Tensor, " regions"]

    @property
    def scale(self) -> Float[Tensor, "*s cells regions"]:
        """y: accessibility without what the cell and the region did to it."""
        return self.h.sigmoid()

    @property
    def mean(self) -> Float[Tensor, "*s cells regions"]:
        """Probability of being seen."""
        return self.scale * self.cell.sigmoid() * self.region.sigmoid()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def log_prob(self, x: Counts) -> Float[Tensor, "*s cells"]:
        """Log probability of which regions were seen in each cell."""
        if x.measured is not None:
            h, region = (q.index_select(-1, x.measured) for q in (self.h, self.region))
            return Accessibility(h, self.cell, region).log_prob(x.kept())
        if self.h.dim() > 2:
            return torch.stack([Accessibility(h, self.cell, self.region).log_prob(x) for h in self.h])
        for by, able in ((compiled, kernels.compiled), (fused, kernels.fused)):
            if able(self.h, self.cell, self.region):
                return by.bernoulli(x, self.h, self.cell, self.region)
        return _LogProb.apply(x, self.h, self.cell, self.region)

    def sample(self) -> Float[Tensor, "*s cells regions"]:
        """One draw of which regions are seen."""
        return torch.bernoulli(self.mean)
