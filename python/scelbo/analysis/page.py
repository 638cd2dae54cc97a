"""A report as one HTML page, with its figures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scelbo.analysis.predictive_check import BINS
from scelbo.analysis.verdicts import COLLAPSED
from scelbo.pl.cells import draw_cells
from scelbo.pl.fit import KINDS, draw_coverage, draw_curves
from scelbo.pl.style import FIRST, MUTED, SECOND, empty_figure

if TYPE_CHECKING:
    from scelbo.analysis.report import Report

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem } th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem }
th, td { border-bottom: 1px solid #ddd } tr.look { background: #fff3e0 } td small { color: #666; display: block }
img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption { font-size: 0.9rem; color: #444 }
"""


def page(report: Report) -> str:
    """The whole page as text."""
    shown = "\n".join(f"<figure><h2>{title}</h2>{_image(draw, report, title)}<figcaption>{says}</figcaption></figure>"
                      for title, (draw, says) in FIGURES.items())  # fmt: skip
    bad = [v for v in report.verdicts if not v.good]
    todo = "".join(f"<li><b>{escape(v.name)}</b>: {escape(v.shown)}. {escape(v.advice)}</li>" for v in bad)
    rows = "".join(
        f"<tr{'' if v.good else ' class=look'}><td>{'&#10003;' if v.good else '!'}</td><td>{escape(v.name)}</td><td>{escape(v.shown)}</td>"
        f"<td>{escape(v.means)}<small>Where it is bad: {escape(v.advice)}</small></td></tr>"
        for v in report.verdicts
    )
    check = report.predictive
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(report.title)}</h1>
{f"<h2>What deserves a look</h2><ul>{todo}</ul>" if bad else "<p>Everything is as it should be.</p>"}
<h2>All numbers</h2><table><tr><th></th><th>What</th><th>Value</th><th>Meaning</th></tr>{rows}</table>
<h2>Fit, in nats a cell</h2>{_table(report.fit)}
<p>ELBO: higher is better. Reconstruction: minus the expected log likelihood. Draws below: {check.n_samples} of each of
{check.n_cells:,} {"held-out" if check.held_out else ""} cells.</p>
{shown}
</body></html>
"""


def _table(table: pd.DataFrame) -> str:
    cells = table.assign(cells=table["cells"].astype(int).astype(str))
    return cells.to_html(float_format=lambda v: f"{v:,.2f}", border=0)


def _image(draw: Callable[[Any, Report], None], report: Report, title: str) -> str:
    figure = empty_figure()
    draw(figure, report)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}">'


# ---------------------------------------------------------------------- figures
def _history(figure: Any, report: Report) -> None:
    figure.set_size_inches(9, 3.2)
    curves, weight = figure.subplots(1, 2, width_ratios=(2, 1))
    draw_curves(curves, report.history, "elbo")
    if "kl_weight" in report.history:
        values = report.history["kl_weight"]["kl_weight"]
        weight.plot(values.index + 1, values, color=MUTED)
    weight.set(xlabel="epoch", ylabel="KL weight", ylim=(-0.02, 1.05))


def _latent(figure: Any, report: Report) -> None:
    figure.set_size_inches(9, 2.6)
    axes, kl = figure.subplots(), report.latent_kl
    axes.bar(np.arange(len(kl)), np.maximum(kl, 1e-4), color=[SECOND if k < COLLAPSED else FIRST for k in kl])
    axes.axhline(COLLAPSED, color=MUTED, linestyle="--", linewidth=1)
    axes.set(yscale="log", xlabel="latent dimension", ylabel="KL, nats a cell")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _genes(figure: Any, report: Report) -> None:
    genes, names = report.predictive.genes, report.predictive.statistics
    figure.set_size_inches(2.9 * len(names), 3.2)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        both = genes[[f"{name}_observed", f"{name}_drawn"]].to_numpy()
        logged = name in ("mean", "variance") and (both > 0).mean() > 0.5
        shown, off = ((both > 0) if logged else np.isfinite(both)).all(1), genes[f"{name}_outside"].to_numpy()
        for some, colour in ((~off, FIRST), (off, SECOND)):
            axes.scatter(*both[shown & some].T, s=6, alpha=0.6, color=colour, linewidths=0)
        if logged:
            axes.set(xscale="log", yscale="log")
        ends = [both[shown].min(), both[shown].max()] if shown.any() else [1, 2]
        axes.plot(ends, ends, color=MUTED, linewidth=1, zorder=0)
        axes.set(xlabel="observed", ylabel="drawn", title={"zeros": "share of zeros", "cv": "coefficient of variation"}.get(name, name))


def _calibration(figure: Any, report: Report) -> None:
    figure.set_size_inches(9, 3.2)
    cover, ranks = figure.subplots(1, 2, width_ratios=(1, 1.6))
    check = report.predictive
    draw_coverage(cover, check)
    for name, (_, colour) in KINDS.items():
        if check.ranks[name].notna().all():
            ranks.step(np.arange(BINS + 1) / BINS, np.r_[check.ranks[name], check.ranks[name].iloc[-1]] * BINS, where="post", color=colour)
    ranks.axhline(1, color=MUTED, linewidth=1, zorder=0)
    ranks.set(xlabel="rank of a value among its draws", ylabel="density", ylim=(0, None))


def _embedding(figure: Any, report: Report) -> None:
    places = report.embedding
    first, second, *keys = places.columns
    panels = keys or [""]
    figure.set_size_inches(5.6 * len(panels), 4.6)
    for axes, key in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        draw_cells(figure, axes, places[[first, second]].to_numpy(float), [first, second], places[key] if key else None, key)


FIGURES = {
    "Training": (_history, "Minus the ELBO: lower is better. Validation cells should not rise again, and the KL weight should end at 1."),
    "Latent dimensions": (_latent, "How much each dimension says about a cell. Below the line a dimension has collapsed."),
    "Genes, drawn and observed": (
        _genes,
        "On the line a gene is drawn as it was counted; orange genes lie beyond all draws. Many of these ask for another likelihood.",
    ),
    "Calibration": (
        _calibration,
        "Coverage below the line: too sure. Ranks are flat for a right model; a U is too sure, a hill too unsure, a slope a bias.",
    ),
    "Latent space": (
        _embedding,
        "Batches should mix where they hold the same cells, and labels hold together; if not, check batch_key and the KL weight.",
    ),
}
