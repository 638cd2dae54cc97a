"""Cell types on the tissue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.errors import ArgumentError, SetupError, unknown
from scelbo.pl.style import FAINT, colours_of, empty_figure, of_shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEN = 0.005
"""Share of a pie below which a slice is not drawn."""


def proportions(
    adata: AnnData,
    table: pd.DataFrame | str = "proportions",
    *,
    types: str | Sequence[str] | None = None,
    kind: Literal["panels", "pie"] = "panels",
    basis: str = "spatial",
    size: float = 0.9,
    columns: int = 4,
) -> Figure:
    """Proportions of cell types on the tissue.

    Parameters
    ----------
    adata
        Spots.
    table
        What ``get_proportions()`` returned, a data frame spots x types; or where ``adata.obsm`` has it.
    types
        Which to draw; default: all. In pies the others are one grey slice.
    kind
        ``"panels"``: a map for each type, coloured by its share; or ``"pie"``: one map, a pie in each spot.
    basis
        Where ``adata.obsm`` has the places. (The second goes down where ``adata.uns["spatial"]`` holds images, else up.)
    size
        Diameter of a spot: 1 is the distance between neighbours (where spots are scattered, somewhat more).
    columns
        Panels in a row at most.

    Returns
    -------
    A figure: ``figure.savefig("proportions.png")``.

    Raises
    ------
    SetupError
        The table, or the places, are not in ``adata.obsm``, or the table has other spots.
    ArgumentError
        There is no such type or kind.
    BackendError
        matplotlib is not installed.

    Examples
    --------
    >>> from scelbo import pl
    >>> from scelbo.data.simulate import spots
    >>> _, tissue = spots(n_spots=60, n_cells=100, n_genes=50)
    >>> figure = pl.proportions(tissue)
    >>> [axes.get_title() for axes in figure.axes[:4]]
    ['type0', 'type1', 'type2', 'type3']
    """
    shares, places = _read(adata, table, basis)
    known = list(shares.columns)
    chosen = known if types is None else [types] if isinstance(types, str) else list(types)
    for t in chosen:
        if t not in known:
            raise ArgumentError(unknown("cell type", t, known))
    if kind not in ("panels", "pie"):
        raise ArgumentError(unknown("kind", kind, ("panels", "pie")))
    radius = size / 2 * _step(places)
    n = len(chosen) if kind == "panels" else 1
    width, height = min(n, columns), math.ceil(n / columns)
    figure = empty_figure(figsize=(3.2 * width + 1.2, 3 * height) if kind == "panels" else (7, 6))
    all_axes = np.atleast_1d(figure.subplots(height, width, squeeze=False)).ravel()
    if kind == "panels":
        _panels(figure, all_axes, shares[chosen], places, radius)
    else:
        _pies(all_axes[0], shares, chosen, places, radius)
    for axes in all_axes:
        axes.set(xlim=_limits(places[:, 0], radius), ylim=_limits(places[:, 1], radius), aspect="equal")
        axes.axis("off")
        if "spatial" in adata.uns:
            axes.invert_yaxis()
    return figure


def _read(adata: AnnData, table: pd.DataFrame | str, basis: str) -> tuple[pd.DataFrame, np.ndarray]:
    if isinstance(table, str):
        if table not in adata.obsm:
            hint = f'adata.obsm["{table}"] = model.get_proportions(); or give that table.'
            raise SetupError(unknown("adata.obsm key", table, adata.obsm), hint)
        table = adata.obsm[table]
    if basis not in adata.obsm:
        raise SetupError(unknown("adata.obsm key", basis, adata.obsm), "It is where the places of spots are: basis=...")
    absent = table.index.difference(adata.obs_names)
    if len(absent):
        raise SetupError(f"{len(absent):,} spots of the table are not in adata ({', '.join(map(str, absent[:3]))}).")
    at = adata.obs_names.get_indexer(table.index)
    return table, np.asarray(adata.obsm[basis], dtype=float)[at, :2]


def _step(places: np.ndarray) -> float:
    """The distance between neighbours, or two thirds of what it would be if spots were spread evenly."""
    from sklearn.neighbors import NearestNeighbors  # takes long

    aside = NearestNeighbors(n_neighbors=min(2, len(places))).fit(places).kneighbors(places)[0][:, -1]
    return max(float(np.median(aside)), float(np.prod(np.ptp(places, axis=0)) / len(places)) ** 0.5 / 1.5) or 1.0


def _limits(x: np.ndarray, radius: float) -> tuple[float, float]:
    return x.min() - 2 * radius, x.max() + 2 * radius


def _panels(figure: Any, all_axes: np.ndarray, shares: pd.DataFrame, places: np.ndarray, radius: float) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    for axes, (name, values) in zip(all_axes, shares.items(), strict=False):
        spots = PatchCollection([Circle((x, y), radius) for x, y in places], cmap=of_shares(), linewidth=0)
        spots.set_array(values.to_numpy())
        spots.set_clim(0, float(shares.max(axis=None)))
        axes.add_collection(spots)
        axes.set_title(str(name))
    figure.colorbar(spots, ax=list(all_axes), label="share", shrink=0.6)


def _pies(axes: Any, shares: pd.DataFrame, chosen: list[str], places: np.ndarray, radius: float) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Wedge

    slices = shares[chosen].copy()
    colours: dict[str, Any] = colours_of(chosen)
    if len(chosen) < shares.shape[1]:
        slices["others"], colours["others"] = (1 - slices.sum(axis=1)).clip(lower=0), FAINT
    until = slices.div(slices.sum(axis=1), axis=0).cumsum(axis=1).to_numpy()
    since = np.hstack([np.zeros((len(until), 1)), until[:, :-1]])
    for k, (name, colour) in enumerate(colours.items()):
        seen = np.flatnonzero(until[:, k] - since[:, k] > SEEN)  # from the top, clockwise
        wedges = [Wedge(places[i], radius, 90 - 360 * until[i, k], 90 - 360 * since[i, k]) for i in seen]
        axes.add_collection(PatchCollection(wedges, facecolor=colour, linewidth=0, label=name))
    axes.legend(handles=[Patch(color=c, label=n) for n, c in colours.items()], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
