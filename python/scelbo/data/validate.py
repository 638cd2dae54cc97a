"""One pass over what a model is asked to read, which finds every problem at once before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scelbo.data.categories import columns_asked, known, named
from scelbo.data.counts import as_csr
from scelbo.data.disk import by_column, on_disk
from scelbo.data.fields import Batch
from scelbo.data.matrix import row_blocks
from scelbo.data.modalities import MODALITIES, Data, Held, held, obs_of
from scelbo.errors import ArgumentError, DataError, DataWarning, ScelboError, SetupError, nearest, unknown

FEW = 3
"""A category with fewer cells than this cannot tell its effect from noise."""
MEANS = "Give means of counts over cells nearby, not of normalised or centred values."


class Finding(NamedTuple):
    """What was found, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}{'' if self.what.endswith('.') else '.'} {self.fix}"


@dataclass
class Findings:
    """What stops a model (``problems``), what deserves a look (``concerns``), and whether all values are counts."""

    problems: list[Finding] = field(default_factory=list)
    concerns: list[Finding] = field(default_factory=list)
    whole: bool = True

    def problem(self, what: str, fix: str) -> None:
        self.problems.append(Finding(what, fix))

    def concern(self, what: str, fix: str) -> None:
        self.concerns.append(Finding(what, fix))

    def close(self) -> None:
        """Raise where there are problems, warn where there are concerns."""
        if self.problems:
            one = len(self.problems) == 1
            head = (
                "The data cannot be used as they are:" if one else f"The data cannot be used as they are ({len(self.problems)} problems):"
            )
            fixes = dict.fromkeys(found.fix for found in self.problems)
            raise DataError(head, " ".join(fixes), [found.what for found in self.problems + self.concerns])
        if self.concerns:
            warnings.warn("Look at this before training:\n" + "\n".join(f"  - {c}" for c in self.concerns), DataWarning, stacklevel=4)


def examine(adata: Data, cells_type: type[Batch], keys: dict[str, Any], allow_non_counts: bool, query: bool = False) -> Findings:
    """Look at every field of ``cells_type``; raises only where the call itself is wrong, not where the data are.

    Of a query's cells no category that may be missing has to be known.
    """
    if not isinstance(adata, AnnData | MuData):
        raise SetupError(f"setup_anndata() needs an AnnData, not {type(adata).__name__}.")
    arguments = [MODALITIES, *(argument for f in cells_type.fields().values() for argument in f.arguments)]
    for key in keys:
        if key not in arguments:
            raise ArgumentError(unknown("setup_anndata() argument", key, arguments[1:]))
    for declared in cells_type.fields().values():
        if declared.required and declared.argument not in {**keys, **(keys.get(MODALITIES) or {})}:
            raise ArgumentError(f"{declared.argument} is needed.", f"Name it: setup_anndata(adata, {declared.argument}=...).")
        named(declared, keys)
    found, obs = Findings(), obs_of(adata, keys)
    if 0 in adata.shape:
        found.problem(f"adata has {adata.n_obs} cells and {adata.n_vars} features", "Look at the filter that came before.")
    matrices(adata, cells_type, keys, found, allow_non_counts, query)
    for declared in cells_type.fields().values():
        for column in () if declared.of_features else columns_asked(keys, declared):
            where = f"{declared.argument}: adata.obs[{column!r}]"
            if query and declared.missing:
                continue
            if column not in obs:
                what = f"{declared.argument}: " + unknown("obs column", column, obs.columns)
                found.problem(what, "Name a column of adata.obs.")
            elif declared.kind in ("category", "categories"):
                values = known(obs, column, declared, keys)
                _category(values, where, found, may_miss=declared.missing is not None)
                if declared.missing:
                    _missing(values, obs[column], keys.get(declared.missing), f"{where}, {declared.missing}", found)
                if declared.within and keys.get(declared.within) in obs:
                    _nested(values, obs[keys[declared.within]], where, found)
            else:
                _numbers(obs[column], where, found, positive=declared.kind == "number")
    return found


def matrices(adata: Data, cells_type: type[Batch], keys: dict[str, Any], found: Findings, allow_non_counts: bool, query: bool) -> None:
    """Look at every matrix; a query need not have those beside the counts."""
    lacking, declared_so = np.ones(adata.n_obs, bool), False
    for declared in (f for f in cells_type.fields().values() if f.of_features):
        try:
            there = held(adata, declared, keys)
        except ScelboError as error:
            if not (query and declared.kind == "matrix"):
                found.problem(error.args[0], error.hint or "Name a layer of adata.layers.")
            continue
        declared_so = declared_so or declared.may_lack
        if there is None:
            continue
        if not there.names.is_unique:
            twice = there.names[there.names.duplicated()].unique()
            fix = "Call adata.var_names_make_unique()." if declared.kind == "counts" else "Give each column a name of its own."
            found.problem(f"{len(twice)} feature names occur more than once, e.g. {some(twice)}", fix)
        empty = _values(adata, there, found, allow_non_counts and declared.kind == "counts", declared.of)
        lacking &= empty
        if empty.any() and declared.kind == "counts" and not (declared.may_lack or declared.of):
            what = f"{there.where}: {empty.sum():,} cells have no counts, e.g. {some(adata.obs_names[empty])}"
            found.problem(what, "Remove empty cells: scanpy.pp.filter_cells(adata, min_counts=1).")
    if declared_so and lacking.any() and not found.problems:
        what = f"{lacking.sum():,} cells have no counts in any modality, e.g. {some(adata.obs_names[lacking])}"
        found.problem(what, "Remove them: no model can say anything about them.")


