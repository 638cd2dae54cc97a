"""Doublets by design: who is added to whom, and how many of them a lane is expected to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from scelbo.data.columns import Columns
from scelbo.data.counts import Counts
from scelbo.data.fields import Batch, categories, category, counts, number, numbers
from scelbo.data.setup import Setup
from scelbo.errors import ArgumentError, DataError, unknown

PER_CELL = 8e-6
"""The rule of thumb of droplet kits: doublets' share for each cell that a lane holds."""
AT_ONCE = 256
"""Cells in a minibatch that is encoded."""


class PairedCells(Batch):
    """All that an encoder may read, and no label: what a doublet is does not depend on it."""

    x: Counts = counts("layer")
    batch: Tensor = category("batch_key")
    extra: dict[str, Tensor] = categories("categorical_covariate_keys")
    numbers: Tensor | None = numbers("continuous_covariate_keys")
    size: Tensor | None = number("size_factor_key")


class Evidence(Batch):
    """What the classifier reads: of each cell, and of the sums that it is a part of."""

    inputs: Tensor  # (cells, 1 + sums, inputs)
    batch: Tensor  # (cells,) the lane


def of_lanes(setup: Setup, source: Any, only: str | None = None) -> tuple[Any, dict[str, int]]:
    """Cells whose counts may be added (of one lane, if asked); and lane -> how many of them it holds."""
    if not setup.whole:
        raise DataError("Doublets are sums of counts, and the data are not counts.", "Set up the layer with raw counts.")
    lanes, lane = setup.categories["batch"], setup.read(source, PairedCells)["batch"].numpy()
    if only is not None:
        here = lane == setup.code("batch", only)
        source, lane = source[here] if source.isbacked else source[here].copy(), lane[here]
    return source, {lanes[b]: int((lane == b).sum()) for b in np.unique(lane)}


def partners(lane: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """For each cell n random others of its lane, (cells, n); the only cell of a lane has itself."""
    order, size = np.argsort(lane, kind="stable"), np.bincount(lane)
    start = size.cumsum() - size
    place = np.empty(len(lane), np.int64)
    place[order] = np.arange(len(lane)) - start[lane[order]]
    here = size[lane][:, None]
    step = 1 + (rng.random((len(lane), n)) * (here - 1)).astype(np.int64)
    return order[start[lane][:, None] + (place[:, None] + step) % here]


def added(data: Columns, rows: np.ndarray, others: np.ndarray | None = None) -> Iterator[Any]:
    """Cells in minibatches, or their sums with others, which have the covariates of the first of the two."""
    for part in np.array_split(np.arange(len(rows)), -(-len(rows) // AT_ONCE)):
        cells: Any = data.take(rows[part])
        if others is not None:
            cells.x = cells.x + data.take(others[part]).x  # type: ignore[attr-defined]
        yield cells


def rates(given: Any, lane_cells: Mapping[str, int]) -> dict[str, float]:
    """Lane -> expected share of doublets: as given, or by the rule of thumb of droplet kits, 0.8 % for each 1,000 cells recovered."""
    if given is None:
        return {lane: min(0.5, PER_CELL * n) for lane, n in lane_cells.items()}
    if not isinstance(given, Real | Mapping):
        raise ArgumentError(f"expected_doublet_rate={given!r} is not allowed.", "Give one number, or one for each lane.")
    each = dict.fromkeys(lane_cells, given) if isinstance(given, Real) else dict(given)
    for lane in lane_cells:
        if lane not in each:
            raise ArgumentError(f"expected_doublet_rate says nothing of lane {lane!r}.", "Give one number, or one for each lane.")
    for lane, rate in each.items():
        if lane not in lane_cells:
            raise ArgumentError(unknown("expected_doublet_rate: lane", lane, lane_cells))
        if not 0 <= float(rate) < 1:
            raise ArgumentError(
                f"expected_doublet_rate={rate!r} is not allowed: it is a share of the cells, from 0 up to (not including) 1."
            )
    return {lane: float(rate) for lane, rate in each.items()}
