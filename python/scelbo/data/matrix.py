"""One way to read rows of a count matrix, in memory or on disk: the rows asked for, in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor

from scelbo.data.counts import Counts, as_csr
from scelbo.data.disk import block_of, on_disk, read_rows, read_slice, require_rows, rows_at_once
from scelbo.errors import DataError, SetupError, unknown


def matrix_of(adata: AnnData, layer: str | None) -> Any:
    """``adata.layers[layer]``, or ``adata.X`` where ``layer`` is None."""
    if layer is None:
        if adata.X is None:
            raise DataError("adata.X is empty.", "Name the layer that holds the counts: setup_anndata(adata, layer=...).")
        return adata.X
    if layer not in adata.layers:
        raise SetupError(unknown("layer", layer, adata.layers.keys()))
    return adata.layers[layer]


def row_blocks(matrix: Any, size: int = 4096) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """The matrix from top to bottom in CSR blocks, with the first row's number."""
    whole = matrix if on_disk(matrix) else as_csr(matrix)
    size = min(size, rows_at_once(matrix)) if on_disk(matrix) else size
    for start in range(0, matrix.shape[0], size):
        yield start, read_slice(whole, slice(start, start + size))


class DiskCounts:
    """A count matrix that stays on disk; ``take`` reads rows of it.

    Attributes
    ----------
    at_once, block
        How many cells are best read at once, and how many of the file's neighbours should be among them.
    """

    def __init__(self, matrix: Any, columns: np.ndarray | None, part: bool = False):  # see counts_of
        require_rows(matrix)
        self.matrix, self.columns, self.part = matrix, columns, part
        self.n_vars = matrix.shape[1] if columns is None else len(columns)
        self.at_once, self.block = rows_at_once(matrix), block_of(matrix)

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def take(self, rows: Tensor) -> Counts:
        """Files are read in sorted order without repeats; the order asked for is restored after that."""
        wanted, back = np.unique(rows.numpy(), return_inverse=True)
        read, at = read_rows(self.matrix, wanted)
        return _aligned(read, self.columns, self.part).take(torch.from_numpy(at[back]))

    def _blocks(self) -> Iterator[Counts]:
        return (_aligned(block, self.columns, self.part) for _, block in row_blocks(self.matrix))

    @cached_property
    def size(self) -> Tensor:
        """Library size of every cell, (cells, 1), from one pass over the file."""
        return torch.cat([block.size for block in self._blocks()])

    def column_means(self, fn: Callable[[Counts], Counts]) -> Tensor:
        """As :meth:`Counts.column_means`, from one pass over the file."""
        return torch.stack([block.column_means(fn) * len(block) for block in self._blocks()]).sum(0) / len(self)


def _aligned(matrix: Any, columns: np.ndarray | None, part: bool = False) -> Counts:
    """Counts of the given columns in the given order; -1 is one that was not measured."""
    if columns is None:
        return Counts.of(matrix)
    there, whole = np.flatnonzero(columns >= 0), as_csr(matrix)
    rows = whole[:, columns[there]]
    if len(there) == len(columns):
        out = Counts.of(rows)
    else:
        out = Counts.of(sparse.csr_matrix((rows.data, there[rows.indices], rows.indptr), shape=(rows.shape[0], len(columns))))
        out.measured = torch.from_numpy(there)
    if part:
        out.size = torch.from_numpy(np.asarray(whole.sum(1, dtype=np.float64), dtype=np.float32))
    return out


def counts_of(matrix: Any, columns: np.ndarray | None, part: bool = False) -> Counts | DiskCounts:
    """All cells' counts: in memory where the matrix is, else left on disk.

    ``columns`` are where the features asked for stand (-1: not measured); None takes all as they are. ``part``: the library size is
    that of all features, asked for or not.
    """
    return DiskCounts(matrix, columns, part) if on_disk(matrix) else _aligned(matrix, columns, part)