def _values(adata: Data, there: Held, found: Findings, allow_non_counts: bool, of: str | None = None) -> np.ndarray:
    """Look at the values (means ``of`` others need not be whole); returns which cells have none."""
    where, bad = there.where, {"NaN or infinite": 0, "negative": 0, "not a whole number": 0}
    empty = np.zeros(adata.n_obs, bool)
    fix = by_column(there.matrix)
    if fix:
        found.problem(f"{where} is on disk by column (CSC): for each minibatch all of it would be read", fix)
        return empty
    try:
        matrix = there.matrix if on_disk(there.matrix) else as_csr(there.matrix)
        if matrix.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        found.problem(f"{where}: numbers are needed", "Give counts.")
        return empty
    for start, rows in row_blocks(matrix):
        block = rows if there.columns is None else rows[:, there.columns]
        values = block.data
        finite = np.isfinite(values)
        bad["NaN or infinite"] += int((~finite).sum())
        bad["negative"] += int((values < 0).sum())
        bad["not a whole number"] += 0 if of else int((values[finite] != np.floor(values[finite])).sum())
        empty[start : start + block.shape[0]] = np.asarray(abs(block).sum(1)).ravel() == 0
    found.whole = found.whole and not any(bad.values())
    for what, n in bad.items():
        if n and not (allow_non_counts and what != "NaN or infinite"):
            found.problem(f"{where}: {n:,} stored values are {what}", MEANS if of else _advice(adata, where))
    return empty


def _advice(adata: Data, where: str) -> str:
    others = [k for k in getattr(adata, "layers", ()) if repr(k) not in where]
    point = f"Other layers: {', '.join(others)}." if others else "scelbo.data.counts_from_log gets counts back from log-normalised values."
    return (
        f"Models of counts need raw counts: name their layer, setup_anndata(adata, layer=...). {point} "
        "For values that are not counts: allow_non_counts=True and gene_likelihood='normal'."
    )


def _missing(values: pd.Series, column: pd.Series, stands_for_unknown: Any, where: str, found: Findings) -> None:
    if values.isna().all():
        found.problem(f"{where}: no cell has a known category", "Give some cells theirs.")
    elif stands_for_unknown is not None and values.notna().equals(column.notna()):
        close = nearest(stands_for_unknown, column.unique())
        found.concern(f"{where}: no cell has the value {stands_for_unknown!r}", close or "All cells then count as known.")


def _nested(values: pd.Series, coarser: pd.Series, where: str, found: Findings) -> None:
    """No category may be found in several of the coarser ones."""
    within = coarser.astype(str).groupby(values.astype(str).where(values.notna())).unique()
    torn = [f"{category} (in {some(kinds)})" for category, kinds in within.items() if len(kinds) > 1]
    if torn:
        what = f"{where}: each belongs into one category of adata.obs[{coarser.name!r}], unlike {some(torn)}"
        found.problem(what, "Give such cells names of their own in each, or the value that stands for unknown (unlabeled_category).")


def _category(column: pd.Series, where: str, found: Findings, may_miss: bool = False) -> None:
    missing = int(column.isna().sum())
    if missing and not may_miss:
        what = f"{where}: {missing:,} cells have no value (NaN)"
        found.problem(what, "Give cells without a value a category of their own, or remove them.")
    sizes = column.dropna().astype(str).value_counts()
    few = sizes[sizes < FEW]
    if len(few):
        what = f"{where}: fewer than {FEW} cells in {some(f'{k} ({n})' for k, n in few.items())}"
        found.concern(what, "Merge such a category with one that is alike, or leave its cells out.")


def _numbers(column: pd.Series, where: str, found: Findings, positive: bool) -> None:
    if not pd.api.types.is_numeric_dtype(column):
        what = f"{where}: numbers are needed, it holds {column.dtype}"
        found.problem(what, "Give numbers; text belongs into categorical_covariate_keys.")
        return
    values = column.to_numpy(dtype=float, na_value=np.nan)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        found.problem(f"{where}: {wrong:,} values are NaN or infinite", "Fill in such numbers, or remove their cells.")
    elif positive and (values <= 0).any():
        what = f"{where}: {int((values <= 0).sum()):,} size factors are not above zero"
        found.problem(what, "A size factor is what a cell's expectation is multiplied with: give one above zero.")
    elif not positive and len(values) and values.std() == 0:
        found.concern(f"{where}: the same value in all cells, so it explains nothing", "Leave it out.")
    elif not positive and np.abs(values).max(initial=0) > 100:
        what = f"{where}: values up to {np.abs(values).max():.4g}, which lets its effect learn badly"
        found.concern(what, "Center it and scale it to a standard deviation of 1.")


def some(names: Any) -> str:
    """The first three, and whether there are more."""
    listed: Iterator[Any] = iter(names)
    shown = [str(n) for _, n in zip(range(3), listed, strict=False)]
    return ", ".join(shown) + (", ..." if next(listed, None) is not None else "")
