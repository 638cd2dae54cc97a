"""Networks that several data sets share, each with statistics of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo.data import Batch, Counts
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

    def forward(self, y: Float[Tensor, "*s cells n"], group: int) -> Float[Tensor, "*s cells n"]:  # type: ignore[override]
        assert self.running_mean is not None and self.running_var is not None
        return self.normed(y.flatten(0, -2), self.running_mean[group], self.running_var[group]).view_as(y)


class GroupedMLP(MLP):
    """An :class:`MLP` for cells of one group at a time, whose batch norms have statistics of each; with ``n_layers=0`` it does nothing."""

    def __init__(self, n_in: int, n_hidden: int, n_layers: int, groups: int, **mlp: Any):
        super().__init__(n_in, n_hidden, n_layers, **mlp)
        for norm in self.norm:
            norm[0] = GroupedNorm(n_hidden, groups, momentum=norm[0].momentum, eps=norm[0].eps)  # type: ignore[index,operator]

    def forward(self, h: Tensor | Counts, cells: Batch | None, group: int) -> Float[Tensor, "*s cells n_hidden"]:  # type: ignore[override]
        for linear, norm in zip(self.linear, self.norm, strict=True):
            h = self.dropout(self.activation(norm[0](linear(h, cells), group)))  # type: ignore[index]
        assert isinstance(h, Tensor)
        return h


class HeadedEncoder(nn.Module):
    r""":math:`q(z \mid x)` of several data sets: a head for each, then layers that all share.

    A view is a way in which cells were measured; each has batch norm statistics of its own. There are at least as many as heads.

    Parameters
    ----------
    sizes
        Features that each head reads.
    n_latent, n_hidden, n_layers, n_layers_shared
        Sizes.
    views
        Number of views.
    shares
        Read counts in units of the cell's mean (log(1 + .)), those of all but the first head standardised gene by gene in each view, in
        place of log(1 + counts): what one technology counts better than another then makes no difference.
    dropout
        Share of hidden units dropped.
    """

    def __init__(
        self, sizes: Sequence[int], n_latent: int, n_hidden: int, *,
        n_layers: int, n_layers_shared: int, views: int, shares: bool, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.shares = shares
        self.heads = nn.ModuleList(GroupedMLP(n, n_hidden, n_layers, views, dropout=dropout) for n in sizes)
        self.standard = nn.ModuleList(GroupedNorm(n, views, momentum=0.05, affine=False) for n in sizes[1:] if shares)
        self.body = GroupedMLP(n_hidden, n_hidden, n_layers_shared, views, dropout=dropout)
        self.mean, self.var = nn.Linear(n_hidden, n_latent), nn.Linear(n_hidden, n_latent)

    def forward(self, x: Counts, head: int, view: int) -> Normal:
        read: Counts | Tensor = (x.scaled(x.n_vars / x.size.clamp_min(1)) if self.shares else x).map(torch.log1p)
        if self.shares and head:
            read = self.standard[head - 1](read.dense(), view)  # type: ignore[union-attr]
        h = self.body(self.heads[head](read, None, view), None, view)
        return Normal(self.mean(h), self.var(h).exp().sqrt(), validate_args=False)
