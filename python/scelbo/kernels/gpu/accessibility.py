"""log P of which regions a cell has open, on a GPU: a pass for the values, and one for the gradients.

The formulas stand in :mod:`scelbo.likelihoods.accessibility`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scelbo.kernels.gpu.maths import log

EPS, TINY, HIGHEST = tl.constexpr(1.1920929e-07), tl.constexpr(1.1754944e-38), tl.constexpr(88.0)


@triton.jit
def _terms(x, h, cell, region):
    """Of each region: log P, its slope in log p, and that of log y in h."""
    closed = tl.exp(tl.minimum(-h, HIGHEST))
    y = 1.0 / (1.0 + closed)
    p = y * cell * region
    rest, seen = tl.maximum(1.0 - p, EPS), x > 0
    value = log(tl.where(seen, tl.maximum(p, TINY), rest))
    return value, tl.where(seen, 1.0, -p / rest), closed * y


@triton.jit
def values(x, h, cell, region, value, slope, regions, AT_ONCE: tl.constexpr, BLOCK: tl.constexpr):
    """Write what ``AT_ONCE`` regions of a cell add to its value, and to the slope in its log l: both (cells, parts).

    Parameters
    ----------
    x, h
        (cells, regions), row after row.
    cell, region
        (cells,) and (regions,): l and r themselves.
    """
    b, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    found, slopes, of_cell = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.load(cell + b)
    for start in range(part * AT_ONCE, min((part + 1) * AT_ONCE, regions), BLOCK):
        g = start + tl.arange(0, BLOCK)
        here, at = g < regions, b * regions + g
        r = tl.load(region + g, mask=here, other=0.0)
        v, of_p, _ = _terms(tl.load(x + at, mask=here, other=0.0), tl.load(h + at, mask=here, other=0.0), of_cell, r)
        found += tl.where(here, v, 0.0)
        slopes += tl.where(here, of_p, 0.0)
    to = b * tl.num_programs(1) + part
    tl.store(value + to, tl.sum(found, 0))
    tl.store(slope + to, tl.sum(slopes, 0))


@triton.jit
def gradients(x, h, cell, region, weight, d_h, d_region, regions, BLOCK: tl.constexpr):
    """Write ``weight``, (cells,), times the slopes of some regions of a cell in h and in log r: both (cells, regions)."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here, at = g < regions, b * regions + g
    r = tl.load(region + g, mask=here, other=0.0)
    _, of_p, of_h = _terms(tl.load(x + at, mask=here, other=0.0), tl.load(h + at, mask=here, other=0.0), tl.load(cell + b), r)
    of_p *= tl.load(weight + b)
    tl.store(d_h + at, of_p * of_h, mask=here)
    tl.store(d_region + at, of_p, mask=here)
