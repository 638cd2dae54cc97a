"""Case against control inside every group of cells, replicate by replicate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.analysis.groups import Comparison, Design
from scelbo.errors import ArgumentError, unknown

LEAST = 3
"""A group is left out where either side has fewer cells."""


def contrast_design(
    adata: AnnData, groupby: str | None, groups: Sequence[str] | None, contrast: str | Sequence[str], replicates: str | None
) -> Design:
    """One comparison a group: the cells of the case against those of the control.

    Parameters
    ----------
    adata
        The cells.
    groupby
        Column of ``obs`` with the groups; None takes all cells as one.
    groups
        Only these.
    contrast
        A column of two levels (the second in order is the case), or (column, case, control).
    replicates
        Column of what was sampled (donors). Paired where a replicate has cells on both sides, else against the whole control.
    """
    column, case, control = contrast_levels(adata, contrast)
    condition = text_of(adata, column)
    group = text_of(adata, groupby) if groupby is not None else np.full(adata.n_obs, "all")
    unit = text_of(adata, replicates) if replicates is not None else np.full(adata.n_obs, "all")
    known = sorted(set(group) - {""})
    asked = known if groups is None else [str(g) for g in ([groups] if isinstance(groups, str) else groups)]
    for name in asked:
        if name not in known:
            raise ArgumentError(unknown(f"group of {groupby}", name, known))
    pools: list[np.ndarray] = []
    comparisons: list[Comparison] = []
    for name in asked:
        sides = []
        for level in (case, control):
            here = (group == name) & (condition == level) & (unit != "")
            sides.append({u: np.flatnonzero(here & (unit == u)) for u in sorted(set(unit[here]))})
        if min(sum(map(len, side.values())) for side in sides) < LEAST:
            continue
        numbers = [{u: len(pools) + i for i, u in enumerate(sides[0])}]
        numbers.append({u: len(pools) + len(sides[0]) + i for i, u in enumerate(sides[1])})
        pools += [*sides[0].values(), *sides[1].values()]
        all1, all2 = (tuple(n.values()) for n in numbers)
        pairs = tuple(((at,), (numbers[1][u],) if u in numbers[1] else all2) for u, at in numbers[0].items())
        comparisons.append(Comparison(case, control, all1, all2, within=name, replicates=pairs if replicates is not None else ()))
    if not comparisons:
        raise ArgumentError(f"No group of {groupby!r} has {LEAST} cells of both {case!r} and {control!r} in {column!r}.")
    return Design(pools, comparisons, named=True)


def shuffled(
    adata: AnnData, groupby: str | None, contrast: str | Sequence[str], replicates: str | None, rng: np.random.Generator
) -> AnnData:
    """Cells whose case and control were exchanged at random inside each group (and replicate): nothing differs any more."""
    column, case, control = contrast_levels(adata, contrast)
    strata = [c for c in (groupby, replicates) if c is not None]
    labels = adata.obs[column].astype(str).to_numpy().copy()
    two = np.isin(labels, [case, control])
    key = adata.obs[strata].astype(str).agg("|".join, axis=1).to_numpy() if strata else np.full(adata.n_obs, "")
    for stratum in set(key):
        rows = np.flatnonzero((key == stratum) & two)
        labels[rows] = rng.permutation(labels[rows])
    return AnnData(obs=adata.obs.assign(**{column: pd.Categorical(labels)}))


def contrast_levels(adata: AnnData, contrast: str | Sequence[str]) -> tuple[str, str, str]:
    """(column, case, control)."""
    column, *levels = [contrast] if isinstance(contrast, str) else [str(c) for c in contrast]
    if column not in adata.obs:
        raise ArgumentError(unknown("contrast column", column, adata.obs.columns))
    known = sorted(set(text_of(adata, column)) - {""})
    if isinstance(adata.obs[column].dtype, pd.CategoricalDtype):
        known = [str(c) for c in adata.obs[column].cat.categories if str(c) in known]
    if not levels and len(known) != 2:
        raise ArgumentError(
            f"contrast={column!r} has {len(known)} levels: {', '.join(known[:8])}.", "Name two: contrast=(column, case, control)."
        )
    if levels and len(levels) != 2:
        raise ArgumentError(f"contrast={contrast!r} is not allowed: it is a column, or (column, case, control).")
    case, control = levels or (known[1], known[0])
    for level in (case, control):
        if level not in known:
            raise ArgumentError(unknown(f"level of {column}", level, known))
    return column, case, control


def text_of(adata: AnnData, column: str) -> np.ndarray:
    """A column as text, empty where there is no value."""
    if column not in adata.obs:
        raise ArgumentError(unknown("obs column", column, adata.obs.columns))
    values = adata.obs[column]
    return np.where(values.isna(), "", values.astype(str))
