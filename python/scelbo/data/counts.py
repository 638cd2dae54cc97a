"""Counts: a count matrix, or a minibatch of one, that stays in CSR form on its way through a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from scelbo.kernels import array, compiled, loop

VALUES_AT_ONCE = 2**20  # of which a function is taken


def as_csr(matrix: Any) -> sparse.csr_matrix:
    """Rows of a matrix in memory, also of numbers that SciPy does not take: of 16 bits, or of another machine's byte order."""
    kind: np.dtype = matrix.dtype
    taken = np.dtype(np.float32) if kind == np.float16 else kind.newbyteorder("=")
    return sparse.csr_matrix(matrix if kind == taken else matrix.astype(taken))


def there(values: Tensor, device: torch.device) -> Tensor:
    """The same on a device, without waiting for what the device does meanwhile."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def mask_of(columns: Int[Tensor, " some"], n_vars: int) -> Bool[Tensor, " n_vars"]:
    """Whether each column is among these."""
    return torch.zeros(n_vars, dtype=torch.bool, device=columns.device).index_fill_(0, columns, True)


def in_pieces(x: Counts, rows: int | None = None) -> Iterator[tuple[int, int, slice]]:
    """(First row, row after the last, their stored values): so many rows, or of a million values; on a GPU, where nobody waits, all."""
    n, rows = len(x), VALUES_AT_ONCE * len(x) // max(1, len(x.val)) if rows is None else rows
    ends = [*range(0, n, max(1, rows)), n] if x.val.device.type == "cpu" else [0, n]
    starts = [0, len(x.val)] if len(ends) == 2 else x.crow[ends].tolist()
    for (i, end), span in zip(pairwise(ends), pairwise(starts), strict=True):
        yield i, end, slice(*span)


class _SparseProduct(torch.autograd.Function):
    """``x @ W``: summed rows of W forward, summed rows of the gradient, column by column of x, backward (``embedding_bag``)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Counts) -> Tensor:
        ctx.x = x
        return _sum_of_rows(weight, x.col.long(), x.crow, x.val)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_of_rows(grad.contiguous(), *ctx.x.by_column), None


def _sum_of_rows(table: Tensor, row: Tensor, start: Tensor, weight: Tensor) -> Tensor:
    """Sum of ``weight * table[row]`` from each start to the next."""
    return F.embedding_bag(row, table, start[:-1], mode="sum", per_sample_weights=weight)


