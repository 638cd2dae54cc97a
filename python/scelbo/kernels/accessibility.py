"""log P of which regions a cell has open, with its gradients: one pass over all regions, and one over those that were seen.

The formulas stand in :mod:`scelbo.likelihoods.accessibility`, which does the same in torch.
"""

from __future__ import annotations

import numpy as np
from numpy import uint32

from scelbo.kernels.maths import NOT_A_NUMBER, ONE, ZERO, exp, f4, finite, log, loop, number, part, wide

EPS, TINY = np.finfo(f4).eps, np.finfo(f4).tiny


@part
def _unseen(h: np.ndarray, region: np.ndarray, cell: float, weight: float, d_h: np.ndarray, d_region: np.ndarray) -> tuple[float, float]:
    wide()
    value, slope = ZERO, ZERO
    for g in range(h.shape[0]):
        closed = exp(-h[g])
        y = ONE / (ONE + closed)
        p = y * cell * region[g]
        rest = max(ONE - p, EPS)
        value += log(rest)
        of_p = -p / rest
        d_h[g] = weight * of_p * closed * y
        d_region[g] += weight * of_p
        slope += of_p
    return value, slope


@part
def _seen(n: int, work: np.ndarray, cell: float, weight: float) -> tuple[float, float]:
    """work: h, region -> d h, d log region less what an unseen region would have."""
    h, region = work[0], work[1]
    wide()
    value, slope = ZERO, ZERO
    for k in range(n):
        closed = exp(-h[k])
        y = ONE / (ONE + closed)
        p = y * cell * region[k]
        rest = max(ONE - p, EPS)
        value += log(max(p, TINY)) - log(rest)
        of_p = ONE + p / rest
        slope += of_p
        h[k] = weight * closed * y
        region[k] = weight * of_p
    return value, slope


@loop
def bernoulli(
    h: np.ndarray, cell: np.ndarray, region: np.ndarray, crow: np.ndarray, col: np.ndarray, weight: np.ndarray,
    value: np.ndarray, d_h: np.ndarray, d_cell: np.ndarray, d_region: np.ndarray,
) -> None:  # fmt: skip
    """Write the value of each cell (not a number, where its logits are not finite), and ``weight`` times its gradients.

    Parameters
    ----------
    h
        (cells, regions) logits of y.
    cell, region
        (cells,) and (regions,): l and r themselves.
    crow, col
        Which regions were seen, as in :class:`~scelbo.data.Counts`.
    weight
        (cells,).
    value, d_h, d_cell, d_region
        Of the shapes of what they belong to, ``d_h`` of one row where nobody reads it; the last two are of log l and log r, and
        ``d_region`` is added to.
    """
    work = np.empty((2, h.shape[1]), f4)
    for b in range(h.shape[0]):
        at, slopes, w = col[crow[b] : crow[b + 1]], d_h[b if d_h.shape[0] > 1 else 0], weight[b]
        n = at.shape[0]
        for k in range(n):
            g = uint32(at[k])
            work[0, k], work[1, k] = h[b, g], region[g]
        unseen, slope = _unseen(h[b], region, cell[b], w, slopes, d_region)
        seen, more = _seen(n, work, cell[b], w)
        for k in range(n):
            g = uint32(at[k])
            slopes[g] = work[0, k]
            d_region[g] += work[1, k]
        value[b], d_cell[b] = unseen + seen, w * (slope + more)
        if not finite(h[b]):
            value[b] = number(NOT_A_NUMBER)
