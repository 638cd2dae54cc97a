"""Where cells lie, and whether their neighbours are cells or sums of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.data.columns import Columns
from scelbo.data.counts import Counts
from scelbo.data.doublets import AT_ONCE, added, partners
from scelbo.data.loaders import at_most

AXES, REFERENCE, WEIGHTS = 10, 10_000, (1.0, 0.5, 0.25)
"""Principal axes; cells in the reference at most; of components, latents and depth in a distance."""
SCALES = (0.5, 1.5, 4.0)
"""Neighbours looked at, times the square root of the number of cells."""
ITSELF = 0.01
"""The nearest cell, if it is nearer than this, is the cell itself (others are some 0.3 apart, where the total variance is about 1)."""


@runtime_checkable
class Seen(Protocol):
    """How a minibatch is seen."""

    def latent(self, cells: Any) -> Tensor:
        """E[z | x], (cells, latents)."""

    def depth(self, cells: Any) -> Tensor:
        """Log library size about the lane's mean, (cells, 1)."""


class Neighbours(nn.Module):
    r"""A reference of cells and of their sums with others, and how many of either lie near a cell.

    Each lies at

    .. math:: u_n = (P^\top \log(1 + 10^4 x_n / l_n),\; \tfrac12\, E[z_n \mid x_n],\; \tfrac14 (\log l_n - m_{b(n)}))

    (P: principal axes; z: at the median depth; m: the lane's mean; each of the three blocks has unit total variance before its
    factor). Nothing here learns: :meth:`observe` takes all from the data.
    """

    n_out = len(SCALES)

    def __init__(self) -> None:
        super().__init__()
        for name in self.SIZED_BY_DATA:
            self.register_buffer(name, torch.empty(0))

    SIZED_BY_DATA = ("axes", "center", "scale", "size", "cells", "sums")
    axes: Tensor  # (genes, axes)
    center: Tensor  # (dimensions,)
    scale: Tensor  # (dimensions,)
    size: Tensor  # () median library size
    cells: Tensor  # (cells, dimensions) the reference
    sums: Tensor  # (sums, dimensions)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.SIZED_BY_DATA:
            setattr(self, name, torch.empty_like(state[prefix + name], device=self.axes.device))
        super()._load_from_state_dict(state, prefix, *rest)

    def observe(self, data: Columns, seen: Seen, ratio: int, seed: Any) -> None:
        """Take axes, size and scales from the data, and place the reference: some cells, each with ``ratio`` sums."""
        from sklearn.decomposition import TruncatedSVD  # takes long

        rng, lane = np.random.default_rng([seed, 0]), data["batch"]
        self.size = data["x"].size.median()
        rows = at_most(np.arange(len(data)), REFERENCE, rng)
        x = self.normalised(data.take(rows))
        matrix = x.scipy()
        svd = TruncatedSVD(min(AXES, x.n_vars - 1, len(x) - 1), random_state=seed).fit(matrix)
        self.axes = torch.from_numpy(svd.components_.T.astype(np.float32))
        self.center, self.scale = torch.zeros(1), torch.ones(1)
        place = lambda others=None: torch.cat([self.position(c, seen) for c in added(data, rows, others)])  # noqa: E731
        u = place()
        parts = u.split([self.axes.shape[1], u.shape[1] - self.axes.shape[1] - 1, 1], 1)
        spread = [part.var(0).sum().sqrt().clamp_min(1e-6).div(w).expand(part.shape[1]) for part, w in zip(parts, WEIGHTS, strict=True)]
        self.center, self.scale = u.mean(0), torch.cat(spread)
        self.cells = place()
        self.sums = torch.cat([place(other) for other in partners(lane.numpy(), ratio, rng)[rows].T])

    def normalised(self, cells: Any) -> Counts:
        """log(1 + counts per 10,000)."""
        return cells.x.scaled(1e4 / cells.x.size).map(torch.log1p)

    def position(self, cells: Any, seen: Seen) -> Float[Tensor, "cells dimensions"]:
        """u of a minibatch."""
        alike = type(cells)(**{**cells.__dict__, "x": cells.x.scaled(self.size / cells.x.size)})
        return (torch.cat([self.normalised(cells) @ self.axes, seen.latent(alike), seen.depth(cells)], 1) - self.center) / self.scale

    def forward(self, cells: Any, seen: Seen) -> Float[Tensor, "cells scales"]:
        """Log-odds of sums nearby."""
        return torch.cat([odds_nearby(u, self.cells, self.sums) for u in self.position(cells, seen).split(AT_ONCE)])


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
