"""Numbers that each spot has of its own: free ones, or a network's function of its counts."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.nn.mlp import PointEncoder


class PerSpot(nn.Embedding):
    """``n`` free numbers for each of the spots that train."""

    def __init__(self, spots: int, n: int):
        super().__init__(spots, n)

    def forward(self, spots: Any) -> Float[Tensor, "spots n"]:
        return super().forward(spots.index)

    @torch.no_grad()
    def start(self, values: Float[Tensor, "spots n"]) -> None:
        """Start here."""
        self.weight.copy_(values)


class OfCounts(PointEncoder):
    """``n`` numbers that a network reads off log(1 + counts): new spots have theirs too."""

    def __init__(self, genes: int, n: int, n_hidden: int, dropout: float):
        super().__init__(genes, n, n_hidden, 2, batch_norm=False, layer_norm=True, dropout=dropout)

    def forward(self, spots: Any) -> Float[Tensor, "spots n"]:  # type: ignore[override]
        return super().forward(spots.x.map(torch.log1p), spots)

    @torch.no_grad()
    def start(self, values: Float[Tensor, "spots n"]) -> None:
        """Start near the mean of these."""
        self.value.weight.mul_(0.1)
        self.value.bias.copy_(values.mean(0))
