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
from mudata import MuData
from scipy import sparse
from torch import Tensor

from scelbo.data.categories import all_known, codes, column, columns_asked, known, levels
from scelbo.data.columns import Columns
from scelbo.data.counts import Counts
from scelbo.data.fields import Batch, Field
from scelbo.data.matrix import DiskCounts, counts_of
from scelbo.data.minified import Gone, noted
from scelbo.data.modalities import Data, Held, held, obs_of
from scelbo.data.validate import examine
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
    features
        Field -> the names of its features, in the model's order; empty until a model is made.
    absent
        Field -> features that a query need not have measured: they are left out of encoder and likelihood where they are missing.
    reference
        Covariate -> how many of its categories came with a reference, whose weights for them are fixed; None without one.
    sources
        The data sets that it was put together from, where these are several.
    """

    keys: dict[str, Any]
    categories: dict[str, list[str]]
    whole: bool = True
    features: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    absent: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    reference: dict[str, int] | None = None
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, adata: Data, cells_type: type[Batch], keys: dict[str, Any], allow_non_counts: bool = False, query: bool = False) -> Setup:
        """Check the data and note what is where; raises one error that lists every problem."""
        found = examine(adata, cells_type, keys, allow_non_counts, query)
        found.close()
        return cls.noting(adata, cells_type, keys, found.whole)

    @classmethod
    def noting(cls, adata: Data, cells_type: type[Batch], keys: dict[str, Any], whole: bool) -> Setup:
        """What is where in data that were checked."""
        given = {a: list(k) if isinstance(k, tuple | pd.Index) else k for a, k in keys.items()}
        return cls(given, dict(levels(obs_of(adata, given), cells_type, given)), whole)

    def extended(self, adata: Data, cells_type: type[Batch]) -> Self:
        """The same setup as the reference of ``adata``: the same keys, and its new categories after those known."""
        absent = self.absent_in(adata, cells_type)
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

    def absent_in(self, adata: Data, cells_type: type[Batch]) -> dict[str, tuple[str, ...]]:
        """The features that ``adata`` lacks; an error if that is more than half of a matrix that all cells need."""
        out = {}
        for field, names in self.features.items():
            declared = cells_type.fields()[field]
            there = self._held(adata, declared)
            out[field] = names if there is None else tuple(v for v in names if v not in there.names)
            if len(out[field]) > len(names) / 2 and not (declared.may_lack or declared.kind == "matrix"):
                raise self._missing(field, out[field])
        return {field: names for field, names in out.items() if names}

    def _held(self, adata: Data, declared: Field) -> Held | None:
        """The matrix of a field, or None where a query does not have what its reference had beside the counts."""
        try:
            return held(adata, declared, self.keys)
        except SetupError:
            if self.features and declared.kind == "matrix":
                return None
            raise

    def of_reference(self) -> Self:
        """The setup that the reference had: its categories only."""
        if self.reference is None:
            return self
        known = {c: names[: self.reference[c]] for c, names in self.categories.items()}
        return dataclasses.replace(self, categories=known, reference=None)

    # ------------------------------------------------------------------ what a module asks
    @property
    def var_names(self) -> tuple[str, ...]:
        """The features of the first matrix."""
        return self.features.get("x", ())

    @property
    def n_vars(self) -> int:
        """Their number."""
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

    def require_labels(self, owner: str, arguments: dict[str, Any]) -> None:
        """Raise where one of a model's arguments goes by label (``"gene-label"``), and the data were set up without labels."""
        for name, value in arguments.items():
            if str(value).endswith("-label") and self.keys.get("labels_key") is None:
                raise ArgumentError(f"{name}={value!r} needs labels.", f"Name them: {owner}.setup_anndata(adata, labels_key=...).")

    # ------------------------------------------------------------------ reading
    def bind(self, adata: Data, cells_type: type[Batch], chosen: Iterable[object] | None = None) -> Self:
        """The same setup, for a model of the features that ``adata`` has; of the first matrix the ``chosen`` ones."""
        declared = cells_type.fields()
        there = {name: held(adata, f, self.keys) for name, f in declared.items() if f.of_features}
        features = {name: tuple(matrix.names) for name, matrix in there.items() if matrix is not None}
        if chosen is not None:
            features["x"] = tuple(map(str, chosen))
        return dataclasses.replace(self, features={name: features[declared[name].of or name] for name in features})

    def read(self, adata: Data, cells_type: type[Batch]) -> Columns:
        """All cells, as the model reads them: features aligned by name, categories as codes."""
        posterior, counts = noted(adata)
        obs = obs_of(adata, self.keys)
        out: dict[str, Any] = {} if posterior is None else {"posterior": posterior}
        for name, declared in cells_type.fields().items():
            asked = columns_asked(self.keys, declared)
            match declared.kind:
                case "counts" | "matrix" if name not in self.features:
                    out[name] = None
                case "counts" | "matrix" if not counts:
                    out[name] = Gone()
                case "counts":
                    out[name] = self._counts(adata, name, declared)
                case "matrix":
                    out[name] = self._matrix(adata, name, declared)
                case "category" if declared.missing and asked:
                    out[name] = codes(known(obs, asked[0], declared, self.keys), self.categories[name])
                case "category":
                    out[name] = all_known(obs, asked[0], self.categories[name]) if asked else torch.zeros(len(obs), dtype=torch.int64)
                case "categories":
                    out[name] = {c: all_known(obs, c, self.categories[f"{name}.{c}"]) for c in asked}
                case _:
                    values = [column(obs, c).to_numpy(np.float32) for c in asked]
                    out[name] = torch.from_numpy(np.stack(values, 1)) if values else None
        return Columns(cells_type, out, adata.n_obs)

    def _counts(self, adata: Data, field: str, declared: Field) -> Counts | DiskCounts:
        there = self._held(adata, declared)
        if there is None:  # a query without this modality
            return Counts.of(sparse.csr_matrix((adata.n_obs, len(self.features[field])), dtype=np.float32))
        columns = self.places(field, there)
        x = counts_of(there.matrix, columns, declared.part)
        if columns is None or declared.may_lack or declared.of:
            return x  # set-up has looked
        empty = np.flatnonzero(x.size[:, 0].numpy() == 0)
        if len(empty):
            where = "" if declared.part else f" in the model's {len(self.features[field]):,} features"
            raise DataError(
                f"{len(empty):,} cells have no counts{where}, e.g. {adata.obs_names[empty[0]]}.",
                "Leave them out: no model can say anything about them.",
            )
        return x

    def _matrix(self, adata: Data, field: str, declared: Field) -> Tensor:
        """A dense matrix; zeros where a query did not measure a feature."""
        there, names = self._held(adata, declared), self.features[field]
        out = np.zeros((adata.n_obs, len(names)), np.float32)
        if there is not None:
            at = self.places(field, there)
            dense = there.matrix.toarray() if sparse.issparse(there.matrix) else np.asarray(there.matrix)
            at = np.arange(len(names)) if at is None else at
            out[:, at >= 0] = dense[:, at[at >= 0]]
        return torch.from_numpy(out)

    def matched(self, adata: Data, cells_type: type[Batch]) -> None:
        """Raise where ``adata`` lacks features that the model reads; of minified cells it reads none."""
        for field in self.features if noted(adata)[1] else ():
            there = self._held(adata, cells_type.fields()[field])
            if there is not None:
                self.places(field, there)

    def places(self, field: str, there: Held) -> np.ndarray | None:
        """Where the model's features stand in a matrix (-1: absent); None if they stand there in order, and nothing else does."""
        names = self.features.get(field, ())
        if not names or (tuple(there.names) == names and there.columns is None):
            return None
        at = there.names.get_indexer(pd.Index(names))
        absent = set(np.asarray(names)[at < 0]) - set(self.absent.get(field, ()))
        if absent:
            raise self._missing(field, [v for v in names if v in absent])
        return at if there.columns is None else np.where(at < 0, -1, there.columns[at])

    def _missing(self, field: str, absent: Sequence[str]) -> DataError:
        shown = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        return DataError(
            f"{len(absent):,} of the model's {len(self.features[field]):,} features are not in adata.var_names: {shown}.",
            "Features are matched by name: give the same kind of names (symbols or identifiers) that the model was trained on. "
            "load_query_data() maps cells where up to half of the features were not measured.",
        )

    # ------------------------------------------------------------------ as JSON
    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> Setup:
        """The inverse of :meth:`to_dict`."""
        named = {part: {field: tuple(names) for field, names in about[part].items()} for part in ("features", "absent")}
        return cls(**{**about, **named, "sources": tuple(Source.from_dict(source) for source in about.get("sources", ()))})

    def store(self, adata: Data, owner: str) -> None:
        """Note it in ``adata.uns["scelbo"]``, the one thing that is written into the user's object."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitModificationWarning)  # a view becomes a copy of itself: nothing is lost
            adata.uns[UNS] = {**adata.uns.get(UNS, {}), owner: json.dumps(self.to_dict())}

    @classmethod
    def stored(cls, adata: Data, owner: str) -> Setup:
        """What :meth:`store` noted for the model class ``owner``."""
        if not isinstance(adata, AnnData | MuData):
            raise SetupError(f"{owner} needs an AnnData or a MuData, not {type(adata).__name__}.")
        noted = adata.uns.get(UNS, {}).get(owner)
        if noted is None:
            call = "setup_anndata(adata, ...)" if isinstance(adata, AnnData) else "setup_mudata(mdata, ...)"
            raise SetupError(f"This {type(adata).__name__} was not set up for {owner}.", f"Call {owner}.{call} first.")
        return cls.from_dict(json.loads(noted))
