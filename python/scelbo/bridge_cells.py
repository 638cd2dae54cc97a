"""Cells between R and Python: count matrices and what lies beside them, as AnnData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.io import sparse_dataset, write_elem

from scelbo.data.disk import read_or_leave, read_slice
from scelbo.errors import ArgumentError, unknown
from scelbo.whole import ForHDF5


def counts(i: np.ndarray, p: np.ndarray, x: np.ndarray, n_obs: int, n_vars: int) -> sp.csr_matrix:
    """CSR of cells x genes from the slots of R's genes x cells ``dgCMatrix``: the same three vectors, no transpose.

    They are copied, as R may free its own at any time.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # R's NA; what is no count is named later
        values = np.array(x, "float32")
    matrix = sp.csr_matrix((values, np.array(i, "int32"), np.array(p, "int32")), shape=(int(n_obs), int(n_vars)))
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    return matrix


def anndata(
    matrix: sp.csr_matrix,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    obsm: Mapping[str, np.ndarray] | None = None,
    tables: Mapping[str, tuple[np.ndarray, Sequence[str]]] | None = None,
    layers: Mapping[str, sp.csr_matrix] | None = None,
) -> AnnData:
    """An AnnData of what was sent; ``tables`` are further matrices of cells x features with the names of these."""
    adata = AnnData(matrix, obs=obs, var=var, obsm={k: np.array(v) for k, v in (obsm or {}).items()}, layers=dict(layers or {}))
    for key, (values, names) in (tables or {}).items():
        adata.obsm[key] = pd.DataFrame(np.array(values, "float32"), index=adata.obs_names, columns=list(names))
    return adata


def append_rows(path: str, rows: sp.csr_matrix) -> None:
    """Write rows below those that a file holds already (none: a new one)."""
    rows.indptr = rows.indptr.astype(np.int64)  # more values than 32 bits can count may follow
    with ForHDF5(path, "r+" if Path(path).exists() else "w+") as disk, h5py.File(disk, "a") as file:
        if "X" in file:
            sparse_dataset(file["X"]).append(rows)
        else:
            write_elem(file, "X", rows)


def rows_on_disk(path: str) -> Any:
    """What :func:`append_rows` wrote."""
    return sparse_dataset(h5py.File(path, "r")["X"])


def as_anndata(data: AnnData | str, genes: Sequence[str] | None = None) -> AnnData:
    """An AnnData or a file, cut to ``genes`` (by name, in their order); a large file's matrices stay in it."""
    if isinstance(data, str):
        data = read_or_leave(data)
    if genes is None or list(genes) == list(data.var_names):
        return data
    for gene in genes:
        if gene not in data.var_names:
            raise ArgumentError(unknown("feature", gene, data.var_names))
    part = data[:, list(genes)]
    return part.to_memory() if data.isbacked else part.copy()


def layers(adata: AnnData) -> list[str]:
    """Names of the layers."""
    return list(adata.layers)


def slots(matrix: Any) -> dict[str, np.ndarray]:
    """The inverse of :func:`counts`: the slots of a genes x cells ``dgCMatrix``."""
    rows = read_slice(matrix)
    rows.sum_duplicates()
    return {"i": rows.indices.astype("int32"), "p": rows.indptr.astype("int32"), "x": rows.data.astype("float64")}


def obsm_keys(adata: AnnData) -> list[str]:
    """Names of what ``obsm`` holds."""
    return list(adata.obsm)


def placed(model: Any, adata: AnnData, layer: str | None = None, tables: Mapping[str, str] | None = None) -> AnnData:
    """``adata`` with the counts of ``layer`` (None: X) where the model reads them; counts are shared, not copied.

    ``tables``: the key in ``obsm`` that the model reads -> the one that these cells have in its place.
    """
    kept = [f for f in model.Cells.fields().values() if f.kind == "counts" and not f.of]
    wanted = next((key for f in kept if (key := model.setup.keys.get(f.argument))), None)
    moved = {key: adata.obsm[there] for key, there in (tables or {}).items() if key != there and there in adata.obsm}
    in_place = wanted == layer or (wanted is not None and wanted in adata.layers)
    if in_place and not moved:
        return adata
    x = adata.X if layer is None or in_place else adata.layers[layer]
    layers = dict(adata.layers) if in_place or wanted is None else {**adata.layers, wanted: x}
    return AnnData(x, obs=adata.obs, var=adata.var, layers=layers, obsm={**adata.obsm, **moved})


def optional_columns(model: Any) -> list[str]:
    """Columns of ``obs`` that further cells need not have: a label may be missing of all of them."""
    keys = model.setup.keys
    return [keys[f.argument] for f in model.Cells.fields().values() if f.missing and keys.get(f.argument)]


def counts_all(kind: Any) -> bool:
    """Whether a model (or its class) reads the library sizes of all features, and models some."""
    return any(f.part for f in kind.Cells.fields().values())


def grouped(model: Any, adata: AnnData | None, groups: pd.DataFrame) -> AnnData:
    """The cells of ``adata`` (or the model's own) with the columns of ``groups`` beside theirs; counts are shared, not copied."""
    cells = model.adata if adata is None else adata
    obs = cells.obs.assign(**{name: groups[name].to_numpy() if groups[name].dtype == object else groups[name].array for name in groups})
    return AnnData(cells.X, obs=obs, var=cells.var, uns=cells.uns, layers=dict(cells.layers), obsm=dict(cells.obsm))


def features_of(model: Any, field: str) -> list[str]:
    """Names of the features of a field; none where these data do not have it."""
    return list(model.setup.features.get(field, ()))


def unmeasured(model: Any) -> dict[str, list[str]]:
    """Batch -> the proteins without a count in it, which the model takes for not measured there."""
    proteins = getattr(model.module, "proteins", None)
    if proteins is None:
        return {}
    names, batches = np.asarray(features_of(model, "protein")), model.setup.categories["batch"]
    lacks = proteins.measured.rows().cpu().numpy() == 0
    return {str(batch): names[row].tolist() for batch, row in zip(batches, lacks, strict=True) if row.any()}


def observed(model: Any, field: str, adata: AnnData | None = None, indices: Any = None) -> np.ndarray:
    """The counts of a dense field as the model reads them, cells x features."""
    values = model.read(adata)[field].numpy().astype("float64")
    return values if indices is None else values[np.asarray(indices, "int64")]
