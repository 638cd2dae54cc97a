"""What training reached, and whether the model is as sure as it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy

from scelbo.errors import ArgumentError, unknown
from scelbo.pl.style import FIRST, SECOND, from_0_to_1, one_panel, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {
    "elbo": "- ELBO, nats a cell",
    "reconstruction_loss": "reconstruction loss, nats a cell",
    "kl_local": "KL, nats a cell",
    "kl_weight": "weight of the KL",
}
KINDS = {"expressed": ("one count or more expected", FIRST), "all": ("all values", SECOND)}


def training(model: Any, metrics: str | list[str] = "elbo") -> Figure:
    """Training curves.

    Parameters
    ----------
    model
        A trained model, or its ``history``.
    metrics
        Which to draw; matched at their beginning, so ``"elbo"`` draws ``elbo_train`` and ``elbo_validation``.

    Returns
    -------
    A figure, a panel for each metric.

    Raises
    ------
    ArgumentError
        The history has no such metric.

    Examples
    --------
    >>> import pandas as pd
    >>> from scelbo import pl
    >>> curve = pd.DataFrame({"elbo_train": [900.0, 700.0, 650.0]})
    >>> pl.training({"elbo_train": curve}).axes[0].get_xlabel()
    'epoch'
    """
    history: dict[str, pd.DataFrame] = getattr(model, "history", model) or {}
    begun = {m: [name for name in history if name.startswith(m)] for m in ([metrics] if isinstance(metrics, str) else metrics)}
    for metric, names in begun.items():
        if not names:
            raise ArgumentError(unknown("metric", metric, history))
    shown = list(dict.fromkeys(name.removesuffix("_train").removesuffix("_validation") for names in begun.values() for name in names))
    figure, all_axes = panels(len(shown), 5.5 if len(shown) == 1 else 3.4, 3.2 if len(shown) == 1 else 2.6, 3)
    for axes, metric in zip(all_axes, shown, strict=True):
        draw_curves(axes, history, metric)
    return figure


def draw_curves(axes: Any, history: dict[str, pd.DataFrame], metric: str) -> None:
    """One metric, of training and of validation cells, on these axes."""
    curves = {metric: (None, FIRST), f"{metric}_train": ("training", FIRST), f"{metric}_validation": ("validation", SECOND)}
    for name, (label, colour) in curves.items():
        if name in history:
            values = history[name].iloc[:, 0]
            axes.plot(values.index + 1, values, color=colour, label=label, marker="." if len(values) < 40 else None)
    if metric == "elbo" and "elbo_train" in history:  # the first epochs would hide the rest
        drawn = [history[name].iloc[:, 0] for name in ("elbo_train", "elbo_validation") if name in history]
        later = pd.concat([v[v.index >= v.index.max() / 20] for v in drawn])
        if len(later) > 2:
            axes.set_ylim(later.min() - 0.04 * np.ptp(later), later.max() + 0.04 * np.ptp(later))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    axes.set(xlabel="epoch", ylabel=AXES.get(metric, metric))


def calibration(x: Any, truth: str | pd.Series | np.ndarray | None = None, *, bins: int = 10) -> Figure:
    """Whether a model is as sure as it is right: of labels, or of what it draws.

    Parameters
    ----------
    x
        Of labels: a trained model that predicts them, or a data frame cells x labels (``predict(soft=True)``). Of draws: what
        ``posterior_predictive_check()`` returned.
    truth
        Of labels: the true ones, one value a row, missing where not known; of a model the column of ``adata.obs``. Cells whose true label
        the model does not know are left out; of a model's own cells those are asked whose label training did not see.
    bins
        Bins of the probability.

    Returns
    -------
    A figure. Of labels: the share of cells in each bin whose most probable label is right, with 90 % intervals, against the mean
    probability, and the expected calibration error. Of draws: the share of values inside the central interval of each level. Below the
    dashed line the model is too sure.

    Raises
    ------
    ArgumentError
        There are no labels to compare with.
    """
    figure, axes = one_panel(4.6, 4.8)
    if truth is None:
        if not hasattr(x, "calibration") or not hasattr(x, "n_samples"):
            raise ArgumentError("Whether labels are right takes the true ones.", "calibration(x, truth=adata.obs[...])")
        draw_coverage(axes, x)
        cells = f"{x.n_cells:,} {'held-out ' if x.held_out else ''}cells"
        axes.set_title(f"{x.n_samples} draws of {cells}", loc="left", fontsize=9)
        return figure
    if hasattr(x, "predict"):
        if isinstance(truth, str):
            if truth not in x.adata.obs:
                raise ArgumentError(unknown("column of obs", truth, x.adata.obs.columns))
            truth = x.adata.obs[truth]
        asked = np.flatnonzero(label_unseen(x))
        x, truth = x.predict(indices=asked, soft=True), np.asarray(truth)[asked]
    table, error = reliability(x, np.asarray(truth), bins)
    axes.vlines(table["said"], table["low"], table["high"], color=FIRST)
    axes.scatter(table["said"], table["right"], s=15 + 120 * table["cells"] / table["cells"].max(), color=FIRST)
    axes.set_title(f"expected calibration error {error:.1%}, {table['cells'].sum():,} cells", loc="left", fontsize=9)
    from_0_to_1(axes, "probability of the most probable label", "share of cells where it is right")
    return figure


def reliability(chance: pd.DataFrame, truth: np.ndarray, bins: int = 10) -> tuple[pd.DataFrame, float]:
    """By bin of the highest probability: its mean ``said``, the share ``right`` with 90 % intervals (Jeffreys' prior) and ``cells``.

    And the expected calibration error: the mean distance over cells between the two.
    """
    if len(truth) != len(chance):
        raise ArgumentError(f"truth has {len(truth):,} values for {len(chance):,} cells.")
    known = pd.Index(truth).isin(chance.columns)
    if not known.any():
        raise ArgumentError(f"None of the true labels is among those that the model knows: {', '.join(map(str, chance.columns[:5]))}.")
    p = chance.to_numpy()[known]
    right = np.asarray(chance.columns)[p.argmax(1)] == truth[known]
    bin_of = np.minimum(np.ceil(p.max(1) * bins), bins)
    cells = pd.DataFrame({"said": p.max(1), "right": right, "cells": 1}).groupby(bin_of)
    table = cells.agg({"said": "mean", "right": "mean", "cells": "sum"})
    hits = table["right"] * table["cells"]
    for name, quantile, end in (("low", 0.05, 0), ("high", 0.95, 1)):
        bound = scipy.stats.beta.ppf(quantile, hits + 0.5, table["cells"] - hits + 0.5)
        table[name] = np.where(table["right"] == end, end, bound)
    return table, float(np.average((table["right"] - table["said"]).abs(), weights=table["cells"]))


def label_unseen(model: Any) -> np.ndarray:
    """Which of a model's cells had no label in training: they were held out, or their label is not known to it."""
    data = model.read()
    unseen = np.ones(data.n_obs, bool)
    for name, field in model.Cells.fields().items():
        if field.missing is not None:
            unseen[model.train_indices] = data[name].numpy()[model.train_indices] < 0
    return unseen


def draw_coverage(axes: Any, check: Any) -> None:
    """The share of values inside the interval of each level, on these axes."""
    for name, (label, colour) in KINDS.items():
        if check.calibration[name].notna().all():
            axes.plot(check.calibration.index, check.calibration[name], "o-", color=colour, label=label)
    axes.legend(frameon=False)
    from_0_to_1(axes, "level of the interval", "share of values inside")
