"""Figures of ranks, coverage and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from output import save

from calibrated import ranks
from calibrated.posteriors import BEST, EXACT, KNOWN, LEARNT, OURS, PEER, Found
from calibrated.spots import GRID, Spots

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#888888", "#cc79a7")
BLUE, GREY = COLOURS[0], "#dddddd"
PANELS = [(KNOWN, method, "z") for method in (EXACT, BEST, OURS, PEER)] + [(LEARNT, side, "one cell") for side in ("scelbo", "scvi-tools")]


def of_ranks(found: Sequence[Found], stem: str) -> None:
    """Rank histograms above, ECDFs less the uniform's below, each with what chance does to a right posterior."""
    by = {(f.stage, f.method, f.quantity): f for f in found}
    panels = [by[key] for key in PANELS if key in by]
    figure = Figure(figsize=(2 * len(panels), 4), layout="constrained")
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for (above, below), f in zip(axes.T, panels, strict=True):
        counted = f.histogram / f.ranks.size * ranks.BINS
        at = (np.arange(ranks.BINS) + 0.5) / ranks.BINS
        above.bar(at, counted, 1 / ranks.BINS, color=BLUE)
        above.axhline(1, color="black", linewidth=0.8)
        above.set_title(f"{f.method}\n{'z' if f.quantity == 'z' else 'genes'}, {f.stage}".replace("genes", "features"), fontsize=8)
        x = (ranks.steps() + 1) / (ranks.DRAWS + 1)
        low, high = ranks.band(len(f.ranks))
        below.fill_between(x[::4], (low - x)[::4], (high - x)[::4], color=GREY, linewidth=0)
        below.plot(x[::4], (ranks.ecdf(f.ranks) - x[:, None])[::4], color=BLUE, linewidth=0.6)
        below.set_xlabel("rank of the truth", fontsize=8)
    axes[0, 0].set(ylabel="share of ranks x 20", ylim=(0, 5))
    axes[1, 0].set_ylabel("ECDF - uniform")
    save(figure, stem)


def of_coverage(panels: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]], stem: str, x: str, y: str) -> None:
    """Panel -> line -> (what is stated, what came)."""
    figure = Figure(figsize=(3 * len(panels), 3.2), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        for (name, (stated, came)), colour in zip(lines.items(), COLOURS, strict=False):
            axes.plot(stated, came, "o-", markersize=3, color=colour, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x, ylabel=y)
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=7, loc="best")
    save(figure, stem)


def of_reliability(panels: dict[str, dict[str, pd.DataFrame]], stem: str) -> None:
    """How often came true what was said, in bins that hold ten or more."""
    enough = lambda table: table[table["n"] >= 10]  # noqa: E731
    lines = {t: {n: tuple(enough(b)[["stated", "came"]].to_numpy().T) for n, b in by.items()} for t, by in panels.items()}
    of_coverage(lines, stem, "stated probability", "share that came true")


def of_spots(found: Sequence[Spots], stem: str) -> None:
    """What intervals hold, of types that are there."""
    panels: dict[str, dict[str, Any]] = {}
    for s in found:
        panels.setdefault(s.kind, {})[s.method] = (GRID, s.covered["present"].to_numpy())
    of_coverage(panels, stem, "stated level", "true shares inside")
