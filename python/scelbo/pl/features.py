"""Genes, proteins and regions: which differ, which go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scelbo.errors import ArgumentError, unknown
from scelbo.pl.style import FAINT, MUTED, SECOND, asked, bars, name_places, of_shares, one_panel, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def volcano(table: pd.DataFrame, *, n_labels: int = 10, fdr: float = 0.05) -> Figure:
    """The effect of each feature against the evidence for a difference.

    Parameters
    ----------
    table
        What ``differential_expression(mode="change")`` or ``differential_accessibility(mode="change")`` returned, for one comparison.
    n_labels
        How many features to name: of those in the list, and then of the others, in turn the most probable of either side.
    fdr
        Features in the list with this expected false discovery rate are coloured.

    Returns
    -------
    A figure.

    Raises
    ------
    ArgumentError
        The table has no effects.
    """
    effects = {"effect_size": "difference of probabilities", "lfc_mean": "log2 fold change"}
    effect = next((name for name in effects if name in table), None)
    chance = next((name for name in ("prob_da", "proba_de") if name in table), None)
    if effect is None or chance is None or "bayes_factor" not in table:
        raise ArgumentError("This table has no effects: proba_de, bayes_factor and lfc_mean are needed.", 'Ask with mode="change".')
    points = table[[effect, "bayes_factor", chance]].set_axis(["x", "y", "p"], axis=1)
    points = points.iloc[np.lexsort((-points["x"].abs(), -points["p"]))]
    found = ((1 - points["p"]).cumsum() / np.arange(1, len(points) + 1) < fdr).to_numpy()
    turn = points.groupby(points["x"] > 0).cumcount().to_numpy()
    named = np.lexsort((turn, ~found))[:n_labels]
    figure, axes = one_panel(6, 4.5)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    axes.scatter(points["x"], points["y"], s=7, linewidths=0, color=np.where(found, SECOND, MUTED))
    some = points.iloc[named].sort_values("y")
    axes.set(xlabel=effects[effect], ylabel="log Bayes factor of a difference")
    axes.set_title(f"in colour: {found.sum():,} features, {fdr:.0%} of them expected to be false", loc="left", fontsize=9)
    axes.margins(0.06, 0.15)
    name_places(axes, some["x"], some["y"], list(some.index), 8, above=3)
    return figure


def topics(model: Any, groups: pd.Series | np.ndarray | None = None, *, n: int = 8, chosen: Sequence[str] | None = None) -> Figure:
    """Topics: the features that each holds most of; or how much of each group they make up.

    Parameters
    ----------
    model
        A trained AmortizedLDA; or what ``get_top_features()`` or, with ``groups``, ``get_latent_representation()`` returned.
    groups
        One value a cell: ``adata.obs["cell_type"]``.
    n
        How many features of each topic.
    chosen
        Which topics; default: all.

    Returns
    -------
    A figure: a panel of bars for each topic; or a map of groups x topics.

    Raises
    ------
    ArgumentError
        There is no such topic.
    """
    if groups is None:
        table = asked(model, "get_top_features", n=n)
        names = _chosen("topic", chosen, list(dict.fromkeys(table["topic"])))
        figure, all_axes = panels(len(names))
        for axes, name in zip(all_axes, names, strict=True):
            of = table[table["topic"] == name].nsmallest(n, "rank")
            bars(axes, list(of["feature"]), 100 * of["probability"].to_numpy(), str(name))
        figure.supxlabel("how often the topic draws it, in %", fontsize=10)
        return figure
    shares = asked(model, "get_latent_representation")
    shares = shares[_chosen("topic", chosen, list(shares))]
    means = shares.groupby(np.asarray(groups).astype(str)).mean()
    figure, axes = one_panel(2.5 + 0.45 * means.shape[1], 1.3 + 0.35 * len(means))
    drawn = axes.pcolormesh(means.to_numpy()[::-1], cmap=of_shares(), vmin=0, edgecolors="white", linewidth=1)
    axes.set_xticks(np.arange(means.shape[1]) + 0.5, list(means), rotation=45, ha="right")
    axes.set_yticks(np.arange(len(means)) + 0.5, list(means.index)[::-1])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="mean share of a cell")
    return figure


def loadings(model: Any, *, dims: Sequence[str] | None = None, n: int = 10) -> Figure:
    """Loadings of the latent dimensions that can be read, less the average gene's (which drops out, as values are normalised).

    Parameters
    ----------
    model
        A trained LinearSCVI, or what ``get_loadings()`` returned.
    dims
        Which dimensions; default: the first six.
    n
        How many features of each: those farthest from the average gene.

    Returns
    -------
    A figure, a panel for each dimension. (Signs and order of dimensions have no meaning.)

    Raises
    ------
    ArgumentError
        There is no such dimension.
    """
    table = asked(model, "get_loadings")
    table = table - table.mean()
    names = _chosen("latent dimension", dims, list(table), 6)
    figure, all_axes = panels(len(names), columns=3)
    for axes, name in zip(all_axes, names, strict=True):
        far = table[name].loc[table[name].abs().nlargest(n).index].sort_values(ascending=False)
        bars(axes, list(far.index), far.to_numpy(), name)
    figure.supxlabel("loading, less the average gene's (log scale)", fontsize=10)
    return figure


def _chosen(what: str, asked_for: Sequence[str] | None, known: list[str], most: int | None = None) -> list[str]:
    for name in asked_for or []:
        if name not in known:
            raise ArgumentError(unknown(what, name, known))
    return list(asked_for or known[:most])


def proteins(measured: pd.DataFrame, denoised: pd.DataFrame, probability: pd.DataFrame, *, n_cells: int = 2000) -> Figure:
    """Measured counts of each protein beside the model's, without background: background ends up at the bottom.

    Parameters
    ----------
    measured
        Cells x proteins: ``adata.obsm["protein_expression"]``.
    denoised, probability
        ``model.get_normalized_expression()[1]`` and ``model.get_protein_foreground_probability()``: their proteins are drawn, the
        colour is how probable it is that the cell has the protein.
    n_cells
        At most so many cells.

    Returns
    -------
    A figure, a panel for each protein.
    """
    from matplotlib.colors import LinearSegmentedColormap

    some = denoised.index[np.unique(np.linspace(0, len(denoised) - 1, min(n_cells, len(denoised))).astype(int))]
    figure, all_axes = panels(denoised.shape[1], 2.4, 2.2)
    ramp = LinearSegmentedColormap.from_list("probability", [MUTED, SECOND])
    for axes, name in zip(all_axes, denoised, strict=True):
        x, y, p = (table.loc[some, name].to_numpy() for table in (measured, denoised, probability))
        drawn = axes.scatter(np.log1p(x), np.log1p(y), c=p, s=4, linewidths=0, alpha=0.7, cmap=ramp, vmin=0, vmax=1)
        axes.axline((0, 0), slope=1, color=MUTED, linestyle="--", linewidth=1, zorder=0)
        axes.set_title(str(name), loc="left", fontsize=9)
        ticks = np.array([0, 10, 100, 1000, 10000])
        axes.set_xticks(np.log1p(ticks), ticks, fontsize=7)
        axes.set_yticks(np.log1p(ticks), ticks, fontsize=7)
        axes.set(xlim=(-0.2, np.log1p(x.max()) * 1.05 + 0.1), ylim=(-0.2, np.log1p(y.max()) * 1.05 + 0.1))
    figure.supxlabel("measured count", fontsize=10)
    figure.supylabel("count without background", fontsize=10)
    figure.colorbar(drawn, ax=all_axes, label="probability that it is there", shrink=0.7)
    return figure
