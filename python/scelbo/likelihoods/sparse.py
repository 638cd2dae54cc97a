r"""How every count likelihood is evaluated on sparse data.

With :math:`\log p(x) = \log p(0) + [x > 0]\,(\log p(x) - \log p(0))` the first term is cheap and dense, and the second, which holds
all gamma functions, is needed at the stored values only. Values and exact gradients are made together, a few cells at a time so
that the work stays in the processor's cache; the backward pass only multiplies by the incoming gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo.data import Counts
from scelbo.data.counts import in_pieces
from scelbo.kernels import compiled, fused

VALUES_AT_ONCE = 2**17
"""Cells x genes that are worked on together: a handful of such tensors fits a core's cache."""


LOG2_E = 1 / math.log(2)


class Mean(NamedTuple):
    """The mean of a count: ``exp(log_l) * scale``, ``scale = softmax(h)`` or, with size factors, ``softplus(h)``.

    Parameters
    ----------
    h
        (..., cells, genes) what the decoder puts out.
    log_l
        (..., cells, 1) log library size or log size factor.
    link
        ``"softmax"`` or ``"softplus"``.
    among
        Columns whose proportions sum to one (softmax); None for all. Those of the others are on the same scale.
    """

    h: Float[Tensor, "*s cells genes"]
    log_l: Float[Tensor, "*#s cells 1"]
    link: str = "softmax"
    among: Tensor | None = None

    @property
    def scale(self) -> Float[Tensor, "*s cells genes"]:
        """Expected proportion of each gene (softmax), or its expectation at size factor 1 (softplus)."""
        if self.among is not None:
            return (self.h - self.h[..., self.among].logsumexp(-1, keepdim=True)).exp()
        return self.h.softmax(-1) if self.link == "softmax" else F.softplus(self.h)

    @property
    def value(self) -> Float[Tensor, "*s cells genes"]:
        """Expected counts."""
        return self.log_l.exp() * self.scale


class Rows(NamedTuple):
    """A few cells on their way through a likelihood: dense means, and what stands at the stored values."""

    mu: Tensor  # (cells, genes)
    params: tuple[Tensor, ...]  # each (1, genes) or (cells, genes)
    x: Tensor  # (stored,)
    log_mu: Tensor  # (stored,)
    col: Tensor  # (stored,)
    flat: Tensor  # (stored,) position in (cells, genes)
    crow: Tensor  # (cells + 1,) where each cell's stored values start
    prepared: tuple[Tensor, ...]  # each (stored,), from ``prepare``

    def at(self, dense: Tensor) -> Tensor:
        """A (1, genes) or (cells, genes) tensor at the stored values."""
        return at(dense, self.col, self.flat)

    def add(self, dense: Tensor, stored: Tensor) -> Tensor:
        """Add ``stored`` to ``dense`` in place (positions are unique)."""
        dense.view(-1).scatter_add_(0, self.flat, stored)
        return dense

    def put(self, dense: Tensor, stored: Tensor) -> Tensor:
        """Write ``stored`` into ``dense`` in place."""
        dense.view(-1).scatter_(0, self.flat, stored)
        return dense

    def total(self, dense_sum: Tensor, stored: Tensor) -> Tensor:
        """Sum over genes: of the dense part (done), plus what the stored values add."""
        return dense_sum + torch.segment_reduce(stored, "sum", offsets=self.crow)


def at(dense: Tensor, col: Tensor, flat: Tensor) -> Tensor:
    """A tensor of one row (by column) or of one row a cell (by position) at the stored values."""
    return dense.reshape(-1).index_select(0, col if dense.shape[0] == 1 else flat)  # several times faster than dense[...]


