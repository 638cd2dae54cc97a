"""Matrices that stay on disk: how rows are read from them, and how many at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from anndata import AnnData, read_h5ad
from anndata.abc import CSCDataset, CSRDataset
from anndata.io import read_zarr, sparse_dataset, write_elem
from scipy import sparse

from scelbo.data.counts import as_csr
from scelbo.errors import DataError
from scelbo.whole import ForHDF5

BLOCK = 32
"""Cells that stand together in the file and stay together until they are in memory."""
AT_ONCE, VALUES = 8192, 2**22
"""Cells that are read at once, and how many stored values they may have."""
SHUFFLED, LONG_BLOCK = "scelbo-shuffled", 1024
"""Attribute of matrices whose rows lie in random order (:func:`scelbo.data.prepare`); of these so many may stay together."""
GAP = 4
"""As many rows that nobody asked for are read along, rather than to begin anew behind them."""
LONG_SPAN = 256
"""Rows of a span from which on zarr reads it faster as a slice than among others."""
T = TypeVar("T")


def read_backed(path: str | Path) -> AnnData:
    """An ``.h5ad`` file or a ``.zarr`` store as an AnnData whose ``X`` and layers stay there; all else is read.

    (``anndata.read_h5ad(backed="r")`` reads the layers, and opens no zarr.) The counts that a model reads should be dense, or sparse by
    row (CSR): a minibatch is some rows.

    Parameters
    ----------
    path
        Where it is. It stays open as long as the AnnData is used. ``raw`` is left out.

    Examples
    --------
    >>> adata = read_backed("atlas.h5ad")  # doctest: +SKIP
    >>> SCVI.setup_anndata(adata, layer="counts", batch_key="donor")  # doctest: +SKIP
    """
    from anndata.experimental import read_dispatched

    def read(of: Any, name: str, element: Any, iospec: Any) -> Any:
        first = name.strip("/").partition("/")[0]
        if first == "raw":
            return None
        if first in ("X", "layers") and iospec.encoding_type in ("csr_matrix", "csc_matrix"):
            return sparse_dataset(element)
        return element if first in ("X", "layers") and iospec.encoding_type == "array" else of(element)

    return read_dispatched(_opened(path), read)


def read_or_leave(path: str | Path) -> AnnData:
    """The same file or store, read whole unless its matrices would take more than a quarter of this machine's memory."""
    if fills_memory(path):
        return read_backed(path)
    return (read_zarr if Path(path).is_dir() else read_h5ad)(path)


def fills_memory(path: str | Path) -> bool:
    """Whether the matrices of a file or store (``.h5mu`` too) would take more than a quarter of this machine's memory."""
    store = _opened(path)
    parts = [store[f"mod/{name}"] for name in store["mod"]] if "mod" in store else [store]
    matrices = [part[name] for part in parts for name in ("X", "raw/X", *(f"layers/{n}" for n in part.get("layers", ()))) if name in part]
    taken = sum(4 * int(np.prod(m.shape or 0)) if hasattr(m, "shape") else 8 * m["data"].shape[0] for m in matrices)
    if isinstance(store, h5py.File):
        store.close()
    return taken > memory() / 4


