"""Answers for data on disk by many workers: each reads some rows, asks the model about them, and writes what it was told."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem

import scelbo
from scelbo import settings
from scelbo.analysis import ondisk
from scelbo.data import read_backed
from scelbo.errors import ArgumentError, BackendError, unknown
from scelbo.model import Model

ROWS = 4096
"""Cells that are asked about at once."""


def ask(
    model: str | Path, data: str | Path, question: str, out: str | Path, *, rows: int = ROWS, seed: int | None = None, **arguments: Any
) -> AnnData:
    """Ask a trained model about cells on disk, by the workers of dask: a client's (``dask.distributed``), else threads here.

    Parameters
    ----------
    model
        The folder of a saved model.
    data
        Cells in an ``.h5ad`` file or a ``.zarr`` store. Workers on other machines must see all three places.
    question
        A method of the model with an answer of one row a cell: ``"get_latent_representation"``, ``"get_normalized_expression"``,
        ``"annotate"``, ``"predict"``.
    out
        A new ``.zarr`` store. Values go to ``X``, written by the workers; what is not a number (labels), and the table that it stands in,
        to ``obs``.
    rows
        Cells that are read and asked about at once.
    seed
        Of draws, where there are any: each piece of so many rows has a seed of its own that follows from it.
    **arguments
        Of the question.

    Returns
    -------
    The store, opened: ``X`` stays on disk.

    Raises
    ------
    ArgumentError
        A question that the model does not answer, or whose answer has no row a cell.
    BackendError
        dask is not installed.

    Examples
    --------
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> with Client("tcp://first:8786"):  # doctest: +SKIP
    ...     latent = ask("model", "atlas.zarr", "get_latent_representation", "latent.zarr")
    """
    try:
        import dask
        import dask.array as da
    except ImportError as error:
        raise BackendError("Answers by many workers need dask.", "pip install 'scelbo[distributed]'.") from error
    folder, place = str(Path(model).absolute()), str(Path(data).absolute())
    opened, cells = _opened(folder, place)
    _require(type(opened), question)
    asked: dict[str, Any] = {"question": question, "seed": settings.fresh_seed(seed), "arguments": arguments}
    first = _piece(0, min(2, cells.n_obs), folder, place, **asked)
    if len(first) != min(2, cells.n_obs):
        raise ArgumentError(f"The answer of {question} has no row a cell.", "Ask the model itself.")
    result = ondisk.File(out, cells.obs_names, pd.Index(first.columns))
    if result.path.suffix != ".zarr":
        raise ArgumentError(f"Many workers write to one zarr store, and {str(out)!r} is none.", "End the name in .zarr.")
    spans = [(start, min(start + rows, cells.n_obs)) for start in range(0, cells.n_obs, rows)]
    if not all(map(pd.api.types.is_numeric_dtype, first.dtypes)):
        tables = dask.compute(*[dask.delayed(_piece)(*span, folder, place, **asked) for span in spans])
        return _labelled(result, tables)
    with result.filled() as matrix:
        ends = da.from_array(np.arange(len(spans)), chunks=1)
        values = ends.map_blocks(
            _values, spans=spans, folder=folder, place=place, **asked, dtype=np.float32, new_axis=1,
            chunks=(tuple(stop - start for start, stop in spans), (first.shape[1],)),
        )  # fmt: skip
        # chunks of the file that two pieces share would be written by two workers at once
        da.store(values.rechunk((matrix.chunks[0] * max(1, rows // matrix.chunks[0]), first.shape[1])), matrix, lock=False)
    return result.open()


def _takes(cls: type[Model], name: str) -> Mapping[str, Any]:
    """The arguments of a method, if it is one."""
    method = getattr(cls, name, None)
    return inspect.signature(method).parameters if callable(method) and not name.startswith("_") else {}


def _require(cls: type[Model], question: str) -> None:
    if "indices" not in _takes(cls, question):
        raise ArgumentError(unknown(f"{cls.__name__} question", question, [name for name in dir(cls) if "indices" in _takes(cls, name)]))


@lru_cache(maxsize=2)
def _opened(folder: str, place: str) -> tuple[Model, AnnData]:
    """Once in each worker."""
    return scelbo.load(folder), read_backed(place)


def _piece(start: int, stop: int, folder: str, place: str, question: str, seed: int, arguments: dict[str, Any]) -> pd.DataFrame:
    """The answer about some rows, as a table."""
    with ondisk.ONE_AT_A_TIME:
        model, cells = _opened(folder, place)
        if "seed" in _takes(type(model), question):
            arguments = {"seed": int(np.random.SeedSequence([seed, start]).generate_state(1)[0]), **arguments}
        answer = getattr(model, question)(cells, np.arange(start, stop), **arguments)
    if isinstance(answer, pd.Series):
        return answer.to_frame(answer.name or question)
    if isinstance(answer, pd.DataFrame):
        return answer
    if not isinstance(answer, np.ndarray) or answer.ndim > 2:
        raise ArgumentError(f"The answer of {question} is no table with a row a cell.", "Ask the model itself.")
    values = answer.reshape(len(answer), -1)
    return pd.DataFrame(values, columns=[f"{question.removeprefix('get_')}_{i + 1}" for i in range(values.shape[1])])


def _values(which: np.ndarray, spans: list[tuple[int, int]], **asked: Any) -> np.ndarray:
    """The numbers of one piece."""
    return _piece(*spans[int(which[0])], **asked).to_numpy(np.float32)


def _labelled(result: ondisk.File, tables: tuple[pd.DataFrame, ...]) -> AnnData:
    """A table with labels, in ``obs``."""
    table = pd.concat([t.astype(dict.fromkeys(t.select_dtypes("category"), object)) for t in tables]).set_axis(result.names[0])
    for name in tables[0].select_dtypes(["category", "object"]):
        table[name] = pd.Categorical(table[name])
    result.names = (result.names[0], pd.Index([]))
    with result.filled():
        write_elem(result.store, "obs", table)
    return AnnData(obs=table)
