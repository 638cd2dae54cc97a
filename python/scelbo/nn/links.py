"""From what a network puts out to what it stands for, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1e-9
"""Softplus gives nothing smaller back."""


def inverse_softplus(y: Tensor) -> Tensor:
    r"""The x of which :math:`y = \log(1 + e^x)`, that is :math:`y + \log(1 - e^{-y})`: without overflow where y is large.

    >>> inverse_softplus(F.softplus(torch.tensor([-5.0, 1.0, 200.0]))).round(decimals=3)
    tensor([ -5.,   1., 200.])
    """
    y = y.clamp_min(LEAST)
    return y + (-torch.expm1(-y)).log()


LINKS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "softmax": (lambda h: h.softmax(-1), torch.log),
    "softplus": (F.softplus, inverse_softplus),
    "sigmoid": (torch.sigmoid, torch.logit),
}
"""Each with its inverse."""
