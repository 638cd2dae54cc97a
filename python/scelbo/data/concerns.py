"""A closer look than set-up takes: what does not stop a model, and yet often makes it a poor one."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import scipy
from anndata import AnnData

from scelbo.data.categories import columns_asked
from scelbo.data.disk import on_disk, read_slice
from scelbo.data.fields import Batch, Field
from scelbo.data.matrix import row_blocks
from scelbo.data.modalities import Data, held, obs_of
from scelbo.data.validate import Findings, examine, some
from scelbo.errors import ScelboError

SAME = 0.9
"""Cramer's V (or the share of a number's variance that lies between batches) from which two covariates say nearly the same."""
UNEVEN = 20
"""Times that the largest batch may be the smallest."""
LOW = 20
"""A cell with less than the median count divided by this says little."""
MANY_GENES, REGION = 10_000, re.compile(r"\w+[:_-]\d+[-_]\d+$")
LOOKED_AT = 1000
"""Cells that tell what kind of values a matrix holds."""


def examine_closely(adata: Data, cells_type: type[Batch], keys: dict[str, Any], allow_non_counts: bool) -> Findings:
    """What :func:`~scelbo.data.validate.examine` finds, and further concerns."""
    found = examine(adata, cells_type, keys, allow_non_counts)
    if 0 in adata.shape:
        return found
    columns, obs = {}, obs_of(adata, keys)
    for name, declared in cells_type.fields().items():
        if declared.of_features:
            if not declared.of:
                _matrix(adata, declared, keys, found)
        else:
            asked = [c for c in columns_asked(keys, declared) if c in obs]
            columns[name] = {f"{declared.argument}: adata.obs[{c!r}]": obs[c] for c in asked}
    for where, batch in columns.pop("batch", {}).items():
        _sizes(batch.dropna().astype(str), where, found)
        for name, others in columns.items():
            for other, column in others.items():
                if name in ("numbers", "size"):
                    _number_of_batch(column, other, batch, found)
                else:
                    _category_of_batch(column, other, batch, found, label=name == "label")
    for where, column in columns.get("extra", {}).items():
        if column.nunique() == 1:
            found.concern(f"{where}: one category only, so it explains nothing", "Leave it out.")
    return found


# ---------------------------------------------------------------------- the matrix
def _matrix(adata: Data, declared: Field, keys: dict[str, Any], found: Findings) -> None:
    try:
        there = held(adata, declared, keys)
    except ScelboError:
        return  # which is a problem already
    if there is None:
        return
    matrix, where, names = there.matrix, there.where, there.names
    if isinstance(adata, AnnData) and declared.kind == "counts" and keys.get(declared.argument) is None and _looks_logged(matrix):
        _where_counts_are(adata, declared.argument, found)
    if len(names) > MANY_GENES:
        fix = "2,000 to 5,000 highly variable genes train faster, often better: scanpy.pp.highly_variable_genes(flavor='seurat_v3')."
        if REGION.match(names[0]):
            fix = f"Regions seen in few cells say little: scanpy.pp.filter_genes(adata, min_cells={math.ceil(0.05 * adata.n_obs)}) (5 %)."
        found.concern(f"{where}: {len(names):,} features", fix)
    size, total = [], np.zeros(len(names))
    for _, rows in row_blocks(matrix):
        block = rows if there.columns is None else rows[:, there.columns]
        size.append(np.asarray(block.sum(1)).ravel())
        total += np.asarray(abs(block).sum(0)).ravel()
    never = names[total == 0]
    if len(never):
        what = f"{where}: {len(never):,} features have no count in any cell, e.g. {some(never)}"
        found.concern(what, "They only cost time: scanpy.pp.filter_genes(adata, min_counts=1).")
    sizes = np.concatenate(size)
    middle = np.median(sizes)
    low = adata.obs_names[(sizes > 0) & (sizes < middle / LOW)]
    if found.whole and len(low):
        what = f"{where}: {len(low):,} cells have very few counts (the median is {middle:,.0f})"
        found.concern(f"{what}, e.g. {some(low)}", "They hardly say what they are: scanpy.pp.filter_cells(adata, min_counts=...).")


def _where_counts_are(adata: AnnData, argument: str, found: Findings) -> None:
    """Point to the counts that stand elsewhere."""
    layers = [f"layers[{name!r}]" for name, values in adata.layers.items() if _holds_counts(values)]
    if layers:
        call = f"setup_anndata(adata, {argument}={layers[0][7:-1]})"
        found.concern(f"adata.X looks log-normalised, and adata.{layers[0]} holds counts", f"Call {call}.")
    elif adata.raw is not None and not on_disk(adata.X) and _holds_counts(adata.raw.X):
        call = "adata.layers['counts'] = adata.raw[:, adata.var_names].X"
        found.concern("adata.X looks log-normalised, and adata.raw holds counts", f"Set {call}, and {argument}='counts'.")


def _some_values(matrix: Any) -> np.ndarray:
    return read_slice(matrix, slice(LOOKED_AT)).data


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.floor(values)).all())


def _looks_logged(matrix: Any) -> bool:
    values = _some_values(matrix)
    return bool(len(values)) and not _whole(values) and values.min() >= 0 and values.max() < 20


def _holds_counts(matrix: Any) -> bool:
    values = _some_values(matrix)
    return bool(len(values)) and _whole(values) and values.min() >= 0


# ---------------------------------------------------------------------- covariates
def _sizes(batch: pd.Series, where: str, found: Findings) -> None:
    sizes = batch.value_counts()
    if len(sizes) < 2:
        found.concern(f"{where}: one category only, so there is nothing to correct", "Leave it out.")
    elif sizes.iloc[0] > UNEVEN * sizes.iloc[-1]:
        what = f"{where}: very uneven, from {sizes.iloc[-1]:,} cells in {sizes.index[-1]} to {sizes.iloc[0]:,} in {sizes.index[0]}"
        found.concern(what, "The large ones shape the latent space: look whether the small ones mix, or merge those of one experiment.")


def _category_of_batch(column: pd.Series, where: str, batch: pd.Series, found: Findings, label: bool) -> None:
    """Say where a category and the batch cannot be told apart: one nested in the other, or nearly the same."""
    table = pd.crosstab(column, batch).to_numpy()
    if min(table.shape) < 2:
        return
    v = float(scipy.stats.contingency.association(table, method="cramer"))
    inside, around = (((table > 0).sum(axis) == 1).all() for axis in (1, 0))
    if label:
        if inside or v > SAME:
            what = f"{where}: confounded with the batch (Cramer's V {v:.2f}), so correcting the batch takes the labels' differences away"
            found.concern(what, "Choose a batch_key that holds several labels in each batch.")
    elif inside and around:
        found.concern(f"{where}: the same division of the cells as the batch (Cramer's V {v:.2f})", "Keep one of the two.")
    elif inside:
        what = f"{where}: nested, each category occurs in one batch only, so its effect and the batch's cannot be told apart"
        found.concern(what, "Keep the one to correct for; the finer one takes the coarser away with it.")
    elif around:
        what = f"{where}: each batch lies in one of its categories only, so it explains nothing that the batch does not"
        found.concern(what, "Leave it out; it also cannot be asked about apart from the batch.")
    elif v > SAME:
        found.concern(f"{where}: nearly the same as the batch (Cramer's V {v:.2f})", "Their effects are hardly told apart: keep one.")


def _number_of_batch(column: pd.Series, where: str, batch: pd.Series, found: Findings) -> None:
    if not pd.api.types.is_numeric_dtype(column) or batch.nunique() < 2:
        return
    values = pd.Series(column.to_numpy(dtype=float, na_value=np.nan))
    within = values - values.groupby(batch.astype(str).to_numpy()).transform("mean")
    share = 1 - within.var() / values.var() if values.var() > 0 else 0.0
    if share > SAME:
        what = f"{where}: confounded with the batch, which accounts for {share:.0%} of its variance"
        found.concern(what, "Its effect and the batch's are hardly told apart: keep one.")
