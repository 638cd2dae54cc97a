"""One way to read rows of a count matrix, in memory or on disk: the rows asked for, in the order asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from h5py import Dataset
from scipy import sparse
from torch import Tensor

from scelbo.data.counts import Counts
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


def on_disk(matrix: Any) -> bool:
    """Whether the matrix stays in its file (an h5ad opened with ``backed="r"``)."""
    return isinstance(matrix, CSRDataset | CSCDataset | Dataset)


def row_blocks(matrix: Any, size: int = 4096) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """The matrix from top to bottom in CSR blocks, with the first row's number."""
    whole = matrix if on_disk(matrix) else sparse.csr_matrix(matrix)
    for start in range(0, matrix.shape[0], size):
        yield start, sparse.csr_matrix(whole[start : start + size])


class DiskCounts:
    """A count matrix that stays on disk; ``take`` reads the rows of one minibatch."""

    def __init__(self, matrix: Any, columns: np.ndarray | None):
        if isinstance(matrix, CSCDataset):
            raise DataError(
                "the counts on disk are stored by column (CSC), so reading cells would read the whole file each time.",
                "Write them by row first: adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...).",
            )
        self.matrix, self.columns = matrix, columns
        self.n_vars = matrix.shape[1] if columns is None else len(columns)

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def _rows(self, block: Any) -> sparse.csr_matrix:
        block = sparse.csr_matrix(block)
        return block if self.columns is None else block[:, self.columns]

    def take(self, rows: Tensor) -> Counts:
        """Files are read in sorted order without repeats; the order asked for is restored after that."""
        wanted, back = np.unique(rows.numpy(), return_inverse=True)
        return Counts.of(self._rows(self.matrix[wanted])).take(torch.from_numpy(back))

    @cached_property
    def size(self) -> Tensor:
        """Library size of every cell, (cells, 1), from one pass over the file."""
        sums = [self._rows(block).sum(1) for _, block in row_blocks(self.matrix)]
        return torch.from_numpy(np.concatenate(sums).astype(np.float32))


def counts_of(adata: AnnData, layer: str | None, columns: np.ndarray | None) -> Counts | DiskCounts:
    """All cells' counts with the given columns (None: all, as they are): in memory where the AnnData is, else left on disk."""
    matrix = matrix_of(adata, layer)
    if on_disk(matrix):
        return DiskCounts(matrix, columns)
    return Counts.of(matrix if columns is None else sparse.csr_matrix(matrix)[:, columns])
