"""Several data sets side by side in one AnnData, which a model then reads as any other: the first has all features, the others some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scelbo.data.categories import column
from scelbo.data.disk import read_slice
from scelbo.data.fields import Batch
from scelbo.data.matrix import matrix_of
from scelbo.data.setup import Setup, Source
from scelbo.errors import ArgumentError, DataError, SetupError, unknown

SOURCE, BATCH, LABEL = "_source", "_batch", "_label"
"""Columns of ``obs`` that such an AnnData has beside those of its data sets."""


def join(adatas: dict[str, AnnData], cells_type: type[Batch], owner: str) -> AnnData:
    """The data sets, by name, one below the other, set up for the model class ``owner``; none of them is changed.

    Batches of one name in two data sets are two batches. Counts are copied (and read, where they are on disk).

    Raises
    ------
    SetupError
        A data set was not set up, or is given twice.
    DataError
        A data set has features that the first lacks.
    """
    if len({id(adata) for adata in adatas.values()}) < len(adatas):
        raise SetupError(f"{' and '.join(adatas)} are the same object.", "Give two data sets, or a copy.")
    setups = [Setup.stored(adata, owner) for adata in adatas.values()]
    first, *others = adatas
    features = adatas[first].var_names.astype(str)
    for name in others:
        absent = adatas[name].var_names[~adatas[name].var_names.isin(features)]
        if len(absent):
            raise DataError(
                f"{len(absent):,} of the {adatas[name].n_vars:,} features of the {name} data are not in the {first} data: "
                f"{', '.join(absent[:8])}{', ...' if len(absent) > 8 else ''}.",
                f"Leave them out: adata_{name} = adata_{name}[:, adata_{name}.var_names.isin(adata_{first}.var_names)].copy(), "
                "or rename them, if they go by other names there.",
            )
    own = [
        Setup.noting(adata, cells_type, s.keys, s.whole).categories["batch"] if s.keys.get("batch_key") else [name]
        for (name, adata), s in zip(adatas.items(), setups, strict=True)
    ]
    every = [batch for batches in own for batch in batches]
    sources = tuple(
        Source(
            name,
            s.keys,
            {b: b if every.count(b) == 1 else f"{name}: {b}" for b in batches},
            tuple(adata.var_names.astype(str)),
        )
        for (name, adata), s, batches in zip(adatas.items(), setups, own, strict=True)
    )
    whole = joined(sources, list(adatas.values()), sources[0].features)
    keys = {"batch_key": BATCH, **({"labels_key": LABEL} if LABEL in whole.obs else {})}
    noted = Setup.noting(whole, cells_type, keys, all(s.whole for s in setups))
    dataclasses.replace(noted, sources=sources).store(whole, owner)
    return whole


def joined(sources: Sequence[Source], adatas: Sequence[AnnData], features: Sequence[str]) -> AnnData:
    """Cells of these sources, one data set below the other, as a model of these features that was set up with them reads them."""
    features = pd.Index(features)
    return AnnData(
        sparse.vstack([_counts(s, a, features) for s, a in zip(sources, adatas, strict=True)], format="csr"),
        obs=_obs(sources, adatas),
        var=pd.DataFrame(index=features),
    )


def kind_of(sources: Sequence[Source], adata: AnnData) -> Source:
    """Which source these cells are of: the first that measured no feature that ``adata`` lacks."""
    if not isinstance(adata, AnnData):
        raise ArgumentError(f"Cells come as an AnnData, or as one for each of {' and '.join(s.name for s in sources)}, not as {adata!r}.")
    lacks = {s.name: [f for f in s.features if f not in adata.var_names] for s in sources}
    for s in sources:
        if not lacks[s.name]:
            return s
    raise DataError(
        "These cells lack features of every data set that the model knows.",
        "Features are matched by name.",
        [f"{name}: {len(absent):,} are missing, e.g. {', '.join(absent[:5])}" for name, absent in lacks.items()],
    )


def _counts(source: Source, adata: AnnData, features: pd.Index) -> sparse.csr_matrix:
    layer = source.keys.get("layer")
    at = adata.var_names.astype(str).get_indexer(pd.Index(source.features))
    if (at < 0).any():
        kind_of([source], adata)  # says which
    x = read_slice(matrix_of(adata, str(layer) if layer else None)).astype(np.float32)
    x = x if (at == np.arange(x.shape[1])).all() and len(at) == x.shape[1] else x[:, at]
    empty = np.flatnonzero(np.asarray(x.sum(1)).ravel() == 0)
    if len(empty):
        raise DataError(
            f"{len(empty):,} cells of the {source.name} data have no counts in its {len(at):,} features, e.g. {adata.obs_names[empty[0]]}.",
            "Leave them out: no model can say anything about them.",
        )
    if len(at) == len(features):
        return x
    x = sparse.csr_matrix((x.data, features.get_indexer(pd.Index(source.features))[x.indices], x.indptr), (x.shape[0], len(features)))
    x.sort_indices()
    return x


def _obs(sources: Sequence[Source], adatas: Sequence[AnnData]) -> pd.DataFrame:
    """All columns of all; what came out mixed is text."""
    parts = []
    for s, adata in zip(sources, adatas, strict=True):
        labels = s.keys.get("labels_key")
        part = adata.obs.drop(columns=[SOURCE, BATCH, LABEL], errors="ignore")
        part = part.assign(
            **{SOURCE: s.name, BATCH: _batch(s, adata), LABEL: column(adata.obs, str(labels)).astype(str) if labels else s.name}
        )
        parts.append(part)
    obs = pd.concat(parts)
    for name in obs:
        if obs[name].dtype == object and name not in (SOURCE, BATCH):
            obs[name] = pd.Categorical(obs[name].astype(str).where(obs[name].notna()))
    batches = [b for s in sources for b in s.batches.values()]
    obs[BATCH], obs[SOURCE] = pd.Categorical(obs[BATCH], batches), pd.Categorical(obs[SOURCE], [s.name for s in sources])
    if not any(s.keys.get("labels_key") for s in sources):
        del obs[LABEL]
    if not obs.index.is_unique:
        obs.index = obs.index.astype(str) + "-" + obs[SOURCE].astype(str)
    return obs


def _batch(source: Source, adata: AnnData) -> np.ndarray:
    """Each cell's batch, by its name beside the others'."""
    key = source.keys.get("batch_key")
    if not key:
        return np.repeat(source.name, adata.n_obs)
    values = column(adata.obs, str(key)).astype(str).to_numpy()
    for value in np.unique(values):
        if value not in source.batches:
            raise DataError(unknown(f"batch of the {source.name} data", value, source.batches), "The model has no weights for others.")
    return np.array([source.batches[v] for v in values], dtype=object)
