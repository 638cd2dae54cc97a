"""A minibatch of counts as a GPU takes it again and again: with its zeros, always of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from scelbo.data.counts import Counts, mask_of
from scelbo.data.fields import Batch, _take


class SparseNeededError(Exception):
    """Somebody asked for the stored values, of which every minibatch has another number."""


class DenseCounts(Counts):
    """Counts of which only the whole matrix is there.

    Parameters
    ----------
    matrix
        (rows, n_vars).
    size, log_factorial, measured
        As of :class:`Counts`.
    """

    def __init__(
        self,
        matrix: Float[Tensor, "rows n_vars"],
        size: Float[Tensor, "rows 1"] | None = None,
        log_factorial: Float[Tensor, "rows 1"] | None = None,
        measured: Tensor | None = None,
    ):
        self.matrix, self.n_vars, self.measured = matrix, matrix.shape[1], measured
        for name, value in (("size", size), ("log_factorial", log_factorial)):
            if value is not None:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("crow", "col", "val"):
            raise SparseNeededError
        raise AttributeError(name)

    def __len__(self) -> int:
        return len(self.matrix)

    def take(self, rows: Tensor | slice) -> DenseCounts:
        matrix, size, log_factorial = (_take(q, rows) for q in (self.matrix, self.size, self.log_factorial))
        return DenseCounts(matrix, size, log_factorial, self.measured)

    def map(self, fn: Callable[[Tensor], Tensor]) -> DenseCounts:
        return DenseCounts(fn(self.matrix), measured=self.measured)

    def scaled(self, factor: Float[Tensor, "rows 1"]) -> DenseCounts:
        return DenseCounts(self.matrix * factor, measured=self.measured)

    def within(self, columns: Tensor) -> DenseCounts:
        columns = self._measured_of(columns)
        return DenseCounts(self.matrix * mask_of(columns, self.n_vars), measured=columns)

    def kept(self) -> Counts:
        if self.measured is None:
            return self
        return self._told(DenseCounts(self.matrix.index_select(1, self.measured)), "size", "log_factorial")

    def dense(self) -> Tensor:
        return self.matrix

    def _row_sums(self, fn: Callable[[Tensor], Tensor]) -> Tensor:
        return fn(self.matrix).double().sum(1, keepdim=True).to(self.matrix.dtype)

    def _product(self, weight: Float[Tensor, "n_vars k"]) -> Float[Tensor, "rows k"]:
        return self.matrix @ weight


def dense(cells: Any) -> Any:
    """A minibatch whose counts are dense."""
    if isinstance(cells, Counts):
        return DenseCounts(cells.matrix, cells.size, cells.log_factorial, cells.measured)
    return _with(cells, {name: dense(value) for name, value in vars(cells).items() if isinstance(value, Counts | Batch)})


def seen_through(x: Counts, columns: Int[Tensor, " some"] | None) -> Counts:
    """Some columns (None: all), without what stands in the others; on a GPU, which is not asked how much that is, with their zeros."""
    if columns is None:
        return x
    return (x if x.size.device.type == "cpu" else dense(x)).only(columns)


def copied(cells: Any) -> Any:
    """The same in memory of its own."""
    if isinstance(cells, Tensor):
        return cells.clone()
    if isinstance(cells, dict):
        return {name: copied(value) for name, value in cells.items()}
    return _with(cells, {name: copied(value) for name, value in _parts(cells)}) if isinstance(cells, Batch | DenseCounts) else cells


def tensors(cells: Any) -> list[Tensor]:
    """All that it holds, always in one order."""
    if isinstance(cells, Tensor):
        return [cells]
    if isinstance(cells, dict):
        return [t for value in cells.values() for t in tensors(value)]
    return [t for _, value in _parts(cells) for t in tensors(value)] if isinstance(cells, Batch | DenseCounts) else []


def _parts(of: Batch | DenseCounts) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in vars(of).items() if isinstance(value, Tensor | dict | Batch | DenseCounts))


def _with(of: Any, values: dict[str, Any]) -> Any:
    out = copy(of)
    vars(out).update(values)
    return out
