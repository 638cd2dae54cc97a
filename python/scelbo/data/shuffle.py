"""A store whose cells lie in random order: then any cells that are neighbours in it are a random few."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from scelbo import settings
from scelbo.data.disk import SHUFFLED, VALUES, read_backed
from scelbo.data.matrix import row_blocks
from scelbo.errors import ArgumentError
from scelbo.whole import ForHDF5, whole


def prepare(source: str | Path | AnnData, out: str | Path, *, seed: int | None = None, progress: bool | None = None) -> AnnData:
    """Write the cells once more, in random order and sparse by row, so that training reads long runs of them and no order is left in them.

    In two passes over the matrix, neither of which holds more than some million values: rows go to the piece of the new order that they
    belong to, then each piece is put in order. It takes, for a while, the room of the matrix once more.

    Parameters
    ----------
    source
        An ``.h5ad`` file, a ``.zarr`` store, or an AnnData in memory or on disk. Dense matrices become sparse; ``raw`` is left out.
    out
        A new ``.zarr`` store.
    seed
        Of the order.
    progress
        Whether to show a bar.

    Returns
    -------
    The new store, as :func:`read_backed` opens it: the same cells by name, with all their metadata, ``X`` and layers on disk.

    Raises
    ------
    ArgumentError
        ``out`` exists, or has another ending.
    """
    to = Path(out)
    if to.suffix != ".zarr":
        raise ArgumentError(f"{str(out)!r} is no zarr store.", "End the name in .zarr.")
    if to.exists():
        raise ArgumentError(f"{str(out)!r} exists.", "Remove it, or give another name.")
    adata = source if isinstance(source, AnnData) else read_backed(source)
    order = np.random.default_rng(settings.fresh_seed(seed)).permutation(adata.n_obs)
    matrices = {"X": adata.X, **{f"layers/{name}": layer for name, layer in adata.layers.items()}}
    with whole(to) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what zarr and anndata will change one day
        import zarr  # takes half a second to import, and anndata brings it along

        store = zarr.open_group(new, mode="w")
        write_elem(store, "/", _without_matrices(adata, order))
        with settings.task("Shuffling", 2 * sum(matrix is not None for matrix in matrices.values()) * adata.n_obs, progress) as work:
            for name, matrix in matrices.items():
                if matrix is not None:
                    _shuffled(matrix, order, store, name, new.with_name("pieces.h5"), work)
    return read_backed(to)


def _without_matrices(adata: AnnData, order: np.ndarray) -> AnnData:
    """All else, in the new order."""
    parts = {name: dict(getattr(adata, name)) for name in ("uns", "obsm", "varm", "obsp", "varp")}
    return AnnData(obs=adata.obs.copy(), var=adata.var.copy(), **parts)[order].copy()


def _shuffled(matrix: Any, order: np.ndarray, store: Any, name: str, scratch: Path, work: Any) -> None:
    """Write ``matrix[order]`` as ``store[name]``."""
    stored = matrix.group["indices"].shape[0] if hasattr(matrix, "group") else getattr(matrix, "nnz", np.prod(matrix.shape))
    rows = int(np.clip(VALUES * len(order) / max(1, stored), 1, len(order)))  # in a piece
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    with ForHDF5(scratch, "w+") as disk, h5py.File(disk, "w") as pieces:
        for start, block in row_blocks(matrix):
            goes = place[start : start + block.shape[0]] // rows
            for piece in np.unique(goes):
                _append(pieces, str(piece), block[goes == piece])
            disk.require_written()
            work.step(block.shape[0])
        for piece, start in enumerate(range(0, len(order), rows)):
            arrived = sparse_dataset(pieces[str(piece)]).to_memory()  # by their old rows
            wanted = order[start : start + rows]
            _append(store, name, arrived[np.argsort(np.argsort(wanted))])
            work.step(len(wanted))
    store[name].attrs[SHUFFLED] = True


def _append(store: Any, name: str, rows: sparse.csr_matrix) -> None:
    if name in store:
        sparse_dataset(store[name]).append(rows)
        return
    rows.indptr = rows.indptr.astype(np.int64)  # more will come
    parent, _, own = name.rpartition("/")
    write_elem(store[parent] if parent else store, own, rows)
