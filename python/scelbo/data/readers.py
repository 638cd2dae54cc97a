"""Data sets that need a step before they are counts."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
from anndata import AnnData, read_h5ad
from scipy import sparse

from scelbo.errors import DataError


def counts_from_log(adata: AnnData, layer: str | None = None, tolerance: float = 0.01) -> AnnData:
    r"""Counts back from log-normalised values.

    Normalisation gave :math:`y_{cg} = \log(1 + s_c x_{cg})` with one size factor a cell. The smallest count of a cell is
    almost always 1, so :math:`s_c = \min_g (e^{y_{cg}} - 1)` over its non-zero values, and :math:`x = (e^y - 1) / s_c`.

    Parameters
    ----------
    adata
        Cells x genes, natural-log values of counts that were scaled by one factor a cell.
    layer
        Where the values stand; None is ``X``.
    tolerance
        How far from a whole number a value may land.

    Returns
    -------
    A new AnnData with whole counts in ``X`` and the same obs, var, obsm and uns; the share of values that landed within
    ``tolerance`` stands in ``uns["counts_from_log"]``.

    Raises
    ------
    DataError
        Fewer than 90 % of the values land on whole numbers: they were not made this way.
    """
    y = sparse.csr_matrix(adata.X if layer is None else adata.layers[layer], dtype=np.float64)
    y.eliminate_zeros()
    if y.nnz == 0 or y.data.min() < 0:
        raise DataError(
            "Log-normalised counts are zero or above.", "These values may be scaled (z-scores): their counts cannot be got back."
        )
    filled = np.flatnonzero(np.diff(y.indptr))
    values = np.expm1(y.data)
    smallest = np.ones(y.shape[0])
    smallest[filled] = np.minimum.reduceat(values, y.indptr[:-1][filled])
    x = values / np.repeat(smallest, np.diff(y.indptr))
    share = float((np.abs(x - np.rint(x)) <= tolerance).mean())
    if share < 0.9:
        raise DataError(
            f"Only {share:.0%} of the values land within {tolerance} of a whole count.",
            "They are not log1p values of counts scaled by one factor a cell.",
        )
    whole = sparse.csr_matrix((np.rint(x).astype(np.float32), y.indices, y.indptr), shape=y.shape)
    return AnnData(whole, obs=adata.obs.copy(), var=adata.var.copy(), obsm=dict(adata.obsm), uns={"counts_from_log": share})


def pbmc68k() -> AnnData:
    """700 peripheral blood cells x 765 genes with cell types (``obs["bulk_labels"]``): the counts of the set that scanpy ships.

    Zheng et al., Nature Communications 8:14049 (2017), reduced by the scanpy authors. Needs the package scanpy; no network.
    """
    scanpy = importlib.util.find_spec("scanpy")
    if scanpy is None or scanpy.origin is None:
        raise ModuleNotFoundError("pbmc68k() reads a data set that the package scanpy brings along: pip install scanpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is from an early version of the format
        raw = read_h5ad(Path(scanpy.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad").raw.to_adata()
    return counts_from_log(raw)
