"""Which cells are compared with which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.data import index_of
from scelbo.errors import ArgumentError, unknown

REST = "Rest"


class Comparison(NamedTuple):
    """Two sides by name; a side is one pool of cells, or several taken together.

    ``within`` is the group that both sides are part of, and ``replicates`` the pairs of pools to compare one by one.
    """

    name1: str
    name2: str
    pools1: tuple[int, ...]
    pools2: tuple[int, ...]
    within: str = ""
    replicates: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()


class Design(NamedTuple):
    """Pools of cells, and the comparisons between them. With all groups against their rest, every cell is in one pool only."""

    pools: list[np.ndarray]
    comparisons: list[Comparison]
    named: bool


def design(
    adata: AnnData,
    groupby: str | None = None,
    group1: str | Sequence[str] | None = None,
    group2: str | None = None,
    idx1: Any = None,
    idx2: Any = None,
) -> Design:
    """Groups from a column of ``obs``, or two sets of cells (masks, row numbers, or queries on ``obs``)."""
    if idx1 is not None or idx2 is not None:
        if idx1 is None:
            raise ArgumentError("idx2 was given without idx1.")
        first = _cells(adata, idx1, "idx1")
        second = _cells(adata, idx2, "idx2") if idx2 is not None else np.setdiff1d(np.arange(adata.n_obs), first)
        if not len(second):
            raise ArgumentError("idx1 is all cells, so nothing is left to compare with.", "Give idx2.")
        return Design([first, second], [Comparison("idx1", "idx2" if idx2 is not None else REST, (0,), (1,))], named=False)
    if groupby is None:
        raise ArgumentError("Say which cells to compare.", "Give groupby='<obs column>', or idx1 (and idx2).")
    if groupby not in adata.obs:
        raise ArgumentError(unknown("groupby column", groupby, adata.obs.columns))
    column = adata.obs[groupby]
    names = [str(v) for v in pd.Categorical(column.astype(str).where(column.notna())).remove_unused_categories().categories]
    asked = names if group1 is None else [str(group1)] if np.ndim(group1) == 0 else [str(g) for g in group1]
    for name in [*asked, *([str(group2)] if group2 is not None else [])]:
        if name not in names:
            raise ArgumentError(unknown(f"group of {groupby}", name, names))
    if len(names) < 2:
        raise ArgumentError(f"groupby={groupby!r} has one group only ({names[0]!r}).")
    needed = names if group2 is None else list(dict.fromkeys([*asked, str(group2)]))
    text = column.astype(str).to_numpy()
    pools = [np.flatnonzero((text == name) & column.notna().to_numpy()) for name in needed]
    at = {name: i for i, name in enumerate(needed)}
    others = lambda name: tuple(i for n, i in at.items() if n != name) if group2 is None else (at[str(group2)],)  # noqa: E731
    label = REST if group2 is None else str(group2)
    return Design(pools, [Comparison(name, label, (at[name],), others(name)) for name in asked if name != label], named=True)


def _cells(adata: AnnData, idx: Any, name: str) -> np.ndarray:
    if isinstance(idx, str):
        idx = adata.obs_names.get_indexer(adata.obs.query(idx).index)
    if isinstance(idx, tuple) and len(idx) == 1:
        idx = idx[0]  # np.where gives a tuple
    index = index_of(adata.n_obs, idx)
    if not len(index):
        raise ArgumentError(f"{name} selects no cells.")
    return index
