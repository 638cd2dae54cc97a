"""Products of large matrices, by the faster of two libraries that PyTorch carries.

PyTorch asks MKL, which takes AMD's processors for ones without AVX-512, and so leaves up to half of them idle. oneDNN does not. PyTorch's
compiler reaches it by an operator that has no public name; where that is missing, or ``settings.compiled`` is False, MKL does it all.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scelbo import settings
from scelbo.kernels import present

LARGE, ROWS = 2**21, 8
"""Multiplications, and rows, from which on a call of oneDNN pays."""


@cache
def onednn() -> Any:
    """Its operator, where it is there and the faster."""
    if not (present() and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return None
    from llvmlite.binding import get_host_cpu_name  # comes with numba

    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if get_host_cpu_name().startswith("znver") else None
    return getattr(operator, "default", None)


def large(h: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply these."""
    alike = h.dtype == weight.dtype == torch.float32 and h.device.type == weight.device.type == "cpu"
    if not alike or h.numel() * weight.shape[1] < LARGE or h.numel() < ROWS * len(weight) or torch.is_autocast_enabled("cpu"):
        return False
    return settings.compiled and onednn() is not None


class _Affine(torch.autograd.Function):
    """h W + b by oneDNN, and so are its gradients, where they are large."""

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return onednn()(_dense(h), _dense(weight).T, None if bias is None else bias.contiguous(), "none", [], "")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (h, weight), grad = ctx.saved_tensors, grad.contiguous()
        of_h, of_weight, of_bias = ctx.needs_input_grad
        d_h = affine(grad, weight.T) if of_h else None
        d_weight = affine(h.T, grad) if of_weight else None
        return d_h, d_weight, grad.sum(0) if of_bias else None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return torch.vmap(_torchs, in_dims)(*inputs), 0


def _dense(h: Tensor) -> Tensor:
    """Without gaps in memory: of such it makes products a thousand times as slowly."""
    return h if h.is_contiguous() or h.T.is_contiguous() else h.contiguous()


def _torchs(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(h, weight.T, bias)


def affine(
    h: Float[Tensor, "*s n n_in"], weight: Float[Tensor, "n_in n_out"], bias: Float[Tensor, " n_out"] | None = None
) -> Float[Tensor, "*s n n_out"]:
    """:math:`h W + b`."""
    if not large(h, weight):
        return _torchs(h, weight, bias)
    return _Affine.apply(h.flatten(0, -2), weight, bias).view(*h.shape[:-1], -1)
