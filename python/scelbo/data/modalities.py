"""Where the features of a field stand: in a layer, among those of one type, in ``obsm``, or in a modality of a MuData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from scelbo.data.counts import as_csr
from scelbo.data.disk import on_disk
from scelbo.data.fields import Batch, Field
from scelbo.data.matrix import matrix_of
from scelbo.errors import ArgumentError, DataError, SetupError, unknown

Data: TypeAlias = AnnData | MuData
"""What a model reads: one table of cells, or several that share cells."""
MODALITIES, TYPES = "modalities", ("feature_types", "modality")
"""The key under which a setup notes the modalities; columns of ``var`` in which readers of 10x files note what a feature is."""


class Held(NamedTuple):
    """The matrix of a field, cells x features."""

    matrix: Any
    names: pd.Index  # of the features
    where: str
    columns: np.ndarray | None = None  # where these stand in the matrix, if it has others too


def held(data: Data, declared: Field, keys: Mapping[str, Any]) -> Held | None:
    """The matrix that a field reads, with a row for every cell (an empty one where a cell is not in that modality).

    Parameters
    ----------
    data
        An AnnData or a MuData.
    declared
        The field.
    keys
        Of the setup.

    Returns
    -------
    None where the keys name none.

    Raises
    ------
    SetupError, DataError
        What the keys name is not there.
    """
    key = keys.get(declared.argument)
    if declared.of is not None and key is None:
        return None
    if isinstance(data, MuData):
        name = keys.get(MODALITIES, {}).get(declared.argument)
        return None if name is None else _of_modality(data, name, key)
    if declared.kind == "matrix":
        return None if key is None else _of_obsm(data, key, keys.get(declared.names) if declared.names else None)
    matrix, where = matrix_of(data, key), "adata.X" if key is None else f"adata.layers[{key!r}]"
    names = data.var_names.astype(str)
    if not declared.types:
        return Held(matrix, names, where)
    noted = next((column for column in TYPES if column in data.var), None)
    if noted is None:
        raise SetupError(
            f"adata.var[{TYPES[0]!r}] must say what each feature is: {' or '.join(map(repr, declared.types))}, ...",
            "read_10x_multiome() notes it, as the files say; or give a MuData: setup_mudata(mdata, modalities={...}).",
        )
    columns = np.flatnonzero(data.var[noted].astype(str).isin(declared.types))
    return Held(matrix, names[columns], f"{where} ({declared.types[0]})", columns) if len(columns) else None


def _of_obsm(data: AnnData, key: str, names_key: str | None) -> Held:
    if key not in data.obsm:
        raise SetupError(unknown("obsm key", key, data.obsm.keys()), "Name an entry of adata.obsm.")
    matrix, where = data.obsm[key], f"adata.obsm[{key!r}]"
    if names_key is not None:
        if names_key not in data.uns:
            raise SetupError(
                unknown("uns key", names_key, data.uns.keys()), f"Name the entry of adata.uns that names the columns of {where}."
            )
        names = pd.Index(np.asarray(data.uns[names_key]).astype(str))
    else:
        names = pd.Index(matrix.columns.astype(str)) if isinstance(matrix, pd.DataFrame) else pd.RangeIndex(matrix.shape[1]).astype(str)
    if len(names) != matrix.shape[1]:
        raise DataError(f"{where} has {matrix.shape[1]} columns, and adata.uns[{names_key!r}] {len(names)} names.")
    return Held(matrix.to_numpy() if isinstance(matrix, pd.DataFrame) else matrix, names, where)


def _of_modality(data: MuData, name: str, layer: str | None) -> Held:
    if name not in data.mod:
        raise SetupError(unknown("modality", name, data.mod), "Name one of mdata.mod: modalities={'rna_layer': 'rna', ...}.")
    part: AnnData = data.mod[name]
    matrix, where = matrix_of(part, layer), f"mdata.mod[{name!r}]." + ("X" if layer is None else f"layers[{layer!r}]")
    rows = np.asarray(data.obsmap[name]).astype(np.int64).ravel() - 1
    if len(rows) != part.n_obs or (rows != np.arange(len(rows))).any():
        if on_disk(matrix):
            raise DataError(f"{where} is on disk, and its cells are not those of the MuData in their order.", "Read it into memory.")
        whole = as_csr(matrix)
        matrix = sparse.vstack([whole, sparse.csr_matrix((1, whole.shape[1]), dtype=whole.dtype)], format="csr")[rows]  # -1: the empty row
    return Held(matrix, part.var_names.astype(str), where)


def obs_of(data: Data, keys: Mapping[str, Any]) -> pd.DataFrame:
    """The cells' annotation, with the columns that a setup names in the ``obs`` of modalities only.

    A column that no modality is named for is looked for in all of them: the first that knows a cell says its value.
    """
    if isinstance(data, AnnData):
        return data.obs
    found: dict[str, pd.Series] = {}
    for argument, key in keys.items():
        for column in () if argument == MODALITIES or key is None else [key] if isinstance(key, str) else key:
            named = keys.get(MODALITIES, {}).get(argument)
            parts = [data.mod[named]] if named in data.mod else [] if column in data.obs else data.mod.values()
            for part in parts:
                if column in part.obs:
                    values = part.obs[column].astype(object if part.obs[column].dtype.kind not in "fiu" else part.obs[column].dtype)
                    values = values.reindex(data.obs_names)
                    found[column] = found[column].combine_first(values) if column in found else values
    return data.obs.assign(**found)


def keys_of(data: Any, cells_type: type[Batch], modalities: Mapping[str, str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``setup_mudata`` as a setup notes them: by the names of ``setup_anndata``, with the modality of each.

    ``modalities`` None: each layer in the modality that its argument is named after, or where there is but one, in that.

    Raises
    ------
    SetupError
        It is no MuData.
    ArgumentError
        An argument that the model does not have, or a modality that is not there.
    """
    if not isinstance(data, MuData):
        raise SetupError(f"setup_mudata() needs a MuData, not {type(data).__name__}.", "For one AnnData call setup_anndata().")
    fields = cells_type.fields()
    names = {declared.mudata or declared.argument: declared.argument for declared in fields.values()}
    names |= {declared.missing: declared.missing for declared in fields.values() if declared.missing}
    means = {declared.argument: fields[declared.of].mudata or fields[declared.of].argument for declared in fields.values() if declared.of}
    layers = [a for a in names if a.rpartition("_")[2] == "layer" and a not in means]
    if modalities is None:
        modalities = {a: name for a in layers for name in data.mod if name == a.partition("_")[0] or len(data.mod) == len(layers) == 1}
    if not any(a in modalities for a in layers):
        raise ArgumentError(
            f"Of the modalities {', '.join(map(repr, data.mod))} none is named for {' or '.join(layers)}.",
            f"Say which it is: setup_mudata(mdata, modalities={{{layers[0]!r}: {next(iter(data.mod))!r}}}).",
        )
    for argument, name in modalities.items():
        if argument not in names:
            raise ArgumentError(unknown("entry of modalities", argument, names))
        if name not in data.mod:
            raise ArgumentError(unknown(f"modality for {argument}", name, data.mod))
    for argument in given:
        if argument not in names:
            raise ArgumentError(unknown("setup_mudata() argument", argument, names))
    modalities = {**{a: modalities[of] for a, of in means.items() if of in modalities}, **modalities}  # they are where what they are of is
    return {names[a]: key for a, key in given.items()} | {MODALITIES: {names[a]: name for a, name in modalities.items()}}
