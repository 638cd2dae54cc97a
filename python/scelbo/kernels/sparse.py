"""Rows of a CSR matrix, and its values column after column."""

from __future__ import annotations

import numpy as np
from numpy import uint64

from scelbo.kernels.maths import loop


@loop
def gather(
    crow: np.ndarray, col: np.ndarray, val: np.ndarray, rows: np.ndarray, out_crow: np.ndarray, out_col: np.ndarray, out_val: np.ndarray
) -> None:  # fmt: skip
    """The given rows, one after the other; ``out_crow`` says where each shall go."""
    for b in range(rows.shape[0]):
        first, here = crow[rows[b]], out_crow[b]
        for k in range(out_crow[b + 1] - here):
            out_col[here + k] = col[first + k]
            out_val[here + k] = val[first + k]


@loop
def sums(crow: np.ndarray, col: np.ndarray, val: np.ndarray, rows: np.ndarray, share: np.ndarray, out: np.ndarray) -> None:
    """Add to each column's row of ``out`` what it has in these rows, that times each row's ``share``, and how many have anything there."""
    for b in range(rows.shape[0]):
        for k in range(crow[rows[b]], crow[rows[b] + 1]):
            g = uint64(col[k])
            out[g, 0] += val[k]
            out[g, 1] += val[k] * share[b]
            out[g, 2] += 1


@loop
def by_column(crow: np.ndarray, col: np.ndarray, val: np.ndarray, start: np.ndarray, row: np.ndarray, out: np.ndarray) -> None:
    """The values column after column, by counting: where each starts (``start`` comes as zeros), and in which row each is."""
    for k in range(col.shape[0]):
        start[uint64(col[k]) + uint64(1)] += 1
    for g in range(start.shape[0] - 1):
        start[g + 1] += start[g]
    for b in range(crow.shape[0] - 1):
        for k in range(crow[b], crow[b + 1]):
            g = uint64(col[k])
            i = uint64(start[g])
            row[i], out[i] = b, val[k]
            start[g] += 1
    for g in range(start.shape[0] - 1, 0, -1):
        start[g] = start[g - 1]
    start[0] = 0
