"""What commands read and write: data sets, and tables of answers."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import mudata
import numpy as np
import pandas as pd
from anndata.io import write_elem

from scelbo.data import Data
from scelbo.data.disk import fills_memory, read_or_leave
from scelbo.errors import ArgumentError, StorageError, nearest
from scelbo.whole import ForHDF5, whole

READ = (".h5ad", ".zarr", ".h5mu")
TABLES = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}


def read(path: str) -> Data:
    """An AnnData or a MuData; matrices that would take a quarter of the memory stay on disk."""
    place = there(path)
    if place.suffix == ".h5mu":
        with mudata.set_options(pull_on_update=False):
            return mudata.read_h5mu(place, backed="r" if fills_memory(place) else False)
    if place.suffix not in READ:
        raise ArgumentError(f"{path!r} is of no format that is read here: {', '.join(READ)}.")
    return read_or_leave(place)


def there(path: str) -> Path:
    """What is there; else the nearest that is."""
    place = Path(path)
    if not place.exists():
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        raise StorageError(f"{path!r} is not there.", nearest(place.name, beside))
    return place


def free(path: str, overwrite: bool) -> Path:
    """Where an answer will be written: checked before the work begins."""
    if Path(path).exists() and not overwrite:
        raise StorageError(f"{path!r} exists.", "Give another name, or --overwrite.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


def ending(path: Path) -> str:
    """``.csv.gz`` is one."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def table(answer: Any, question: str, cells: Sequence[str]) -> pd.DataFrame:
    """An answer as one table: an array has a row a cell, parts stand side by side."""
    match answer:
        case pd.DataFrame():
            return answer
        case pd.Series():
            return answer.to_frame(answer.name or question)
        case list() if all(isinstance(part, np.ndarray) for part in answer):  # of several data sets, one below the other
            return table(np.concatenate(answer), question, cells)
        case tuple() | list() if all(isinstance(part, pd.DataFrame) for part in answer):
            return pd.concat(answer, axis=1)
        case np.ndarray() if answer.ndim <= 2 and len(answer) == len(cells):
            values = answer.reshape(len(cells), -1)
            return pd.DataFrame(values, index=cells, columns=[f"{question}_{i + 1}" for i in range(values.shape[1])])
        case int() | float() | np.generic():
            return pd.DataFrame({question: [answer]})
    raise ArgumentError(f"The answer of {question} is no table: {type(answer).__name__}.", "Ask it in Python or R.")


def write(answer: Any, to: Path, question: str, key: str, data: Sequence[str], cells: Sequence[str]) -> None:
    """A table into a text file; or the data's file once more with the answer in it, nothing else of it changed.

    An array goes to ``obsm["X_<key>"]``, a table with a row a cell to columns ``<key>_...`` of ``obs``.
    """
    what = ending(to)
    if what in TABLES:
        with whole(to) as place:
            rows = table(answer, question, cells)
            rows.to_csv(place, sep=TABLES[what], index_label="cell" if list(rows.index) == list(cells) else rows.index.name)
        return
    if len(data) != 1 or what not in (".h5ad", ".zarr") or Path(data[0]).suffix != what:
        raise ArgumentError(
            f"{str(to)!r} cannot hold this answer.", f"End the name in {' or '.join(TABLES)}, or as the data do, if they are h5ad or zarr."
        )
    if isinstance(answer, np.ndarray):
        change: Callable[[Any], None] = lambda store: write_elem(store, f"obsm/X_{key}", answer)  # noqa: E731
    else:
        columns = table(answer, question, cells)
        if list(columns.index) != list(cells):
            raise ArgumentError(f"The answer of {question} has no row a cell, so it has no place in {str(to)!r}.", "Write it as .csv.")
        change = lambda store: _add_columns(store, columns.add_prefix(f"{key}_"))  # noqa: E731
    with whole(to) as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what zarr and anndata will change one day
        if what == ".h5ad":
            shutil.copyfile(data[0], place)
            with ForHDF5(place, "r+") as disk, h5py.File(disk, "a") as store:
                change(store)
        else:
            import zarr  # takes half a second to import, and anndata brings it along

            shutil.copytree(data[0], place)
            change(zarr.open_group(place, mode="a", use_consolidated=False))
            if zarr.open_group(place, mode="r").metadata.consolidated_metadata is not None:
                zarr.consolidate_metadata(place)  # what stood there does not know of the answer


def _add_columns(store: Any, columns: pd.DataFrame) -> None:
    from anndata.io import read_elem

    obs = read_elem(store["obs"])
    for name in columns:
        obs[name] = columns[name].to_numpy() if not isinstance(columns[name].dtype, pd.CategoricalDtype) else columns[name].array
    write_elem(store, "obs", obs)
