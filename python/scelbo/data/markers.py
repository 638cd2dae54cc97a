"""Which genes mark which types of cells: read from a table or a dict, and checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scelbo.errors import ArgumentError, DataWarning, nearest

NEITHER = ("other", "unassigned", "unknown")
"""Names (in any case) of a type without markers: for cells that are of none of the others."""
FEW = 0.2
"""The share of the genes that data may lack, which is then said; more are an error."""


def markers_of(table: Any) -> dict[str, list[str]]:
    """Type -> its genes, from a table of 0 and 1 (genes x types) or from a dict of lists; every mistake in it is an error."""
    hint = "Give a DataFrame of 0 and 1 with genes as rows and types as columns, or a dict: {'B': ['CD19', 'MS4A1'], ...}."
    if isinstance(table, pd.DataFrame):
        markers = _of_frame(table)
    elif isinstance(table, Mapping):
        markers = {
            str(kind): [genes] if isinstance(genes, str) else [str(g) for g in (genes if genes is not None else ())]
            for kind, genes in table.items()
        }
    else:
        raise ArgumentError(f"cell_type_markers is needed, and {type(table).__name__} cannot be read as markers.", hint)
    problems = [] if len(markers) > 1 else [f"{len(markers)} types: there is nothing to tell apart"]
    for kind, genes in markers.items():
        twice = sorted({g for g in genes if genes.count(g) > 1})
        if twice:
            problems.append(f"{kind}: {', '.join(twice[:5])} more than once")
        if not genes and kind.lower() not in NEITHER:
            problems.append(f"{kind}: no gene marks it (only a type called 'other' may have none)")
    if sum(not genes for genes in markers.values()) > 1:
        problems.append("more than one type without markers: nothing could tell them apart")
    if problems:
        raise ArgumentError("cell_type_markers cannot be used as it is:", hint, problems)
    return markers


def _of_frame(table: pd.DataFrame) -> dict[str, list[str]]:
    genes, kinds = table.index.astype(str), table.columns.astype(str)
    problems = [
        f"{what} more than once: {', '.join(names[names.duplicated()].unique()[:5])}"
        for what, names in (("genes", genes), ("types", kinds))
        if not names.is_unique
    ]
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    for row, column in np.argwhere((values != 0) & (values != 1))[:5]:
        problems.append(f"{table.iat[row, column]} for gene {genes[row]} and type {kinds[column]}: it must be 0 or 1")
    if problems:
        raise ArgumentError("cell_type_markers cannot be used as it is:", "Genes are rows, types are columns, values 0 or 1.", problems)
    return {kind: list(genes[values[:, column] == 1]) for column, kind in enumerate(kinds)}


def measured(markers: Mapping[str, list[str]], var_names: pd.Index) -> dict[str, list[str]]:
    """The markers that are among ``var_names``: a warning says which few are not; many, or all of a type, are an error."""
    there = set(var_names.astype(str))
    genes = {g for some in markers.values() for g in some}
    absent = sorted(genes - there)
    if not absent:
        return dict(markers)
    said = [f"{gene} is not in adata.var_names. {nearest(gene, there)}".strip() for gene in absent[:8]]
    said += [f"... ({len(absent)} of {len(genes)} genes)"] * (len(absent) > len(said))
    left = {kind: [g for g in some if g in there] for kind, some in markers.items()}
    bare = [kind for kind, some in left.items() if markers[kind] and not some]
    if len(absent) > FEW * len(genes) or bare:
        said += [f"none of the genes of {kind} is left" for kind in bare[:8]]
        turned = "Genes are rows of the table: give its transpose, table.T. " if there & set(markers) else ""
        hint = f"{turned}Genes are matched by name: take those out of cell_type_markers that were not measured, or correct their names."
        raise ArgumentError("adata lacks genes of cell_type_markers:", hint, said)
    warnings.warn("Markers that adata lacks are left out:\n" + "\n".join(f"  - {s}" for s in said), DataWarning, stacklevel=6)
    return left
