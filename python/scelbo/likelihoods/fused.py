"""The same likelihoods by Triton's kernels on a GPU (:mod:`scelbo.kernels.gpu`): values and gradients of the torch ones.

The values' pass keeps what the gradients' needs of each cell; the gradients are found when what each cell counts is known.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo.data import Counts

BLOCK, AT_ONCE = 1024, 8192
"""Features that a program works on together; and, of regions, how many it takes."""


class _NegativeBinomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, softmax: bool, h: Tensor, log_l: Tensor, log_theta: Tensor, *pi: Tensor) -> Tensor:
        kernel = import_module("scelbo.kernels.gpu.counts").values
        h, log_l, log_theta, *rest = (q.contiguous() for q in (h, log_l, log_theta, *pi))
        value, beyond, slope = h.new_empty(3, len(h))
        of_cells, inflated = int(log_theta.shape[0] > 1), len(rest) > 0
        read = (x, h, log_l, log_theta, rest[0] if inflated else h)
        kernel[(len(h),)](*read, value, beyond, slope, h.shape[1], of_cells, SOFTMAX=softmax, INFLATED=inflated, BLOCK=BLOCK)
        ctx.save_for_backward(*read, beyond, slope)
        ctx.softmax, ctx.inflated, ctx.of_cells = softmax, inflated, of_cells
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel = import_module("scelbo.kernels.gpu.counts").gradients
        *read, beyond, slope = ctx.saved_tensors
        (cells, genes), grad = read[1].shape, grad.contiguous()
        d_h, d_theta, *d_pi = torch.empty(2 + ctx.inflated, cells, genes, device=grad.device)
        kernel[(cells, -(-genes // BLOCK))](
            *read, grad, beyond, slope, d_h, d_theta, d_pi[0] if d_pi else d_h, genes, ctx.of_cells,
            SOFTMAX=ctx.softmax, INFLATED=ctx.inflated, BLOCK=BLOCK,
        )  # fmt: skip
        return None, None, d_h, (grad * slope)[:, None], d_theta if ctx.of_cells else d_theta.sum(0, keepdim=True), *d_pi


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, cell: Tensor, region: Tensor) -> Tensor:
        kernel = import_module("scelbo.kernels.gpu.accessibility").values
        read = (x, h.contiguous(), cell.sigmoid().contiguous(), region.sigmoid().contiguous())
        (cells, regions), parts = h.shape, -(-h.shape[1] // AT_ONCE)
        value, slope = h.new_empty(2, cells, parts)
        kernel[(cells, parts)](*read, value, slope, regions, AT_ONCE=AT_ONCE, BLOCK=BLOCK)
        ctx.save_for_backward(*read, slope.sum(-1, keepdim=True))
        return value.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel = import_module("scelbo.kernels.gpu.accessibility").gradients
        *read, slope = ctx.saved_tensors
        (_, h, cell, region), grad = read, grad.contiguous()
        d_h, d_region = torch.empty(2, *h.shape, device=grad.device)
        kernel[(len(h), -(-h.shape[1] // BLOCK))](*read, grad, d_h, d_region, h.shape[1], BLOCK=BLOCK)
        return None, d_h, slope * grad[:, None] * (1 - cell), d_region.sum(0) * (1 - region)


def negative_binomial(x: Counts, softmax: bool, h: Tensor, log_l: Tensor, log_theta: Tensor, *pi: Tensor) -> Tensor:
    """log p(x) without its factorials, as :data:`~scelbo.likelihoods.kernels.NB` and ZINB have it."""
    return _NegativeBinomial.apply(x.matrix, softmax, h, log_l, log_theta, *pi)


def bernoulli(x: Counts, h: Tensor, cell: Tensor, region: Tensor) -> Tensor:
    """log P of which regions were seen, as :class:`~scelbo.likelihoods.Accessibility` has it."""
    return _Bernoulli.apply(x.matrix, h, cell, region)
