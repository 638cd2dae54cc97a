"""Setup: the answer to "what is where". Plain data, kept as JSON in ``adata.uns["scelbo"]`` and in the saved model."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData, ImplicitModificationWarning
from torch import Tensor

from scelbo.data.columns import Columns
from scelbo.data.counts import Counts
from scelbo.data.fields import Batch
from scelbo.data.matrix import DiskCounts, counts_of
from scelbo.data.minified import Gone, noted
from scelbo.data.validate import columns_asked, examine, known
from scelbo.errors import ArgumentError, DataError, SetupError, unknown

UNS = "scelbo"


@dataclass(frozen=True)
class Source:
    """One of several data sets that a model reads side by side (:mod:`scelbo.data.joint`).

    Attributes
    ----------
    name
        What it is called.
    keys
        Argument of ``setup_anndata`` -> key, in its own AnnData.
    batches
        Its own categories of batch -> what they are called beside the others'.
    features
        What it measured.
    """

    name: str
    keys: dict[str, str | list[str] | None]
    batches: dict[str, str]
    features: tuple[str, ...]

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> Source:
        """From plain data."""
        return cls(**{**about, "features": tuple(about["features"])})


@dataclass(frozen=True)
class Setup:
    """Which keys hold what, and which categories there are.

    Attributes
    ----------
    keys
        Argument of ``setup_anndata`` -> key(s) given.
    categories
        Covariate (``"batch"``, ``"label"``, ``"extra.donor"``) -> its categories, in the order of their codes.
    whole
        Whether every value is a whole number from zero up.
    var_names
        The features, in the model's order; empty until a model is made.
    absent
        Features that a query need not have measured: they are left out of encoder and likelihood where they are missing.
    reference
        Covariate -> how many of its categories came with a reference, whose weights for them are fixed; None without one.
    sources
        The data sets that it was put together from, where these are several.
    """

    keys: dict[str, str | list[str] | None]
    categories: dict[str, list[str]]
    whole: bool = True
    var_names: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    reference: dict[str, int] | None = None
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(
        cls, adata: AnnData, cells_type: type[Batch], keys: dict[str, Any], allow_non_counts: bool = False, query: bool = False
    ) -> Setup:
        """Check the data and note what is where; raises one error that lists every problem."""
        found = examine(adata, cells_type, keys, allow_non_counts, query)
        found.close()
        return cls.noting(adata, cells_type, keys, found.whole)

    @classmethod
    def noting(cls, adata: AnnData, cells_type: type[Batch], keys: dict[str, Any], whole: bool) -> Setup:
        """What is where in data that were checked."""
        given = {a: list(k) if isinstance(k, tuple | pd.Index) else k for a, k in keys.items()}
        return cls(given, dict(_categories(adata, cells_type, given)), whole)

    def extended(self, adata: AnnData, cells_type: type[Batch]) -> Self:
        """The same setup as the reference of ``adata``: the same keys, and its new categories after those known."""
        absent = self.absent_in(adata)
        new = Setup.of(adata, cells_type, self.keys, allow_non_counts=not self.whole, query=True)
        for name in (name for name, declared in cells_type.fields().items() if declared.missing):
            self._no_further(name, new.categories[name])
        categories = {c: known + [k for k in new.categories[c] if k not in known] for c, known in self.categories.items()}
        reference = {c: len(k) for c, k in self.categories.items()}
        return dataclasses.replace(self, categories=categories, whole=new.whole, absent=absent, reference=reference)

    def _no_further(self, covariate: str, categories: list[str]) -> None:
        """Raise where cells have a label that no weights exist for."""
        for label in categories:
            if label not in self.categories[covariate]:
                raise DataError(
                    unknown(f"The reference does not know the {covariate} of some cells:", label, self.categories[covariate]),
                    "Rename it, or give these cells the value that stands for unknown.",
                )

    def absent_in(self, adata: AnnData) -> tuple[str, ...]:
        """The features that ``adata`` lacks; an error if that is more than half."""
        absent = tuple(v for v in self.var_names if v not in adata.var_names)
        if len(absent) > len(self.var_names) / 2:
            raise self._missing(absent)
        return absent

    def of_reference(self) -> Self:
        """The setup that the reference had: its categories only."""
        if self.reference is None:
            return self
        known = {c: names[: self.reference[c]] for c, names in self.categories.items()}
        return dataclasses.replace(self, categories=known, reference=None)

    # ------------------------------------------------------------------ what a module asks
    @property
    def n_vars(self) -> int:
        """Number of features."""
        return len(self.var_names)

    def n_categories(self, *fields: str) -> dict[str, int]:
        """Covariate -> number of categories, for the given fields (``"batch"``, ``"extra"``)."""
        return {c: len(known) for c, known in self.categories.items() if c.partition(".")[0] in fields}

    @property
    def n_continuous(self) -> int:
        """Number of continuous covariates."""
        return len(self.keys.get("continuous_covariate_keys") or [])

    def code(self, covariate: str, category: Any) -> int:
        """The code of a category; a typo is an error that names the nearest."""
        known = self.categories[covariate]
        if str(category) not in known:
            raise ArgumentError(unknown(f"category of {covariate}", str(category), known))
        return known.index(str(category))

    # ------------------------------------------------------------------ reading
    def bind(self, features: Iterable[object]) -> Self:
        """The same setup, for a model of these features."""
        return dataclasses.replace(self, var_names=tuple(map(str, features)))

    def read(self, adata: AnnData, cells_type: type[Batch]) -> Columns:
        """All cells, as the model reads them: features aligned by name, categories as codes."""
        posterior, counts = noted(adata)
        out: dict[str, Any] = {} if posterior is None else {"posterior": posterior}
        for name, declared in cells_type.fields().items():
            asked = columns_asked(self.keys, declared)
            match declared.kind:
                case "counts":
                    out[name] = self._counts(adata, asked[0] if asked else None, declared.part) if counts else Gone()
                case "category" if declared.missing:
                    text = _text(known(adata.obs, asked[0], declared, self.keys))
                    out[name] = torch.from_numpy(pd.Categorical(text, self.categories[name]).codes.astype(np.int64))
                case "category":
                    out[name] = self._codes(adata, name, asked[0] if asked else None)
                case "categories":
                    out[name] = {c: self._codes(adata, f"{name}.{c}", c) for c in asked}
                case _:
                    values = [_column(adata, c).to_numpy(np.float32) for c in asked]
                    out[name] = torch.from_numpy(np.stack(values, 1)) if values else None
        return Columns(cells_type, out, adata.n_obs)

    def _counts(self, adata: AnnData, layer: str | None, part: bool) -> Counts | DiskCounts:
        columns = self._columns_of(adata)
        x = counts_of(adata, layer, columns, part)
        empty = np.flatnonzero(x.size[:, 0].numpy() == 0)
        if columns is not None and len(empty):  # else set-up has looked
            where = "" if part else f" in the model's {self.n_vars:,} features"
            raise DataError(
                f"{len(empty):,} cells have no counts{where}, e.g. {adata.obs_names[empty[0]]}.",
                "Leave them out: no model can say anything about them.",
            )
        return x

    def _columns_of(self, adata: AnnData) -> np.ndarray | None:
        """Where the model's features stand in ``adata``; None if they already stand in order."""
        names = adata.var_names.astype(str)
        if not self.var_names or tuple(names) == self.var_names:
            return None
        at = names.get_indexer(pd.Index(self.var_names))
        absent = set(np.asarray(self.var_names)[at < 0]) - set(self.absent)
        if absent:
            raise self._missing([v for v in self.var_names if v in absent])
        return at

    def _missing(self, absent: Sequence[str]) -> DataError:
        shown = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        return DataError(
            f"{len(absent):,} of the model's {self.n_vars:,} features are not in adata.var_names: {shown}.",
            "Features are matched by name: give the same kind of names (symbols or identifiers) that the model was trained on. "
            "load_query_data() maps cells where up to half of the features were not measured.",
        )

    def _codes(self, adata: AnnData, covariate: str, column: str | None) -> Tensor:
        if column is None:
            return torch.zeros(adata.n_obs, dtype=torch.int64)
        values = _column(adata, column)
        codes = pd.Categorical(_text(values), categories=self.categories[covariate]).codes
        if (codes < 0).any():
            unseen = sorted(set(values[codes < 0].astype(str)))
            raise DataError(
                f"adata.obs[{column!r}] has categories that the model has not seen: {', '.join(unseen[:8])}.",
                f"It knows {', '.join(self.categories[covariate][:12])}. Map cells of new categories with load_query_data(adata, model).",
            )
        return torch.from_numpy(codes.astype(np.int64))

    # ------------------------------------------------------------------ as JSON
    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> Setup:
        """The inverse of :meth:`to_dict`."""
        sources = tuple(Source.from_dict(source) for source in about.get("sources", ()))
        return cls(**{**about, **{name: tuple(about.get(name, ())) for name in ("var_names", "absent")}, "sources": sources})

    def store(self, adata: AnnData, owner: str) -> None:
        """Note it in ``adata.uns["scelbo"]``, the one thing that is written into the user's object."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitModificationWarning)  # a view becomes a copy of itself: nothing is lost
            adata.uns[UNS] = {**adata.uns.get(UNS, {}), owner: json.dumps(self.to_dict())}

    @classmethod
    def stored(cls, adata: AnnData, owner: str) -> Setup:
        """What :meth:`store` noted for the model class ``owner``."""
        if not isinstance(adata, AnnData):
            raise SetupError(f"{owner} needs an AnnData, not {type(adata).__name__}.")
        noted = adata.uns.get(UNS, {}).get(owner)
        if noted is None:
            raise SetupError(f"This AnnData was not set up for {owner}.", f"Call {owner}.setup_anndata(adata, ...) first.")
        return cls.from_dict(json.loads(noted))


def _categories(adata: AnnData, cells_type: type[Batch], keys: dict[str, Any]) -> Any:
    for name, declared in cells_type.fields().items():
        asked = columns_asked(keys, declared)
        if declared.kind == "category":
            yield name, _levels(known(adata.obs, asked[0], declared, keys).dropna()) if asked else ["all"]
        elif declared.kind == "categories":
            yield from ((f"{name}.{c}", _levels(adata.obs[c])) for c in asked)


def _text(values: pd.Series) -> pd.Series:
    """As text, and NaN where there is no value."""
    return values.astype(str).where(values.notna())


def _levels(column: pd.Series) -> list[str]:
    """The categories in use: in a categorical's own order, else sorted (numbers as numbers)."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [str(c) for c in column.cat.remove_unused_categories().cat.categories]
    return [str(c) for c in sorted(column.unique(), key=lambda v: (isinstance(v, str), v))]


def _column(adata: AnnData, key: str) -> pd.Series:
    if key not in adata.obs:
        raise SetupError(unknown("obs column", key, adata.obs.columns), "The model was set up with this column.")
    return adata.obs[key]
