"""One pass over what a model is asked to read, which lists every problem at once before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.data.fields import Batch, Field
from scelbo.data.matrix import matrix_of, row_blocks
from scelbo.errors import DataError, DataWarning, ScelboError, unknown

FEW = 3
"""A category with fewer cells than this cannot tell its effect from noise."""


@dataclass
class Findings:
    """What stops a model (``problems``), what deserves a look (``concerns``), and whether all values are counts."""

    problems: list[str] = field(default_factory=list)
    concerns: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    whole: bool = True

    def close(self) -> None:
        """Raise where there are problems, warn where there are concerns."""
        if self.problems:
            one = len(self.problems) == 1
            head = (
                "The data cannot be used as they are:" if one else f"The data cannot be used as they are ({len(self.problems)} problems):"
            )
            raise DataError(head, " ".join(dict.fromkeys(self.hints)), self.problems + self.concerns)
        if self.concerns:
            warnings.warn("Look at this before training:\n" + "\n".join(f"  - {c}" for c in self.concerns), DataWarning, stacklevel=5)


def columns_asked(keys: dict[str, Any], declared: Field) -> list[str]:
    """The obs columns that a field reads: none, one, or several."""
    key = keys.get(declared.argument)
    return [] if key is None else [key] if isinstance(key, str) else list(key)


def check(adata: AnnData, cells_type: type[Batch], keys: dict[str, Any], allow_non_counts: bool) -> Findings:
    """Look at every field of ``cells_type``; raise one :class:`~scelbo.errors.DataError` with all that is wrong."""
    found = Findings()
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        found.problems.append(f"{len(twice)} feature names occur more than once, e.g. {_some(twice)}")
        found.hints.append("Call adata.var_names_make_unique().")
    if 0 in adata.shape:
        found.problems.append(f"adata has {adata.n_obs} cells and {adata.n_vars} features")
    for declared in cells_type.fields().values():
        if declared.kind == "counts":
            _counts(adata, keys.get(declared.argument), found, allow_non_counts)
            continue
        for column in columns_asked(keys, declared):
            where = f"{declared.argument}: adata.obs[{column!r}]"
            if column not in adata.obs:
                found.problems.append(f"{declared.argument}: " + unknown("obs column", column, adata.obs.columns))
            elif declared.kind in ("category", "categories"):
                _category(adata.obs[column], where, found)
            else:
                _numbers(adata.obs[column], where, found, positive=declared.kind == "number")
    found.close()
    return found


def _counts(adata: AnnData, layer: str | None, found: Findings, allow_non_counts: bool) -> None:
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    try:
        matrix = matrix_of(adata, layer)
    except ScelboError as error:
        found.problems.append(str(error))
        return
    names, bad, empty = adata.obs_names, {"NaN or infinite": 0, "negative": 0, "not a whole number": 0}, []
    for start, block in row_blocks(matrix):
        values = block.data
        finite = np.isfinite(values)
        bad["NaN or infinite"] += int((~finite).sum())
        bad["negative"] += int((values < 0).sum())
        bad["not a whole number"] += int((values[finite] != np.floor(values[finite])).sum())
        empty += [names[start + i] for i in np.flatnonzero(np.asarray(abs(block).sum(1)).ravel() == 0)]
    if allow_non_counts:
        found.whole = not (bad.pop("negative") + bad.pop("not a whole number"))
    for what, n in bad.items():
        if n:
            found.problems.append(f"{where}: {n:,} stored values are {what}")
            found.hints.append(_advice(adata, layer))
    if empty:
        found.problems.append(f"{where}: {len(empty):,} cells have no counts, e.g. {_some(empty)}")
        found.hints.append("Remove empty cells: scanpy.pp.filter_cells(adata, min_counts=1).")


def _advice(adata: AnnData, layer: str | None) -> str:
    others = [k for k in adata.layers if k != layer]
    point = f"Other layers: {', '.join(others)}." if others else "scelbo.data.counts_from_log gets counts back from log-normalised values."
    return (
        f"Models of counts need raw counts: name their layer, setup_anndata(adata, layer=...). {point} "
        "For values that are not counts: allow_non_counts=True and gene_likelihood='normal'."
    )


def _category(column: pd.Series, where: str, found: Findings) -> None:
    missing = int(column.isna().sum())
    if missing:
        found.problems.append(f"{where}: {missing:,} cells have no value (NaN)")
        found.hints.append("Give cells without a value a category of their own, or remove them.")
    sizes = column.dropna().astype(str).value_counts()
    few = sizes[sizes < FEW]
    if len(few):
        found.concerns.append(f"{where}: fewer than {FEW} cells in {_some(f'{k} ({n})' for k, n in few.items())}")


def _numbers(column: pd.Series, where: str, found: Findings, positive: bool) -> None:
    if not pd.api.types.is_numeric_dtype(column):
        found.problems.append(f"{where}: numbers are needed, it holds {column.dtype}")
        return
    values = column.to_numpy(dtype=float, na_value=np.nan)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        found.problems.append(f"{where}: {wrong:,} values are NaN or infinite")
    elif positive and (values <= 0).any():
        found.problems.append(f"{where}: {int((values <= 0).sum()):,} size factors are not above zero")
    elif not positive and values.std() == 0:
        found.concerns.append(f"{where}: the same value in all cells, so it explains nothing")
    elif not positive and np.abs(values).max() > 100:
        found.concerns.append(f"{where}: values up to {np.abs(values).max():.4g}; scale it (mean 0, sd 1) or its effect learns badly")


def _some(names: Any) -> str:
    listed: Iterator[Any] = iter(names)
    shown = [str(n) for _, n in zip(range(3), listed, strict=False)]
    return ", ".join(shown) + (", ..." if next(listed, None) is not None else "")
