"""Whole objects between R and Python: AnnData's slots as they are, and the plain values of ``uns``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad
from mudata import MuData, read_h5mu, set_options

from scelbo.bridge_frames import columns, series, series_parts
from scelbo.data.disk import stays_on_disk, write_h5ad
from scelbo.whole import whole

SLOTS = ("layers", "obsm", "varm", "obsp", "varp")
NOTE = "R"
"""In ``uns``: what R needs to know to make the same object again."""


# ---------------------------------------------------------------------- from R
def exact(values: Any) -> np.ndarray:
    """A copy (R may free its own), as float32 where that loses nothing.

    >>> exact(np.array([1.0, 2.5])).dtype, exact(np.array([0.1])).dtype
    (dtype('float32'), dtype('float64'))
    """
    values = np.asarray(values)
    if values.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            short = values.astype(np.float32)
            lossless = (short == values).all()  # not of NaN: R's NA is one of several, told by its last bits
        if lossless:
            return short
    return values.copy(order="K")


def by_rows(i: Any, p: Any, x: Any, n_obs: int, n_vars: int) -> sp.csr_matrix:
    """CSR of cells x features from the slots of R's features x cells matrix, see ``bridge_cells.counts``; values are exact."""
    matrix = sp.csr_matrix((exact(x), np.array(i, "int32"), np.array(p, "int32")), shape=(int(n_obs), int(n_vars)))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


def by_columns(i: Any, p: Any, x: Any, n_rows: int, n_columns: int) -> sp.csr_matrix:
    """CSR of what R's column-compressed matrix is, its own way round."""
    return sp.csc_matrix((exact(x), np.array(i, "int32"), np.array(p, "int32")), shape=(int(n_rows), int(n_columns))).tocsr()


def turned(values: Any) -> np.ndarray:
    """R's dense matrix of features x cells as cells x features."""
    return exact(values).T


def named_columns(matrix: Any, names: Sequence[str], index: Sequence[str]) -> pd.DataFrame:
    """A matrix whose columns have names."""
    values = matrix.toarray() if sp.issparse(matrix) else matrix
    return pd.DataFrame(values, index=pd.Index(list(index), dtype=object), columns=pd.Index(list(names), dtype=object))


def vector(kind: str, values: Any, more: Any = None, shape: Sequence[int] = ()) -> Any:
    """Values of one kind, where not in a data frame."""
    if kind == "string" and (np.asarray(values) < 0).any():
        return pd.Categorical.from_codes(np.array(values, "int32"), categories=list(more))
    out = np.array([*more, ""], dtype=object)[np.asarray(values, "int64")] if kind == "string" else series(kind, values, more)
    return out.reshape([int(n) for n in shape], order="F") if len(shape) > 1 else out


def recarray(frame: pd.DataFrame) -> np.ndarray:
    """A structured array, as scanpy keeps its rankings in."""
    kinds = {name: object if frame[name].dtype == object or isinstance(frame[name].dtype, pd.CategoricalDtype) else None for name in frame}
    return frame.astype({name: kind for name, kind in kinds.items() if kind}).to_records(index=False)


def assemble(
    x: Any,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    slots: Mapping[str, Mapping[str, Any]],
    uns: Mapping[str, Any],
    kinds: Mapping[str, str],
    index: Mapping[str, str],
) -> AnnData:
    """An AnnData of what was sent, nothing copied.

    Parameters
    ----------
    slots
        By their names; ``raw`` has ``X`` and ``var`` of what was put aside.
    kinds
        Path -> what a value is in R, where it cannot be told.
    index
        Names of the indices of ``obs`` and ``var``.
    """
    plain = dict(uns)
    if kinds:
        plain[NOTE] = {**plain.get(NOTE, {}), "kinds": _kinds(kinds)}
    obs.index.name, var.index.name = index.get("obs"), index.get("var")
    adata = AnnData(x, obs=obs, var=var, uns=plain, **{slot: dict(slots.get(slot, {})) for slot in SLOTS})
    if "raw" in slots:
        adata.raw = AnnData(slots["raw"]["X"], obs=pd.DataFrame(index=obs.index), var=slots["raw"]["var"])
    return adata


