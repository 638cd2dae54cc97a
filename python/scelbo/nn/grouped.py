"""Networks that several data sets share, each with statistics of its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from scelbo.data import Batch
from scelbo.nn.mlp import MLP, BatchNorm


class GroupedNorm(BatchNorm):
    """Batch norm with one scale and shift, and the mean and variance of each group of cells.

    Cells of different groups (dissociated and spatial ones) are brought to one scale, and by the same statistics in training and after it.

    Parameters
    ----------
    n
        Features.
    groups
        Number of groups.
    """

    def __init__(self, n: int, groups: int, **norm: Any):
        super().__init__(n, **norm)
        self.register_buffer("running_mean", torch.zeros(groups, n))
        self.register_buffer("running_var", torch.ones(groups, n))

    def forward(self, y: Float[Tensor, "*s cells n"], group: Int[Tensor, " cells"]) -> Float[Tensor, "*s cells n"]:  # type: ignore[override]
        assert self.running_mean is not None and self.running_var is not None
        if not self.training:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            return y * scale[group] + (self.bias - self.running_mean * scale)[group]
        out = torch.empty_like(y)
        for g in group.unique().tolist():
            rows = (group == g).nonzero()[:, 0]
            here = y.index_select(-2, rows)
            flat = here.flatten(0, -2)
            normed = F.batch_norm(
                flat, self.running_mean[g], self.running_var[g], self.weight, self.bias, True, self.momentum or 0.0, self.eps
            )
            out = out.index_copy(-2, rows, normed.view_as(here))
        return out


class GroupedMLP(MLP):
    """An :class:`MLP` whose batch norms know the cells' group; with ``n_layers=0`` it does nothing."""

    def __init__(self, n_in: int, n_hidden: int, n_layers: int, groups: int, *, batch_norm: bool = True, **mlp: Any):
        super().__init__(n_in, n_hidden, n_layers, batch_norm=batch_norm, **mlp)
        if batch_norm:
            for norm in self.norm:
                norm[0] = GroupedNorm(n_hidden, groups, momentum=norm[0].momentum, eps=norm[0].eps)  # type: ignore[index,operator]

    def forward(self, h: Tensor, cells: Batch, group: Int[Tensor, " cells"]) -> Float[Tensor, "*s cells n_hidden"]:  # type: ignore[override]
        for linear, norm in zip(self.linear, self.norm, strict=True):
            y = linear(h, cells)
            batch, layer = norm  # type: ignore[misc]
            y = batch(y, group) if isinstance(batch, GroupedNorm) else y
            h = self.dropout(self.activation(layer(y)))
        return h
