"""The likelihoods that training spends its time in, by compiled loops (:mod:`scelbo.kernels`): values and gradients of the torch ones.

A loop writes the gradients along with the values, and sums those of a parameter that all cells share, all in one pass. For that it must
know what each cell counts. Nearly always minus their mean is minimised, so it works with that. Where they count alike but otherwise,
the backward pass multiplies; else it works again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo.data import Counts
from scelbo.kernels import array, loop

Pass: TypeAlias = Callable[[Tensor, bool], tuple[Tensor, ...]]
"""(What each cell's value counts, whether gradients are wanted) -> the values, and a gradient for each input."""


class _Fused(torch.autograd.Function):
    """Values of cells, by a function that gives their gradients too."""

    @staticmethod
    def forward(ctx: Any, work: Pass, *inputs: Tensor) -> Tensor:
        n = len(inputs[0])
        weight = inputs[0].new_full((n,), -1 / max(n, 1))
        value, *gradients = work(weight, wants := any(ctx.needs_input_grad))
        if wants:
            ctx.gradients, ctx.work, ctx.weight = gradients, work, weight
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if not torch.equal(grad, ctx.weight):
            alike = len(grad) and bool((grad == grad[0]).all())
            gradients = [d.mul_(grad[0] / ctx.weight[0]) for d in gradients] if alike else ctx.work(grad, True)[1:]
        del ctx.gradients, ctx.work, ctx.weight
        return (None, *gradients)


def _gradient(of: Tensor, wanted: bool) -> Tensor:
    """Where a loop writes it, row after row, however ``of`` lies in memory; a row that is written over and over where nobody reads it."""
    return of.new_empty(of.shape if wanted else (1, of.shape[1]))


def negative_binomial(x: Counts, softmax: bool, h: Tensor, log_l: Tensor, log_theta: Tensor, pi: Tensor | None = None) -> Tensor:
    """log p(x) without its factorials, as :data:`~scelbo.likelihoods.kernels.NB` and ZINB have it."""
    work = loop("counts", "negative_binomial")
    h_, l_, log_t = array(h), array(log_l[:, 0]), array(log_theta)
    t, pi_ = array(log_theta.detach().exp()), array(h.new_empty(0, 0) if pi is None else pi)
    cells = array(x.crow), array(x.col), array(x.val)

    def once(weight: Tensor, wants: bool) -> tuple[Tensor, ...]:
        value, d_l = torch.zeros_like(weight), torch.zeros_like(weight)[:, None]
        d_h, d_theta = _gradient(h, wants), _gradient(log_theta, wants).zero_()
        d_pi = _gradient(pi, wants) if pi is not None else h.new_empty(0, 0)
        written = array(value), array(d_h), array(d_l[:, 0]), array(d_theta), array(d_pi)
        work(h_, l_, t, log_t, pi_, softmax, *cells, array(weight), *written)
        return value, d_h, d_l, d_theta, *([d_pi] if pi is not None else [])

    return _Fused.apply(once, h, log_l, log_theta, *([pi] if pi is not None else []))


def bernoulli(x: Counts, h: Tensor, cell: Tensor, region: Tensor) -> Tensor:
    """log P of which regions were seen, as :class:`~scelbo.likelihoods.Accessibility` has it."""
    work = loop("accessibility", "bernoulli")
    l, r = cell.detach().sigmoid(), region.detach().sigmoid()  # noqa: E741
    read = array(h), array(l[:, 0]), array(r), array(x.crow), array(x.col)

    def once(weight: Tensor, wants: bool) -> tuple[Tensor, ...]:
        value, d_cell, d_region = (q.new_zeros(q.shape) for q in (weight, cell, region))
        d_h = _gradient(h, wants)
        work(*read, array(weight), array(value), array(d_h), array(d_cell[:, 0]), array(d_region))
        return value, d_h, d_cell.mul_(1 - l), d_region.mul_(1 - r)

    return _Fused.apply(once, h, cell, region)
