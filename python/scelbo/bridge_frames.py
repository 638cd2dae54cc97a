"""Data frames between R and pandas, exactly: kinds are said, and NA survives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

Column = tuple[str, str, Any, Any]
"""Name, kind, values, and more: a mask of what is missing, or the levels."""


def frame(columns: Sequence[Column], index: Sequence[str]) -> pd.DataFrame:
    """A data frame whose columns' kinds are all said, so that NA survives.

    >>> frame([("donor", "string", np.array([0, -1]), ["a"])], ["c1", "c2"])["donor"].tolist()
    ['a', None]
    """
    return pd.DataFrame({name: series(kind, values, more) for name, kind, values, more in columns}, index=pd.Index(index, dtype=object))


def series(kind: str, values: Any, more: Any) -> Any:
    """One column of a :func:`frame`."""
    match kind:
        case "factor":
            levels, ordered = more
            return pd.Categorical.from_codes(np.array(values, "int32"), categories=list(levels), ordered=bool(ordered))
        case "string" if not len(more):  # nothing but NA: an object column of None could not be written to h5ad
            return pd.Categorical.from_codes(np.array(values, "int32"), categories=[])
        case "string":
            return np.array([*more, None], dtype=object)[np.asarray(values, "int64")]
        case "int" if more is not None:
            return pd.arrays.IntegerArray(np.array(values, "int32"), np.array(more, bool))
        case "bool" if more is not None:
            return pd.arrays.BooleanArray(np.array(values, bool), np.array(more, bool))
        case _:
            return np.array(values, {"int": "int32", "bool": "bool", "double": "float64"}[kind])


def columns(table: pd.DataFrame) -> dict[str, Any]:
    """The inverse of :func:`frame`: ``{"columns": [...], "index": [...]}`` of values that R takes as they are."""
    return {
        "columns": [(str(name), *series_parts(table.iloc[:, i])) for i, name in enumerate(table.columns)],
        "index": [str(i) for i in table.index],
    }


def records(items: Sequence[Sequence[Any]], names: Sequence[str]) -> pd.DataFrame:
    """Named tuples as the rows of a data frame, which has its columns also where there are none.

    >>> records([("no counts", "remove it")], ["what", "fix"]).to_dict("list")
    {'what': ['no counts'], 'fix': ['remove it']}
    """
    return pd.DataFrame(list(items), columns=list(names))


def series_parts(column: pd.Series) -> tuple[str, Any, Any]:
    """The inverse of :func:`series`."""
    missing = column.isna().to_numpy()
    mask = missing if missing.any() else None
    if isinstance(column.dtype, pd.CategoricalDtype) and len(column.cat.categories):
        categories = [str(c) for c in column.cat.categories]
        return "factor", column.cat.codes.to_numpy("int32"), (categories, bool(column.cat.ordered))
    if pd.api.types.is_bool_dtype(column.dtype):
        return "bool", column.fillna(False).to_numpy(bool), mask
    if pd.api.types.is_integer_dtype(column.dtype):
        values = column.fillna(0).to_numpy("int64")
        if not len(values) or np.abs(values).max() < 2**31:
            return "int", values.astype("int32"), mask
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "double", column.to_numpy("float64", na_value=np.nan) if mask is not None else column.to_numpy("float64"), None
    codes, values = pd.factorize(column.astype(object).where(~missing))
    return "string", codes.astype("int32"), [str(v) for v in values]
