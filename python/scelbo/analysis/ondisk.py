"""Results as large as the data, of which memory holds a few rows at a time: a file that is filled, or rows decoded when they are read."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from anndata.io import write_elem

from scelbo.errors import ArgumentError, BackendError
from scelbo.whole import ForHDF5, whole

ROWS, COLUMNS = 512, 1024
"""Of a chunk on disk."""
ONE_AT_A_TIME = threading.Lock()  # a model's private seed is torch's global generator for a while


class File:
    """A dense float32 matrix, cells x features, in a new ``.h5ad`` file or ``.zarr`` folder that anndata opens.

    Parameters
    ----------
    path
        Where; it must not exist.
    obs_names, var_names
        Names of the rows and columns.
    """

    def __init__(self, path: str | Path, obs_names: pd.Index, var_names: pd.Index):
        self.path, self.names = Path(path), (obs_names, var_names)
        if self.path.suffix not in (".h5ad", ".zarr"):
            raise ArgumentError(f"out={str(path)!r} has no format.", "End the name in .h5ad or .zarr.")
        if self.path.exists():
            raise ArgumentError(f"{str(path)!r} exists.", "Remove it, or give another name.")

    @contextlib.contextmanager
    def filled(self) -> Iterator[Any]:
        """The matrix, to be assigned to inside; what it stands in is ``store``. The file is there once the block has ended well."""
        about = AnnData(obs=pd.DataFrame(index=self.names[0]), var=pd.DataFrame(index=self.names[1]))
        with whole(self.path) as place, contextlib.ExitStack() as files:
            if self.path.suffix == ".h5ad":
                disk = files.enter_context(ForHDF5(place, "w+"))
                self.store = files.enter_context(h5py.File(disk, "w"))
                create = self.store.create_dataset
            else:
                self.store = _zarr_group(place)
                create = self.store.create_array
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what zarr and anndata will change one day
                write_elem(self.store, "/", about)
            chunks = (min(ROWS, about.n_obs), min(COLUMNS, about.n_vars))
            matrix = create("X", shape=about.shape, dtype="float32", chunks=chunks)
            matrix.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            yield matrix if self.path.suffix == ".zarr" else _Watched(matrix, disk)

    def open(self) -> AnnData:
        """The finished file; its matrix stays on disk."""
        if self.path.suffix == ".h5ad":
            return read_h5ad(self.path, backed="r")
        return AnnData(_zarr_group(self.path, "r")["X"], obs=pd.DataFrame(index=self.names[0]), var=pd.DataFrame(index=self.names[1]))


class _Watched:
    """A matrix in HDF5, to be assigned to: a disk that is full is an error now, not once all is decoded."""

    def __init__(self, matrix: h5py.Dataset, disk: ForHDF5):
        self.matrix, self.disk = matrix, disk

    def __setitem__(self, where: Any, values: np.ndarray) -> None:
        self.matrix[where] = values
        self.disk.require_written()


def _zarr_group(path: Path, mode: Literal["r", "w"] = "w") -> Any:
    import zarr  # takes half a second to import, and anndata brings it along

    return zarr.open_group(path, mode=mode)


def lazy(rows: Callable[[slice], np.ndarray], shape: tuple[int, int]) -> Any:
    """A dask array (cells, features) whose rows are made by ``rows(slice)`` when they are asked for."""
    try:
        import dask.array as da
        from dask import delayed
    except ImportError as error:
        raise BackendError("lazy=True needs dask.", "pip install 'dask[array]', or write to a file: out='expression.h5ad'.") from error

    def block(start: int, stop: int) -> np.ndarray:
        with ONE_AT_A_TIME:
            return rows(slice(start, stop))

    ends = [(i, min(i + ROWS, shape[0])) for i in range(0, shape[0], ROWS)]
    parts = [da.from_delayed(delayed(block, pure=True)(i, j), (j - i, shape[1]), np.float32) for i, j in ends]
    return da.concatenate(parts)