def memory() -> float:
    """Bytes that this machine has; where nobody says, more than any matrix takes."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows
        return float("inf")


def _opened(path: str | Path) -> Any:
    if not Path(path).is_dir():
        return h5py.File(path, "r")
    import zarr  # takes half a second to import, and anndata brings it along

    return zarr.open_group(path, mode="r")


def linked(path: str | Path, group: str, shape: tuple[int, int], into: str | Path) -> Any:
    """A matrix of cells x features (CSR) whose three vectors stand in an HDF5 file that is not anndata's, such as 10x's.

    ``into`` is a new file of some kilobytes that points to them.
    """
    with h5py.File(into, "w") as here, h5py.File(path, "r") as there:
        link = here.create_group("X")
        link.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array(shape)})
        for name in ("data", "indices", "indptr"):
            vector = there[group][name]
            layout = h5py.VirtualLayout(vector.shape, vector.dtype)
            layout[:] = h5py.VirtualSource(str(Path(path).absolute()), vector.name, vector.shape)
            link.create_virtual_dataset(name, layout)
    return sparse_dataset(h5py.File(into, "r")["X"])


def write_h5ad(adata: AnnData, place: str | Path) -> None:
    """A new file, as anndata's of the same name (text is left to be text), but a full disk is an error and does not end the process.

    What stays on disk keeps reading where it did.
    """
    with ForHDF5(place, "w+") as disk, h5py.File(disk, "w") as file:
        write_elem(file, "/", adata)


def stays_on_disk(adata: AnnData) -> bool:
    """Whether ``X`` or a layer does."""
    return any(map(on_disk, [adata.X, *adata.layers.values()]))


def shared(adata: AnnData) -> AnnData:
    """The same cells in an AnnData of its own, which may be annotated or written; no matrix is copied or read."""
    parts = {name: dict(getattr(adata, name)) for name in ("uns", "obsm", "varm", "layers", "obsp", "varp")}
    return AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), **parts)


def on_disk(matrix: Any) -> bool:
    """Whether the matrix stays in its file: what a backed AnnData holds, an array of zarr, one of dask."""
    return isinstance(matrix, CSRDataset | CSCDataset | h5py.Dataset) or type(matrix).__module__.partition(".")[0] in ("zarr", "dask")


def by_column(matrix: Any) -> str | None:
    """What to do about a matrix of which no row can be read without all others; None of any other."""
    if not isinstance(matrix, CSCDataset):
        return None
    return "Write them by row first: adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)."


def require_rows(matrix: Any) -> None:
    """Raise where no row can be read without all others."""
    fix = by_column(matrix)
    if fix:
        raise DataError("the counts on disk are stored by column (CSC), so reading cells would read the whole file each time.", fix)


def read_slice(matrix: Any, rows: slice = slice(None)) -> sparse.csr_matrix:
    """Rows that follow each other (all, unless it is said), from memory or disk."""
    part = matrix[rows] if on_disk(matrix) or rows != slice(None) else matrix
    return as_csr(part.compute() if hasattr(part, "compute") else part)


def read_rows(matrix: Any, wanted: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows, among which the ``wanted`` ones (sorted, none twice) are; and where they stand there."""
    if hasattr(matrix, "compute"):
        return as_csr(matrix[wanted].compute()), np.arange(len(wanted))
    last = np.append(np.diff(wanted) > GAP + 1, True)
    first = np.append(True, last[:-1])
    spans = np.stack([wanted[first], wanted[last] + 1], 1)
    read = np.zeros(matrix.shape[0] + 1, np.int8)
    read[spans[:, 0]], read[spans[:, 1]] = 1, -1
    mask = read[:-1].cumsum().astype(bool)
    return as_csr(_spans(matrix, spans, mask)), np.searchsorted(np.flatnonzero(mask), wanted)


def _spans(matrix: Any, spans: np.ndarray, mask: np.ndarray) -> Any:
    """Rows of these spans, which are those of the mask. Of a mask anndata reads each span as one, but asks zarr value by value."""
    if not isinstance(matrix, CSRDataset):
        return np.concatenate([matrix[i:j] for i, j in spans.tolist()])
    if isinstance(matrix.group, h5py.Group) or mask.sum() < LONG_SPAN * len(spans):
        return matrix[mask]
    return sparse.vstack([matrix[i:j] for i, j in spans.tolist()], format="csr")


def block_of(matrix: Any) -> int:
    """Rows that are read together in any case."""
    if isinstance(matrix, CSRDataset) and matrix.group.attrs.get(SHUFFLED):
        return LONG_BLOCK
    chunks = getattr(matrix, "chunks", None)  # of h5py and zarr a number for each dimension, of dask several
    return BLOCK if not chunks else max(BLOCK, int(np.max(chunks[0])))


def rows_at_once(matrix: Any) -> int:
    """As many as keep a bound on memory, however many there are."""
    stored = matrix.group["indices"].shape[0] if isinstance(matrix, CSRDataset) else np.prod(matrix.shape)
    return max(8 * block_of(matrix), min(AT_ONCE, int(VALUES * matrix.shape[0] / max(1, stored))))


# ---------------------------------------------------------------------- order
def together(parts: Sequence[T], cells: int) -> list[Sequence[T]]:
    """Minibatches in groups of at most so many cells (one at least), in their order."""
    n = max(1, cells // max((len(part) for part in parts), default=1))  # type: ignore[arg-type]
    return [parts[i : i + n] for i in range(0, len(parts), n)]


def shuffled_blocks(index: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
    """``index`` in a random order in which those of a block of the file follow each other."""
    order = np.sort(index)
    blocks = np.split(order, np.flatnonzero(np.diff(order // block)) + 1)
    return np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])


def mixed(parts: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Minibatches of the same sizes, made of the same cells at random."""
    return np.split(rng.permutation(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
