"""What describes the values of each row of a matrix, and how rows compare."""

from __future__ import annotations

import numpy as np

from scelbo.kernels.maths import ZERO, f4, loop, part

BINS = 512
FEW = 64
"""Values that are sorted at once."""


@part
def _ends(row: np.ndarray) -> tuple[float, float]:
    low, high = row[0], row[0]
    for k in range(row.shape[0]):
        low, high = min(low, row[k]), max(high, row[k])
    return low, high


@part
def _of_rank(row: np.ndarray, rank: int, low: float, high: float, work: np.ndarray, count: np.ndarray) -> float:
    """The value that ``rank`` others precede: that of the bin which it is in, until few are left."""
    left = row
    while left.shape[0] > FEW and high > low:
        per_unit = f4(BINS) / (high - low)
        count[:] = 0
        for k in range(left.shape[0]):
            count[min(int((left[k] - low) * per_unit), BINS - 1)] += 1
        at = 0
        while rank >= count[at]:
            rank -= count[at]
            at += 1
        n = 0
        for k in range(left.shape[0]):
            x = left[k]
            if min(int((x - low) * per_unit), BINS - 1) == at:
                work[n] = x
                n += 1
        if n == left.shape[0]:
            break
        left = work[:n]
        low, high = _ends(left)
    return np.sort(left)[rank]


@loop
def compared(draws: np.ndarray, first: np.ndarray, second: np.ndarray, above: np.ndarray, sum1: np.ndarray, sum2: np.ndarray) -> None:
    """Add up, of pairs of rows of ``draws`` (n, features), how often the first has more of a feature, and what each side has of it."""
    for i in range(first.shape[0]):
        one, other = draws[first[i]], draws[second[i]]
        for g in range(draws.shape[1]):
            above[g] += one[g] > other[g]
            sum1[g] += one[g]
            sum2[g] += other[g]


@loop
def described(values: np.ndarray, median: np.ndarray, std: np.ndarray, least: np.ndarray, most: np.ndarray) -> None:
    """Write what each row of ``values`` (rows, n), which are finite, has in the middle, how it is spread, and where it ends."""
    n = values.shape[1]
    work, count = np.empty(n, f4), np.empty(BINS, np.int64)
    for i in range(values.shape[0]):
        row = values[i]
        low, high = _ends(row)
        total = ZERO
        for k in range(n):
            total += row[k]
        mean, square = total / f4(n), ZERO
        for k in range(n):
            square += (row[k] - mean) * (row[k] - mean)
        upper = _of_rank(row, n // 2, low, high, work, count)
        lower = upper if n % 2 else _of_rank(row, n // 2 - 1, low, high, work, count)
        median[i], std[i], least[i], most[i] = (lower + upper) / f4(2), np.sqrt(square / f4(n)), low, high