class Counts:
    """Rows of a matrix, stored values only: ``val[crow[i]:crow[i + 1]]`` belong to row ``i``, at columns ``col``.

    Parameters
    ----------
    crow
        (rows + 1,) where each row starts.
    col
        (stored,) column of each value.
    val
        (stored,) the values; none is zero.
    n_vars
        Number of columns.

    Attributes
    ----------
    measured
        (some,) which columns were measured at all, in order; None for all. Likelihoods leave the others out; nothing stands there.
    fill
        (n_vars,) what a product takes for columns that were not measured; None for nothing.
    """

    measured: Tensor | None = None
    fill: Tensor | None = None

    def __init__(self, crow: Int[Tensor, " rows_1"], col: Int[Tensor, " stored"], val: Float[Tensor, " stored"], n_vars: int):
        self.crow, self.col, self.val, self.n_vars = crow, col, val, n_vars

    @classmethod
    def of(cls, matrix: Any) -> Counts:
        """From anything scipy can make CSR (dense, CSR, CSC, view); the input is not changed."""
        rows = as_csr(matrix).astype(np.float32, copy=False)
        if not rows.has_canonical_format or (rows.data == 0).any():
            rows = rows.copy()  # scipy may share indices with the input even where it converts the values
            rows.sum_duplicates()
            rows.eliminate_zeros()
        crow, col, val = (torch.from_numpy(np.ascontiguousarray(a)) for a in (rows.indptr.astype(np.int64), rows.indices, rows.data))
        return cls(crow, col, val, rows.shape[1])

    def __len__(self) -> int:
        return len(self.crow) - 1

    @property
    def n_measured(self) -> int:
        """Number of columns that were measured."""
        return self.n_vars if self.measured is None else len(self.measured)

    def take(self, rows: Int[Tensor, " cells"] | slice) -> Counts:
        """The given rows, in the order asked for; neighbours share memory with the whole."""
        if isinstance(rows, slice):
            return self._between(rows.start, rows.stop)
        rows = rows.cpu()
        if len(rows) and int(rows[-1] - rows[0]) == len(rows) - 1 and bool((rows.diff() == 1).all()):
            return self._between(int(rows[0]), int(rows[-1]) + 1)
        start = self.starts.index_select(0, rows)
        n = self.starts.index_select(0, rows + 1) - start
        starts = torch.cat([n.new_zeros(1), n.cumsum(0)])
        stored, here = int(starts[-1]), self.val.device
        start, crow, rows = (there(part, here) for part in (start, starts, rows))
        if compiled(self.val):
            col, val = torch.empty(stored, dtype=torch.int64), torch.empty(stored)
            loop("sparse", "gather")(*map(array, (self.crow, self.col, self.val, rows, crow, col, val)))
            out = Counts(crow, col, val, self.n_vars)
        else:
            row = torch.repeat_interleave(crow.diff(), output_size=stored)
            source = torch.arange(stored, device=here) + (start - crow[:-1]).index_select(0, row)
            out = Counts(crow, self.col.index_select(0, source).long(), self.val.index_select(0, source), self.n_vars)
            out.row = row
        out.size, out.log_factorial, out.measured = self.size.index_select(0, rows), self.log_factorial.index_select(0, rows), self.measured
        out.starts = starts
        return out

    def _between(self, first: int, end: int) -> Counts:
        """The rows from ``first`` to before ``end``."""
        crow, starts = (of[first : end + 1] for of in (self.crow, self.starts))
        stored = slice(int(starts[0]), int(starts[-1]))
        out = Counts(crow - crow[0], self.col[stored].long(), self.val[stored], self.n_vars)
        out.starts = starts - starts[0]
        out.size, out.log_factorial, out.measured = self.size[first:end], self.log_factorial[first:end], self.measured
        return out

    @cached_property
    def starts(self) -> Int[Tensor, " rows_1"]:
        """``crow`` on the CPU, so that nobody need wait for a device to know how many values some rows have."""
        return self.crow.cpu()

    @cached_property
    def row(self) -> Int[Tensor, " stored"]:
        """Row of every stored value."""
        return torch.repeat_interleave(self.crow.diff(), output_size=len(self.val))

    @cached_property
    def flat(self) -> Int[Tensor, " stored"]:
        """Position of every stored value in the flattened dense matrix."""
        return self.row * self.n_vars + self.col

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """(row of every stored value, where each column starts, the values), column after column."""
        if compiled(self.val):
            short = torch.int32 if len(self.val) < 2**31 else torch.int64
            start, row = torch.zeros(self.n_vars + 1, dtype=short), torch.empty(len(self.val), dtype=short)
            loop("sparse", "by_column")(*map(array, (self.crow, self.col, self.val, start, row, val := torch.empty_like(self.val))))
            return row, start, val
        columns = self.scipy().tocsc()
        return torch.from_numpy(columns.indices), torch.from_numpy(columns.indptr), torch.from_numpy(columns.data)

    @cached_property
    def size(self) -> Float[Tensor, "rows 1"]:
        """Sum of every row: the cell's library size."""
        return self._row_sums(lambda x: x)

    @cached_property
    def log_factorial(self) -> Float[Tensor, "rows 1"]:
        """Sum over a row of log x!: the part of every count likelihood that never learns, computed once for a data set."""
        return self._row_sums(lambda x: torch.lgamma(x + 1))

    def _row_sums(self, fn: Callable[[Tensor], Tensor]) -> Tensor:
        out = self.val.new_empty(len(self), 1)
        for i, end, stored in in_pieces(self):
            values, offsets = fn(self.val[stored]).double(), self.crow[i : end + 1] - self.crow[i]
            out[i:end, 0] = torch.segment_reduce(values, "sum", offsets=offsets, unsafe=True)
        return out

    def map(self, fn: Callable[[Tensor], Tensor]) -> Counts:
        """Apply ``fn`` to the stored values; right only where ``fn(0) == 0`` (log1p, scaling)."""
        out = Counts(self.crow, self.col, fn(self.val), self.n_vars)
        return self._told(out, "measured", "row")  # what counts are looked up by is made when it is needed

    def scaled(self, factor: Float[Tensor, "rows 1"]) -> Counts:
        """Every row times a number."""
        return self.map(lambda values: values * factor[self.row, 0])

    def __add__(self, other: Counts) -> Counts:
        """The sum, row by row."""
        both = self.scipy() + other.scipy()
        crow, col, val = (torch.from_numpy(getattr(both, part)) for part in ("indptr", "indices", "data"))
        out = Counts(crow.long(), col.long(), val, self.n_vars).to(self.val.device)
        out.measured = self.measured
        return out

    def filled(self, values: Float[Tensor, " n_vars"]) -> Counts:
        """For products, the same with these values where a column was not measured (the same for every row)."""
        if self.measured is None:
            return self
        out = copy(self)
        out.fill = values.index_fill(0, self.measured, 0.0)
        return out

    def kept(self) -> Counts:
        """Only the columns that were measured."""
        if self.measured is None:
            return self
        order = torch.arange(len(self.measured), device=self.col.device)
        place = order.new_zeros(self.n_vars).index_copy_(0, self.measured, order)
        out = Counts(self.crow, place.index_select(0, self.col), self.val, len(order))
        return self._told(out, "row", "size", "log_factorial")

    def _told(self, out: Counts, *names: str) -> Counts:
        """``out``, which has the same rows, with what is known of them already."""
        vars(out).update({name: vars(self)[name] for name in names if name in vars(self)})
        return out

    def within(self, columns: Int[Tensor, " some"] | Bool[Tensor, " n_vars"]) -> Counts:
        """As if, of these columns, no others had been measured."""
        columns = self._measured_of(columns)
        here = mask_of(columns, self.n_vars)[self.col]
        row = self.row[here]
        crow = torch.zeros_like(self.crow)
        torch.cumsum(torch.bincount(row, minlength=len(self)), 0, out=crow[1:])
        out = Counts(crow, self.col[here], self.val[here], self.n_vars)
        out.row, out.measured = row, columns
        return out

    def only(self, columns: Int[Tensor, " some"] | Bool[Tensor, " n_vars"]) -> Counts:
        """Some columns, without what stands in the others."""
        return self.within(columns).kept()

    def _measured_of(self, columns: Tensor) -> Int[Tensor, " seen"]:
        """Which of these were measured."""
        columns = columns.nonzero()[:, 0] if columns.dtype == torch.bool else columns
        return columns if self.measured is None else columns[mask_of(self.measured, self.n_vars)[columns]]

    def column_means(self, fn: Callable[[Counts], Counts]) -> Float[Tensor, " n_vars"]:
        """Mean of every column of ``fn`` of these counts, which works row by row."""
        sums = torch.zeros(self.n_vars, dtype=torch.float64)
        for i, end, _ in in_pieces(self):
            sums.index_add_(0, (some := self._between(i, end)).col, fn(some).val.double())
        return (sums / len(self)).to(self.val.dtype)

    def __matmul__(self, weight: Float[Tensor, "n_vars k"]) -> Float[Tensor, "rows k"]:
        product = self._product(weight)
        return product if self.fill is None else product + self.fill @ weight

    def _product(self, weight: Float[Tensor, "n_vars k"]) -> Float[Tensor, "rows k"]:
        """Of what is stored."""
        on_device = self.val.device.type != "cpu" and torch.is_grad_enabled()
        return self.matrix @ weight if on_device else _SparseProduct.apply(weight, self)

    def scipy(self) -> sparse.csr_matrix:
        """As scipy's (on the CPU it shares the values)."""
        return sparse.csr_matrix((self.val.cpu().numpy(), self.col.cpu().numpy(), self.crow.cpu().numpy()), (len(self), self.n_vars))

    @cached_property
    def matrix(self) -> Float[Tensor, "rows n_vars"]:
        """With its zeros, kept: what a step on a GPU reads a minibatch from."""
        return self.dense()

    def dense(self) -> Float[Tensor, "rows n_vars"]:
        """The matrix with its zeros."""
        return self.val.new_zeros(len(self) * self.n_vars).scatter_(0, self.flat, self.val).view(len(self), self.n_vars)

    def to(self, *args: Any, **kwargs: Any) -> Counts:
        """As ``Tensor.to``: the device moves all parts, a dtype converts the values only."""
        val = self.val.to(*args, **kwargs)
        out = Counts(self.crow.to(val.device), self.col.to(val.device), val, self.n_vars)
        out.starts = self.starts
        for name in {"row", "size", "log_factorial", "measured", "fill"} & self.__dict__.keys():
            made = getattr(self, name)
            if made is not None:
                setattr(out, name, made.to(*args, **kwargs) if made.is_floating_point() else made.to(val.device))
        return out
