"""Layers that see covariates, and the one thing about them that can grow when new data bring new categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.data import Batch, Input
from scelbo.kernels import products


class PerCategory(nn.Module):
    """A table with one row for every category of a covariate. Transfer grows these, and nothing else.

    ``fixed`` rows (a buffer) came with a reference and cannot move; ``table`` rows (a parameter) learn. With one category a
    shift would only repeat the bias, so it is zero and does not learn.

    Parameters
    ----------
    covariate
        ``"batch"``, ``"label"`` or ``"extra.<column>"``.
    n
        Number of categories.
    shape
        Shape of a row.
    bound
        Rows start uniform in (-bound, bound).
    shift
        Whether the rows are added to something that has a bias.
    learns
        False for rows taken from data (see :meth:`set_row`).
    """

    fixed: Tensor

    def __init__(self, covariate: str, n: int, *shape: int, bound: float = 1.0, shift: bool = False, learns: bool = True):
        super().__init__()
        self.covariate, self.bound, self.learns = covariate, bound, learns
        self.register_buffer("fixed", torch.empty(0, *shape))
        alone = shift and n == 1
        start = torch.zeros(n, *shape) if alone else torch.empty(n, *shape).uniform_(-bound, bound)
        self.table = nn.Parameter(start, requires_grad=learns and not alone)

    def rows(self) -> Float[Tensor, "categories *shape"]:
        """All rows, those of the reference first."""
        return torch.cat([self.fixed, self.table]) if len(self.fixed) else self.table

    def forward(self, cells: Batch, scale: Tensor | None = None) -> Float[Tensor, "cells *shape"]:
        """Each cell's row, times ``scale``."""
        rows = self.rows() if scale is None else self.rows() * scale
        return rows.expand(len(cells), *rows.shape[1:]) if len(rows) == 1 else rows[cells.codes(self.covariate)]

    def once(self, cells: Batch) -> Float[Tensor, "*cells *shape"]:
        """Each cell's row; where there is one category, that row alone."""
        rows = self.rows()
        return rows[0] if len(rows) == 1 else rows[cells.codes(self.covariate)]

    def set_row(self, i: int, value: Tensor) -> None:
        """Write a row that is known from data, unless it came with the reference."""
        if i >= len(self.fixed):
            self.table.data[i - len(self.fixed)] = value

    def grow(self, n: int, rows: Tensor | None = None) -> None:
        """Fix the rows that stand now (or ``rows`` instead) and append learnable ones, their mean, until there are ``n``."""
        self.fixed = self.rows().detach().clone() if rows is None else rows.detach().clone()
        new = self.fixed.mean(0, keepdim=True).repeat(n - len(self.fixed), *[1] * (self.fixed.dim() - 1))
        self.table = nn.Parameter(new, requires_grad=self.learns and len(new) > 0)

    def release(self) -> None:
        """Let all rows learn again."""
        self.table = nn.Parameter(self.rows().detach().clone(), requires_grad=self.learns)
        self.fixed = self.fixed[:0]


class ConditionalLinear(nn.Module):
    r""":math:`W h + \sum_k V_k[c_k] + U t + b`: a linear layer on [h, one-hot categories c, continuous covariates t].

    Works on dense (..., cells, n_in) input and on sparse :class:`~scelbo.data.Counts`; leading sample axes broadcast.
    """

    def __init__(self, n_in: int, n_out: int, categories: Mapping[str, int] | None = None, n_continuous: int = 0, bias: bool = True):
        super().__init__()
        categories = categories or {}
        seen = n_in + n_continuous + sum(n for n in categories.values() if n > 1)
        bound = 1 / math.sqrt(seen)
        self.weight = nn.Parameter(torch.empty(n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound)) if bias else None
        self.shifts = nn.ModuleList(PerCategory(name, n, n_out, bound=bound, shift=True) for name, n in categories.items())
        self.slope = nn.Parameter(torch.empty(n_continuous, n_out).uniform_(-bound, bound)) if n_continuous else None

    def forward(self, h: Input, cells: Batch | None = None, t: Tensor | None = None) -> Float[Tensor, "*s cells n_out"]:
        y = affine(h, self.weight, self.bias)
        for shift in self.shifts:
            y = y + shift(cells)
        return y if self.slope is None or t is None else y + t @ self.slope


class Linear(nn.Module):
    """PyTorch's linear layer, whose weights lie as those of the others do, (n_in, n_out); in files they are (n_out, n_in) as PyTorch's."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        start = nn.Linear(n_in, n_out)
        self.weight, self.bias = nn.Parameter(start.weight.detach().T.contiguous()), start.bias

    def forward(self, h: Float[Tensor, "*s cells n_in"]) -> Float[Tensor, "*s cells n_out"]:
        return affine(h, self.weight, self.bias)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = destination[f"{prefix}weight"].T

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        turned = {name: value.T for name, value in state.items() if name == f"{prefix}weight"}
        super()._load_from_state_dict(state | turned, prefix, *rest)


def affine(h: Input, weight: Float[Tensor, "n_in n_out"], bias: Float[Tensor, " n_out"] | None) -> Float[Tensor, "*s n_out"]:
    """:math:`h W + b`, of dense matrices and of sparse ones."""
    if isinstance(h, Tensor):
        return products.affine(h, weight, bias)
    return h @ weight if bias is None else h @ weight + bias