def _kinds(kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """As a file can hold them: paths are no keys."""
    return {"of": np.array(list(kinds), dtype=object), "is": np.array(list(kinds.values()), dtype=object)}


def mudata(parts: Mapping[str, AnnData], obs: pd.DataFrame) -> MuData:
    """Modalities, and the metadata of all cells."""
    with _quiet():
        mdata = MuData(dict(parts))
        mdata.obs = obs.loc[mdata.obs_names]
    return mdata


def write(data: AnnData | MuData, path: str, as_it_is: bool = False) -> None:
    """Write a file in which text is text, and a factor's levels keep their order; text that may be missing becomes categories.

    ``as_it_is``: an AnnData that was Python's before, as anndata writes it.
    """
    with whole(path) as place:
        if isinstance(data, MuData):
            for part in data.mod.values():
                _note_text(part)
            for part in (data, *data.mod.values()):
                _storable(part)
            with _quiet():
                data.write(place)
            return
        if as_it_is:
            data.strings_to_categoricals()
        else:
            _storable(data)
        write_h5ad(data, place)


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither columns pulled together, nor what pandas says meanwhile of numbers that are missing."""
    with set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _note_text(part: AnnData) -> None:
    """A MuData's file has categories in place of text."""
    text = {
        f"{axis}/{name}": "character" for axis in ("obs", "var") for name, column in getattr(part, axis).items() if column.dtype == object
    }
    if text:
        noted = part.uns.setdefault(NOTE, {}).get("kinds", {"of": [], "is": []})
        part.uns[NOTE]["kinds"] = _kinds(text | dict(zip(noted["of"], noted["is"], strict=True)))


def _storable(data: AnnData | MuData) -> None:
    raw = {} if getattr(data, "raw", None) is None else {"raw": data.raw.var}
    for frame in _frames({"obs": data.obs, "var": data.var, "obsm": data.obsm, "uns": data.uns, **raw}):
        for name in frame:
            if frame[name].dtype == object and frame[name].isna().any():
                frame[name] = pd.Categorical(frame[name])


def _frames(held: Mapping[str, Any]) -> Iterator[pd.DataFrame]:
    for value in held.values():
        if isinstance(value, pd.DataFrame):
            yield value
        elif isinstance(value, Mapping):
            yield from _frames(value)


# ---------------------------------------------------------------------- to R
def contents(adata: AnnData) -> dict[str, Any]:
    """What there is, without its values: names by slot, and those of the two indices."""
    names: dict[str, Any] = {slot: [str(k) for k in getattr(adata, slot)] for slot in SLOTS}
    index = {axis: str(name) for axis in ("obs", "var") if (name := getattr(adata, axis).index.name) is not None}
    return names | {"X": [""] if adata.X is not None else [], "raw": [""] if adata.raw is not None else [], "index": index}


def opened(data: Any) -> Any:
    """An AnnData or MuData, or the file of one; what stayed on disk is read, as R will hold all of it."""
    if not isinstance(data, str):
        return data.to_memory() if isinstance(data, AnnData) and stays_on_disk(data) else data
    with _quiet():
        return read_h5mu(data) if data.endswith(".h5mu") else read_h5ad(data)


def modalities(data: Any) -> list[str]:
    """Names of the modalities; none of an AnnData."""
    return list(data.mod) if isinstance(data, MuData) else []


def obs_of_all(mdata: MuData) -> pd.DataFrame:
    """Metadata of all cells, with columns that only a modality has."""
    obs = mdata.obs.copy()
    for name, part in list(mdata.mod.items())[:1]:
        for column in part.obs:
            if column not in obs and f"{name}:{column}" not in obs:
                obs[column] = part.obs[column].reindex(obs.index)
    return obs


def piece(adata: AnnData, slot: str, key: str = "") -> dict[str, Any]:
    """One matrix or table: for R the other way round where it is of cells x features."""
    if slot == "X":
        return _matrix(adata.X, turn=True)
    if slot == "raw":
        return _matrix(adata.raw.X, turn=True) | {"var": columns(adata.raw.var)}
    value = getattr(adata, slot)[key]
    if isinstance(value, pd.DataFrame):
        if slot == "obsm" and all(kind.kind in "fiub" for kind in value.dtypes):
            return _matrix(value.to_numpy(), turn=True) | {"names": [str(c) for c in value.columns]}
        return {"kind": "frame", "frame": columns(value)}
    return _matrix(value, turn=slot == "layers")


def told(adata: AnnData) -> dict[str, Any]:
    """``uns`` so that R can take it, see ``_plain``, and the ``kinds`` noted by :func:`assemble`."""
    uns = dict(adata.uns)
    kinds: Mapping[str, Any] = {}
    if NOTE in uns:
        uns[NOTE] = {key: value for key, value in uns[NOTE].items() if key != "kinds"}
        kinds = adata.uns[NOTE].get("kinds", {})
    return {"uns": _plain(uns), "kinds": {key: [str(v) for v in values] for key, values in kinds.items()}}


def _matrix(value: Any, turn: bool) -> dict[str, Any]:
    """As slots of R's column-compressed matrix, or dense. ``turn``: rows become columns."""
    if sp.issparse(value):
        packed = sp.csr_matrix(value) if turn else sp.csc_matrix(value)
        if not packed.has_canonical_format:
            packed = packed.copy() if packed is value else packed
            packed.sum_duplicates()
        x = packed.data if packed.dtype == bool else packed.data.astype("float64")
        shape = packed.shape[::-1] if turn else packed.shape
        return {"kind": "sparse", "i": packed.indices.astype("int32"), "p": packed.indptr.astype("int32"), "x": x, "dim": list(shape)}
    dense = np.asarray(value)
    if dense.ndim != 2 or dense.dtype.kind not in "fiub":
        return {"kind": "other"}
    return {"kind": "dense", "values": _plain_numbers(dense.T if turn else dense)}


def _plain_numbers(values: np.ndarray) -> np.ndarray:
    """As R has them: logical, integers of 32 bits, doubles."""
    if values.dtype.kind == "b":
        return values
    fits = values.dtype.kind in "iu" and (not values.size or np.abs(values.astype("float64")).max() < 2**31)
    return values.astype("int32" if fits else "float64")


def _plain(value: Any) -> dict[str, Any]:
    """A value with its kind, so that the way back knows a number from an array of one and a table from a list."""
    match value:
        case None:
            return {"kind": "null"}
        case Mapping():
            return {"kind": "list", "names": [str(k) for k in value], "items": [_plain(v) for v in value.values()]}
        case pd.DataFrame():
            return {"kind": "frame", "frame": columns(value)}
        case np.ndarray() if value.dtype.names:
            return {"kind": "records", "frame": columns(pd.DataFrame.from_records(value))}
        case str() | bool() | int() | float() | np.bool_() | np.number():
            return {"kind": "vector", "one": False, "parts": series_parts(pd.Series([value]))}
        case pd.Series() | pd.Index() | pd.api.extensions.ExtensionArray():
            return {"kind": "vector", "one": False, "parts": series_parts(pd.Series(value))}
        case list() | tuple() if all(isinstance(v, str | bool | int | float | np.number) for v in value):
            return _plain(np.array(value, dtype=object if any(isinstance(v, str) for v in value) else None))
        case np.ndarray() if value.ndim == 0:
            return _plain(value.item())
        case np.ndarray() if value.ndim == 1 and value.dtype.kind in "fiubOUS":
            return {"kind": "vector", "one": len(value) == 1, "parts": series_parts(pd.Series(value))}
        case np.ndarray() if value.ndim == 2 and value.dtype.kind in "OU":
            flat = series_parts(pd.Series(value.ravel(order="F")))
            return {"kind": "vector", "one": False, "parts": flat, "dim": list(value.shape)}
        case np.ndarray() if value.ndim > 1 and value.dtype.kind in "fiub":
            return {"kind": "dense", "values": _plain_numbers(value)}
    return _matrix(value, turn=False) if sp.issparse(value) else {"kind": "other", "type": type(value).__name__}
