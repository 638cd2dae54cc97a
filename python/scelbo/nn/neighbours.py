"""Which of two kinds a point's neighbours are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SCALES = (0.5, 1.5, 4.0)
"""Neighbours looked at, times the square root of the number of cells."""
ITSELF = 0.01
"""The nearest cell, if it is nearer than this, is the cell itself (others are some 0.3 apart, where the total variance is about 1)."""


def odds_nearby(
    u: Float[Tensor, "cells dimensions"], cells: Float[Tensor, "some dimensions"], sums: Float[Tensor, "others dimensions"]
) -> Float[Tensor, "cells scales"]:
    """Log-odds of sums among the nearest, the cell itself left out; the last neighbours count less and less, so nothing jumps."""
    far = torch.cdist(u.double(), cells.double())
    closest, own = far.min(1, keepdim=True)
    far.scatter_(1, own, closest.masked_fill(closest < ITSELF, torch.inf))
    far = torch.cat([far, torch.cdist(u.double(), sums.double())], 1)
    counts = [min(max(2.0, scale * len(cells) ** 0.5), len(sums) / 2) for scale in SCALES]
    near, who = far.topk(math.ceil(1.25 * counts[-1]), largest=False)
    made, out = (who >= len(cells)).double(), []
    for k in counts:
        inner, outer = near[:, [math.floor(0.75 * k)]], near[:, [math.ceil(1.25 * k) - 1]]
        weight = ((outer - near) / (outer - inner).clamp_min(1e-9)).clamp(0, 1)
        out.append(((weight * made).sum(1) + 0.5).log() - ((weight * (1 - made)).sum(1) + 0.5).log())
    return torch.stack(out, 1).float()
