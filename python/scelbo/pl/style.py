"""How all pictures look: the one place of their colours and axes (in R: R/plots_style.R, the same values)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scelbo.errors import BackendError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""People with any colour vision tell them apart (Okabe and Ito 2008). More groups than hues get darker ones, then lighter."""
FIRST, SECOND, MUTED, FAINT, TEXT = HUES[0], HUES[1], "#B3B3B3", "#E5E5E5", "#333333"


def colours_of(names: Sequence[Any]) -> dict[Any, str]:
    """A colour for each of these names."""
    rgb = np.array([[int(hue[i : i + 2], 16) for i in (1, 3, 5)] for hue in HUES])
    shades = [*HUES, *("#{:02X}{:02X}{:02X}".format(*row) for end in (0, 255) for row in (rgb + end) // 2)]
    return {name: shades[i % len(shades)] for i, name in enumerate(names)}


def which_side() -> Any:
    """Colours of numbers on both sides of zero."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("which_side", [FIRST, FAINT, SECOND])


def of_shares() -> Any:
    """Colours of shares, from none on."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", ["#EDEDED", *colormaps["YlOrRd"](np.linspace(0.1, 1, 8))])


def empty_figure(**how: Any) -> Figure:
    """Of no global state."""
    try:
        from matplotlib.figure import Figure  # and not pyplot, which keeps state
    except ModuleNotFoundError:
        raise BackendError("Pictures need the package matplotlib.", "pip install matplotlib") from None
    return Figure(layout="constrained", dpi=110, **how)


def one_panel(width: float = 5.5, height: float = 4) -> tuple[Figure, Any]:
    """A figure, and its axes."""
    figure = empty_figure(figsize=(width, height))
    return figure, tidied(figure.subplots())


def panels(n: int, width: float = 2.9, height: float = 2.4, columns: int = 4) -> tuple[Figure, list[Any]]:
    """A figure, and the axes of n panels."""
    across, down = min(n, columns), math.ceil(n / columns)
    figure = empty_figure(figsize=(width * across, height * down))
    axes = np.ravel(figure.subplots(down, across, squeeze=False))
    for unused in axes[n:]:
        unused.axis("off")
    return figure, [tidied(a) for a in axes[:n]]


def tidied(axes: Any) -> Any:
    """Axes without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def bars(axes: Any, names: Sequence[str], values: np.ndarray, title: str) -> None:
    """Horizontal bars, the first on top, in colour which side of zero they are on."""
    at = np.arange(len(names))[::-1]
    axes.barh(at, values, height=0.7, color=[FIRST if v > 0 else SECOND for v in values])
    axes.set_yticks(at, names, fontsize=8)
    axes.set_title(title, loc="left", fontsize=10)


def from_0_to_1(axes: Any, x: str, y: str) -> None:
    """Shares on both axes, and the line where they are the same."""
    from matplotlib.ticker import PercentFormatter

    axes.axline((0, 0), slope=1, color=MUTED, linestyle="--", linewidth=1, zorder=0)
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def name_places(axes: Any, x: Sequence[float], y: Sequence[float], names: Sequence[str], size: float = 9, above: float = 0) -> None:
    """Names at places (``above`` points higher), with a white rim; one that would lie on another goes to the next free line."""
    from matplotlib.patheffects import withStroke

    axes.figure.draw_without_rendering()  # now it is known where the places are on the page
    points = axes.transData.transform(np.column_stack([x, y])) * 72 / axes.figure.dpi
    taken: list[tuple[float, float, float]] = []
    for at, (left, height), name in zip(zip(x, y, strict=True), points, map(str, names), strict=True):
        half, line = 0.3 * size * len(name), 1.1 * size
        free = (k for k in sorted(range(-20, 21), key=lambda k: (abs(k), -k)) if k >= 0 or not above)
        line_at = next(
            k for k in free if not any(abs(left - u) < half + w and abs(height + k * line - v) < 0.99 * line for u, v, w in taken)
        )
        taken.append((left, height + line_at * line, half))
        axes.annotate(
            name, at, xytext=(0, above + line_at * line), textcoords="offset points", ha="center", va="bottom" if above else "center",
            fontsize=size, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def asked(x: Any, question: str, **arguments: Any) -> pd.DataFrame:
    """What a model answers; or the answer itself, as it came."""
    return getattr(x, question)(**arguments) if hasattr(x, question) else x
