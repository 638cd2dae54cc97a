"""Columns of ``obs`` as numbers: which categories there are, and the code of each cell's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scelbo.data.fields import Batch, Field
from scelbo.errors import ArgumentError, DataError, SetupError, unknown


def columns_asked(keys: dict[str, Any], declared: Field) -> list[str]:
    """The obs columns that a field reads: none, one, or several."""
    key = keys.get(declared.argument)
    return [] if key is None else [key] if isinstance(key, str) else list(key)


def named(declared: Field, keys: dict[str, Any]) -> None:
    """Raise unless the field's key is a name, or names where it reads several columns."""
    key = keys.get(declared.argument)
    several = declared.kind in ("categories", "numbers")
    if several and isinstance(key, Sequence | np.ndarray | pd.Index) and all(isinstance(name, str) for name in key):
        return
    if key is not None and not isinstance(key, str):
        what = "a list of names of columns" if several else "one name"
        more = " Several columns at once: categorical_covariate_keys=[...]." if declared.kind == "category" else ""
        raise ArgumentError(f"{declared.argument}={key!r} is not allowed: it must be {what}.{more}")


def known(obs: pd.DataFrame, column: str, declared: Field, keys: dict[str, Any]) -> pd.Series:
    """A column of categories, with NaN where the category is not known; nowhere, if a category may be missing and the column is."""
    if declared.missing is None:
        return obs[column]
    values = obs[column] if column in obs else pd.Series(None, obs.index, dtype=object)
    return values.mask(values.astype(str) == str(keys.get(declared.missing, declared.unknown)))


def column(obs: pd.DataFrame, key: str) -> pd.Series:
    """A column that the setup names."""
    if key not in obs:
        raise SetupError(unknown("obs column", key, obs.columns), "The model was set up with this column.")
    return obs[key]


def levels(obs: pd.DataFrame, cells_type: type[Batch], keys: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(covariate, its categories) of every field that has some; ``"all"`` where no column is named."""
    for name, declared in cells_type.fields().items():
        asked = columns_asked(keys, declared)
        if declared.kind == "category":
            yield name, _in_use(known(obs, asked[0], declared, keys).dropna()) if asked else ["all"]
        elif declared.kind == "categories":
            yield from ((f"{name}.{c}", _in_use(obs[c])) for c in asked)


def _in_use(values: pd.Series) -> list[str]:
    """In a categorical's own order, else sorted (numbers as numbers)."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [str(c) for c in values.cat.remove_unused_categories().cat.categories]
    return [str(c) for c in sorted(values.unique(), key=lambda v: (isinstance(v, str), v))]


def codes(values: pd.Series, categories: list[str]) -> Tensor:
    """(cells,) the number of each cell's category; -1 where it has none of these."""
    text = values.astype(str).where(values.notna())
    return torch.from_numpy(pd.Categorical(text, categories=categories).codes.astype(np.int64))


def all_known(obs: pd.DataFrame, key: str, categories: list[str]) -> Tensor:
    """The same; a category that the model has not seen is an error."""
    values = column(obs, key)
    out = codes(values, categories)
    unseen = sorted(set(values[(out < 0).numpy()].astype(str)))
    if unseen:
        raise DataError(
            f"adata.obs[{key!r}] has categories that the model has not seen: {', '.join(unseen[:8])}.",
            f"It knows {', '.join(categories[:12])}. Map cells of new categories with load_query_data(adata, model).",
        )
    return out
