"""What describes the values of each row of a matrix, and how rows compare."""

from __future__ import annotations

import numpy as np

from scelbo.kernels.maths import LOG2_E, ZERO, bits, f4, finite, i4, in_order, log, loop, number, part, wide

BINS = 512
FEW = 64
"""Values that are sorted at once."""
LEAST, LARGEST = i4(-(2**31)), i4(2**31 - 1)


@part
def _ends(row: np.ndarray) -> tuple[float, float]:
    """The least and the largest: of whole numbers, as those of floats are found one by one."""
    low, high = LARGEST, LEAST
    for k in range(row.shape[0]):
        x = in_order(bits(row[k]))
        low, high = min(low, x), max(high, x)
    return number(in_order(low)), number(in_order(high))


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


@part
def _median(row: np.ndarray, low: float, high: float, work: np.ndarray, count: np.ndarray) -> float:
    n = row.shape[0]
    upper = _of_rank(row, n // 2, low, high, work, count)
    if n % 2:
        return upper
    before, fewer = LEAST, i4(0)
    for k in range(n):
        x = row[k] if row[k] < upper else low
        before = max(before, in_order(bits(x)))
    for k in range(n):
        fewer += i4(1) if row[k] < upper else i4(0)
    lower = number(in_order(before)) if fewer == n // 2 else upper  # else it is there twice
    return (lower + upper) / f4(2)


@part
def _spread(row: np.ndarray) -> float:
    total, square = ZERO, ZERO
    for k in range(row.shape[0]):
        total += row[k]
    mean = total / f4(row.shape[0])
    for k in range(row.shape[0]):
        square += (row[k] - mean) * (row[k] - mean)
    return np.sqrt(square / f4(row.shape[0]))


@part
def _ratios(one: np.ndarray, other: np.ndarray, eps: float, delta: float, e: np.ndarray) -> tuple[int, int, float, float, float]:
    wide()
    up, down, total, sum1, sum2 = 0, 0, ZERO, ZERO, ZERO
    for k in range(e.shape[0]):
        x = log((one[k] + eps) / (other[k] + eps)) * LOG2_E
        e[k] = x
        up += x >= delta
        down += x < -delta
        total += x
        sum1 += one[k]
        sum2 += other[k]
    return up, down, total, sum1, sum2


@loop
def log_ratios(h1: np.ndarray, h2: np.ndarray, eps: float, delta: float, e: np.ndarray, found: np.ndarray) -> bool:
    """Write log2 (h1 + eps) / (h2 + eps) of pairs (rows, n), if all is finite, and what is found in each row, (5, rows).

    That is how many pairs are at least delta up, and more than delta down, and the means of the ratio, of h1 and of h2.
    """
    n = h1.shape[1]
    one, other = np.empty(n, f4), np.empty(n, f4)
    for i in range(h1.shape[0]):
        for k in range(n):  # next to each other, so that the pass becomes vector instructions
            one[k], other[k] = h1[i, k], h2[i, k]
        if not (finite(one) and finite(other)):
            return False
        up, down, total, sum1, sum2 = _ratios(one, other, eps, delta, e[i])
        found[0, i], found[1, i], found[2, i], found[3, i], found[4, i] = up, down, total / n, sum1 / n, sum2 / n
    return True


@loop
def described(values: np.ndarray, median: np.ndarray, std: np.ndarray, least: np.ndarray, most: np.ndarray) -> None:
    """Write what each row of ``values`` (rows, n), which are finite, has in the middle, how it is spread, and where it ends."""
    work, count = np.empty(values.shape[1], f4), np.empty(BINS, np.int64)
    for i in range(values.shape[0]):
        least[i], most[i] = _ends(values[i])
        median[i], std[i] = _median(values[i], least[i], most[i], work, count), _spread(values[i])
