"""Cells: where they lie, what they are, where there are more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.errors import ArgumentError, SetupError, unknown
from scelbo.pl.style import FAINT, FIRST, MUTED, SECOND, asked, colours_of, name_places, one_panel, panels, which_side

if TYPE_CHECKING:
    from matplotlib.figure import Figure

APART = 0.7
"""Groups lie apart where what their means leave unexplained of the places is a smaller share."""


def latent(
    data: Any,
    color: str | pd.Series | np.ndarray | None = None,
    *,
    basis: str | tuple[int, int] | None = None,
    label: bool | None = None,
    size: float | None = None,
) -> Figure:
    """Cells in latent space, by group or by a number.

    Parameters
    ----------
    data
        An AnnData, or a trained model.
    color
        A column of ``obs``, or one value a cell; default of a model: its labels or its batch. Missing ones are grey, below all else.
    basis
        Where cells are: by default a UMAP in ``obsm``, else a t-SNE, else (of a model) the first two principal components of the latent
        representation; another key of ``obsm``; or two latent dimensions of a model, from 0.
    label
        Names of groups at their medians, or a legend; by default names where groups lie apart.
    size
        Of points, in points squared; by default by how many there are.

    Returns
    -------
    A figure. Points are drawn in random order, so that no group hides the next.

    Raises
    ------
    SetupError
        There are no such places.
    ArgumentError
        There is no such column.

    Examples
    --------
    >>> from scelbo import pl
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(100, 20)
    >>> adata.obsm["X_umap"] = adata.X[:, :2].toarray()
    >>> pl.latent(adata, "cell_type").axes[0].get_xlabel()
    'umap 1'
    """
    model = None if isinstance(data, AnnData) else data
    adata: AnnData = data if model is None else model.adata
    if color is None and model is not None:
        color = next((v for k in ("labels_key", "batch_key") if isinstance(v := model.setup.keys.get(k), str)), None)
    places, names = _places(adata, model, basis)
    figure, axes = one_panel(6, 4.6)
    title = color if isinstance(color, str) else str(getattr(color, "name", None) or "")
    draw_cells(figure, axes, places, names, _values(adata, color), title, label, size)
    return figure


def _places(adata: AnnData, model: Any, basis: str | tuple[int, int] | None) -> tuple[np.ndarray, list[str]]:
    known = [key for kind in ("umap", "tsne") for key in adata.obsm if kind in key.lower()]
    if basis is None and known:
        basis = known[0]
    if isinstance(basis, str):
        if basis not in adata.obsm:
            raise SetupError(unknown("adata.obsm key", basis, adata.obsm), "It is where the places of cells are: basis=...")
        return np.asarray(adata.obsm[basis], float)[:, :2], [f"{basis.removeprefix('X_')} {i}" for i in (1, 2)]
    if model is None:
        hint = 'Give the model instead; or make one: scanpy.pp.neighbors(adata, use_rep="X_scVI") and scanpy.tl.umap(adata).'
        raise SetupError("adata.obsm holds no UMAP.", hint)
    z = np.asarray(model.get_latent_representation(), float)
    if basis is not None:
        return z[:, list(basis)], [f"latent dimension {k}" for k in basis]
    return principal_two(z), [f"latent space, component {i}" for i in (1, 2)]


def principal_two(z: np.ndarray) -> np.ndarray:
    """The first two principal components, cells x 2."""
    u, s, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    at = u[:, :2] * s[:2]
    return np.pad(at, ((0, 0), (0, 2 - at.shape[1])))


def _values(adata: AnnData, color: Any) -> pd.Series | None:
    if color is None:
        return None
    if isinstance(color, str):
        if color not in adata.obs:
            raise ArgumentError(unknown("column of obs", color, adata.obs.columns))
        color = adata.obs[color]
    if len(color) != adata.n_obs:
        raise ArgumentError(f"color has {len(color):,} values for {adata.n_obs:,} cells.")
    return pd.Series(np.asarray(color) if not isinstance(color, pd.Series) else color)


def draw_cells(
    figure: Any,
    axes: Any,
    places: np.ndarray,
    names: list[str],
    values: pd.Series | None,
    title: str = "",
    label: bool | None = None,
    size: float | None = None,
) -> None:
    """Points on these axes, coloured by groups or numbers."""
    order = np.random.default_rng(0).permutation(len(places))  # so that no group is painted over by the next
    how = {"s": size or float(np.clip(10000 / len(places), 1, 16)), "linewidths": 0, "alpha": 0.8}
    axes.set(xlabel=names[0], ylabel=names[1], xticks=[], yticks=[], box_aspect=1)
    if values is None:
        axes.scatter(*places[order].T, color=FIRST, **how)
    elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        x = values.to_numpy(float)
        both = np.nanmin(x) < 0 < np.nanmax(x)
        limit = float(np.nanmax(np.abs(x)))
        scale: dict[str, Any] = {"cmap": which_side(), "vmin": -limit, "vmax": limit} if both else {"cmap": "viridis"}
        axes.scatter(*places[np.isnan(x)].T, color=FAINT, **how)
        seen = order[~np.isnan(x[order])]
        figure.colorbar(axes.scatter(*places[seen].T, c=x[seen], **scale, **how), ax=axes, label=title, shrink=0.7)
    else:
        _draw_groups(axes, places, order, pd.Categorical(values.astype("category")).remove_unused_categories(), title, label, how)


def _draw_groups(
    axes: Any, places: np.ndarray, order: np.ndarray, groups: pd.Categorical, title: str, label: bool | None, how: dict[str, Any]
) -> None:
    colours = colours_of(list(groups.categories))
    axes.scatter(*places[groups.codes < 0].T, color=FAINT, **how)
    seen = order[groups.codes[order] >= 0]
    axes.scatter(*places[seen].T, color=[list(colours.values())[k] for k in groups.codes[seen]], **how)
    if label is None:
        label = _lie_apart(places[seen], groups.codes[seen])
    if label:
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        medians = pd.DataFrame(places[seen]).groupby(groups.codes[seen]).median().to_numpy()
        name_places(axes, medians[:, 0], medians[:, 1], list(colours))
        return
    for name, colour in colours.items():
        axes.scatter([], [], color=colour, label=name, s=25)
    axes.legend(title=title or None, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(colours) // 20)


def _lie_apart(places: np.ndarray, codes: np.ndarray) -> bool:
    table = pd.DataFrame(places)
    left = table - table.groupby(codes).transform("mean")
    return float((left**2).to_numpy().sum()) < APART * float(((table - table.mean()) ** 2).to_numpy().sum())


def abundance(table: pd.DataFrame, groups: pd.Series | np.ndarray) -> Figure:
    """Where the case has more cells, by group.

    For a map of the cells: ``latent(adata, table["log_fold_change"])``.

    Parameters
    ----------
    table
        What ``differential_abundance()`` returned, with a contrast.
    groups
        One value a row: ``adata.obs["cell_type"]``.

    Returns
    -------
    A figure: for each group the log2 fold change of its cells' neighbourhoods, in colour those found at the stated rate.

    Raises
    ------
    ArgumentError
        There was no contrast, or ``groups`` has another length.
    """
    called = [name for name in table if str(name).startswith("is_da_fdr_")]
    if not called or "log_fold_change" not in table:
        raise ArgumentError("These are no tests of abundance.", "Use model.differential_abundance(sample_key=..., contrast=...).")
    if len(groups) != len(table):
        raise ArgumentError(f"groups has {len(groups):,} values for {len(table):,} cells.")
    change, found = table["log_fold_change"].to_numpy(), table[called[0]].to_numpy(bool)
    kinds = pd.Series(np.asarray(groups).astype(str))
    medians = pd.Series(change).groupby(kinds).median().sort_values()
    rate = f"{float(called[0].removeprefix('is_da_fdr_')):.0%}"
    figure, axes = one_panel(6, 1.6 + 0.35 * len(medians))
    at = medians.index.get_indexer(kinds) + np.random.default_rng(0).uniform(-0.35, 0.35, len(table))
    axes.axvline(0, color=MUTED, linewidth=1, zorder=0)
    for name, some, colour in (
        ("not found", ~found, MUTED),
        ("fewer in the case", found & (change < 0), FIRST),
        ("more in the case", found & (change > 0), SECOND),
    ):
        axes.scatter(change[some], at[some], s=5, linewidths=0, alpha=0.7, color=colour)
        axes.scatter([], [], s=25, color=colour, label=name)
    axes.set_yticks(np.arange(len(medians)), medians.index)
    axes.set(xlabel="log2 fold change of abundance (case / control)")
    title = f"at a false discovery rate of {rate}"
    figure.legend(frameon=False, loc="outside upper left", ncols=3, title=title, alignment="left", fontsize=8)
    return figure


def doublets(table: Any, *, bins: int = 40) -> Figure:
    """How doublets stand out: cells by their probability of being one, a panel for each lane.

    Parameters
    ----------
    table
        What ``get_doublets()`` returned, or a trained SOLO model.
    bins
        Of the histogram.

    Returns
    -------
    A figure. The axis of cells is a root's, so that few show beside many.
    """
    table = asked(table, "get_doublets")
    lanes = list(table.groupby("lane", observed=True, sort=False))
    figure, all_axes = panels(len(lanes), 3.6 if len(lanes) > 1 else 5.5, 3)
    edges = np.linspace(0, 1, bins + 1)
    for axes, (lane, of) in zip(all_axes, lanes, strict=True):
        singlet, doublet = (np.histogram(of["probability"][of["call"] == call], edges)[0] for call in (False, True))
        axes.stairs(singlet, edges, fill=True, color=MUTED, label="singlet")
        axes.stairs(singlet + doublet, edges, baseline=singlet, fill=True, color=SECOND, label="doublet")
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set_ylim(0, 1.1 * (singlet + doublet).max())
        told = f"{of['call'].mean():.1%} of {len(of):,} cells called"
        axes.set_title(told if len(lanes) == 1 else f"{lane}: {told}", loc="left", fontsize=9)
        axes.set(xlabel="probability of a doublet", ylabel="cells")
    all_axes[0].legend(frameon=False, title="called a", fontsize=8)
    return figure
