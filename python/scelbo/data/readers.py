"""Data sets that need a step before they are counts."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
from anndata import AnnData, read_h5ad
from scipy import sparse

from scelbo.data.disk import read_slice
from scelbo.data.matrix import matrix_of
from scelbo.data.tenx import PEAKS
from scelbo.errors import ArgumentError, DataError


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


def reads_to_fragments(adata: AnnData, layer: str | None = None, fragment_layer: str = "fragments") -> None:
    r"""Fragments from scATAC counts of reads (cut sites), in a layer of their own.

    A fragment has two ends, and both are counted where both lie in the peak: even counts dominate. An odd one has an end outside.
    With :math:`r_{cp}` reads, the fragments are :math:`x_{cp} = \lceil r_{cp} / 2 \rceil`.

    Parameters
    ----------
    adata
        Cells x peaks. Where ``var["modality"]`` (or scanpy's ``var["feature_types"]``) tells genes and ``"Peaks"`` apart, genes keep
        their counts.
    layer
        Where the reads stand; None is ``X``. They stay as they are.
    fragment_layer
        The layer to write.

    Raises
    ------
    DataError
        The values are no counts, or there are more ones than twos: such counts are fragments already, or binary.

    References
    ----------
    Martens et al., Nature Methods 21:28 (2023), https://doi.org/10.1038/s41592-023-02112-6

    Examples
    --------
    >>> adata = AnnData(np.array([[2.0, 0.0, 4.0], [2.0, 3.0, 0.0]], "float32"))
    >>> reads_to_fragments(adata)
    >>> adata.layers["fragments"].toarray()
    array([[1., 0., 2.],
           [1., 2., 0.]], dtype=float32)
    """
    if fragment_layer == layer:
        raise ArgumentError(f"fragment_layer={fragment_layer!r} is where the reads stand.", "Name another layer for the fragments.")
    reads = matrix_of(adata, layer)
    fragments = read_slice(reads).astype(np.float32)
    fragments.sum_duplicates()
    of_peaks = _peaks(adata)[fragments.indices]
    values = fragments.data[of_peaks]
    if (values < 0).any() or (values != np.rint(values)).any():
        raise DataError("Counts of reads are whole numbers from zero, and these are not.", "Name the layer that holds them: layer=...")
    ones, twos = int((values == 1).sum()), int((values == 2).sum())
    if ones > twos:
        raise DataError(
            f"These look like fragments already: {ones:,} values are 1 and only {twos:,} are 2, where reads come in pairs.",
            "Use them as they are; if they were made binary, go back to the counts.",
        )
    fragments.data[of_peaks] = np.ceil(values / 2)
    adata.layers[fragment_layer] = fragments


def _peaks(adata: AnnData) -> np.ndarray:
    """Which features are peaks: all, where var does not tell."""
    for column in ("modality", "feature_types"):
        if column in adata.var:
            peaks = (adata.var[column] == PEAKS).to_numpy()
            if not peaks.any():
                raise DataError(f"var[{column!r}] has no {PEAKS!r}.", f"Write {PEAKS!r} there for every peak, or leave that column out.")
            return peaks
    return np.ones(adata.n_vars, dtype=bool)


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