def pieces(x: Counts) -> Iterator[tuple[int, int, slice]]:
    """Of as few rows at a time as the cache wants."""
    return in_pieces(x, VALUES_AT_ONCE // x.n_vars)


class Kernel(NamedTuple):
    """A likelihood: what is prepared once at the stored values, and the value and gradients for a few cells."""

    prepare: Callable[[Counts, tuple[Tensor, ...]], tuple[Tensor, ...]]
    rows: Callable[[Rows], tuple[Tensor, Tensor, tuple[Tensor, ...]]]
    """-> value (cells,), d value / d log mu (cells, genes), d value / d each parameter (cells, genes)."""
    loop: Callable[..., Tensor] | None = None
    """The whole by compiled loops: (counts, softmax, h, log_l, parameters) -> value (cells,)."""
    fused: Callable[..., Tensor] | None = None
    """The same on a GPU."""


def exp(x: Tensor, by: float | Tensor = 1.0, plus: Tensor | None = None) -> Tensor:
    """e^(x * by + plus) by way of 2^x, which the processor does in a third of the time."""
    scaled = x * (by * LOG2_E) if plus is None else torch.add(plus * LOG2_E, x, alpha=LOG2_E)
    return scaled.exp2_()


def _mean(h: Tensor, log_l: Tensor, softmax: bool) -> tuple[Tensor, Tensor]:
    """(mu, what log mu has beyond h): with a softmax its normaliser, and the library size."""
    if not softmax:
        return exp(h, plus=log_l), log_l
    highest = h.amax(-1, keepdim=True)
    mu = exp(h, plus=-highest)
    total = mu.sum(-1, keepdim=True)
    return mu.mul_(log_l.exp() / total), log_l - highest - total.log()


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Counts, kernel: Kernel, softmax: bool, h: Tensor, log_l: Tensor, *params: Tensor) -> Tensor:
        wants = any(ctx.needs_input_grad)
        n, genes = h.shape
        value = torch.empty(n, dtype=h.dtype, device=h.device)
        d_h = torch.empty_like(h) if wants else None
        d_l = torch.empty_like(value) if wants else None
        d_params = tuple(torch.empty_like(h) if wants else None for _ in params)
        prepared = kernel.prepare(x, params)
        for i, j, s in pieces(x):
            col, flat = x.col[s], x.flat[s] - i * genes
            mu, log_mu = _mean(h[i:j], log_l[i:j], softmax)
            log_mu_at = at(h[i:j], col, flat) + log_mu[:, 0].index_select(0, x.row[s] - i)
            here, stored = tuple(q if q.shape[0] == 1 else q[i:j] for q in params), tuple(q[s] for q in prepared)
            rows = Rows(mu, here, x.val[s], log_mu_at, col, flat, x.crow[i : j + 1] - x.crow[i], stored)
            value[i:j], d_log_mu, d = kernel.rows(rows)
            if d_h is None or d_l is None:
                continue
            slope = d_l[i:j] = d_log_mu.sum(-1)
            if softmax:  # d log mu_g / d h_k = [g = k] - rho_k
                torch.addcmul(d_log_mu, mu, slope[:, None] * (-log_l[i:j]).exp(), value=-1, out=d_h[i:j])
            else:
                d_h[i:j] = d_log_mu
            for whole, part in zip(d_params, d, strict=True):
                whole[i:j] = part  # type: ignore[index]
        ctx.grads, ctx.shapes = (d_h, d_l, *d_params), (h.shape, log_l.shape, *(q.shape for q in params))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (d_h, d_l, *d_params), shapes = ctx.grads, ctx.shapes
        out = [d_h * grad[:, None], (d_l * grad)[:, None]]
        for d, shape in zip(d_params, shapes[2:], strict=True):
            out.append((grad @ d)[None] if shape[0] == 1 else d * grad[:, None])
        return (None, None, None, *out)


def log_prob(x: Counts, kernel: Kernel, mean: Mean, *params: Float[Tensor, "*#s #cells genes"]) -> Float[Tensor, "*s cells"]:
    """Log probability of each cell's counts, summed over genes; leading sample axes are looped over.

    Genes that were not measured are left out: the others' proportions then sum to one.
    """
    if x.measured is not None:
        seen = lambda q: q.index_select(-1, x.measured)  # noqa: E731
        return log_prob(x.kept(), kernel, mean._replace(h=seen(mean.h)), *map(seen, params))
    if mean.h.dim() > 2:
        one = lambda q, i: q[i] if q.dim() == mean.h.dim() and q.shape[0] > 1 else q.reshape(q.shape[-2:])  # noqa: E731
        parts = [
            log_prob(x, kernel, Mean(mean.h[i], one(mean.log_l, i), mean.link), *(one(q, i) for q in params)) for i in range(len(mean.h))
        ]
        return torch.stack(parts)
    softmax = mean.link == "softmax"
    h = mean.h if softmax else torch.where(mean.h < -15, mean.h, F.softplus(mean.h.clamp_min(-20)).log())
    log_l = mean.log_l.expand(len(h), 1)
    params = tuple(q if q.dim() == 2 else q[None] for q in params)
    if kernel.loop is not None and compiled(h, log_l, *params) and compiled(x.val):
        return kernel.loop(x, softmax, h, log_l, *params)
    if kernel.fused is not None and fused(h, log_l, *params):
        return kernel.fused(x, softmax, h, log_l, *params)
    return _LogProb.apply(x, kernel, softmax, h, log_l, *params)
