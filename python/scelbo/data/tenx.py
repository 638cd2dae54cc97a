"""What 10x Genomics' Cell Ranger ATAC and ARC write: counts of features x barcodes, a folder of text or one HDF5 file."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse
from scipy.io import mmread

from scelbo.errors import DataError

GENES, PEAKS = "Gene Expression", "Peaks"
PLACE = ["chr", "start", "end"]
HINT = (
    "Give a folder or an .h5 file as Cell Ranger wrote it: filtered_peak_bc_matrix to read_10x_atac(), "
    "filtered_feature_bc_matrix to read_10x_multiome()."
)


class TenX(NamedTuple):
    """One matrix as it was written; ``features`` has the columns ``ID name modality chr start end``."""

    counts: sparse.csr_matrix  # cells x features
    barcodes: pd.Series
    features: pd.DataFrame


def read_10x_atac(path: str | Path) -> AnnData:
    r"""Cells x peaks from Cell Ranger ATAC.

    Parameters
    ----------
    path
        The folder ``filtered_peak_bc_matrix`` (``matrix.mtx``, ``peaks.bed``, ``barcodes.tsv``, each also as ``.gz``), or the
        file ``filtered_peak_bc_matrix.h5``.

    Returns
    -------
    Counts of cut sites, CSR float32, see :func:`~scelbo.data.readers.reads_to_fragments`; ``obs["batch_id"]``, the number of the
    GEM well behind the barcode's last ``-`` (1 where there is none; text where someone wrote text); var named ``chr:start-end``
    with ``chr``, ``start``, ``end`` as in a BED file (from zero, the end is not part of the peak).

    Raises
    ------
    DataError
        A file is not there or cannot be read, the three do not fit, or a line is no peak.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-2\n")
    >>> _ = (folder / "peaks.bed").write_text("chr1\t100\t600\nchrX\t7\t90\n")
    >>> _ = (folder / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 2\n1 1 2\n2 2 4\n")
    >>> adata = read_10x_atac(folder)
    >>> adata.to_df()
            chr1:100-600  chrX:7-90
    AAAC-1           2.0        0.0
    AAAG-2           0.0        4.0
    >>> adata.obs["batch_id"].tolist()
    [1, 2]
    """
    found = _read(path, "peaks.bed", PLACE, {PEAKS})
    return _adata(found, found.features[PLACE].set_axis(found.features["ID"]))


def read_10x_multiome(path: str | Path) -> AnnData:
    r"""Cells x (genes, then peaks) from Cell Ranger ARC.

    Parameters
    ----------
    path
        The folder ``filtered_feature_bc_matrix`` (``matrix.mtx``, ``features.tsv``, ``barcodes.tsv``, each also as ``.gz``), or the
        file ``filtered_feature_bc_matrix.h5``.

    Returns
    -------
    Counts, CSR float32; ``obs["batch_id"]``, the number of the GEM well behind the barcode's last ``-``; var named by symbol (made
    unique: ``A``, ``A-1``) and ``chr:start-end``, with ``ID``, ``modality`` (``"Gene Expression"`` or ``"Peaks"``), and ``chr``,
    ``start``, ``end`` as in a BED file, missing for genes that Cell Ranger could not place.

    Raises
    ------
    DataError
        A file is not there or cannot be read, the three do not fit, features are not of these two kinds, or a peak has no place.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-1\n")
    >>> _ = (folder / "features.tsv").write_text(
    ...     "chr1:100-600\tchr1:100-600\tPeaks\tchr1\t100\t600\nENSG01\tCD4\tGene Expression\tchr12\t5\t80\n"
    ... )
    >>> _ = (folder / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 2\n1 1 2\n2 2 3\n")
    >>> adata = read_10x_multiome(folder)
    >>> adata.to_df()
            CD4  chr1:100-600
    AAAC-1  0.0           2.0
    AAAG-1  3.0           0.0
    >>> adata[:, adata.var["modality"] == "Peaks"].var[["chr", "start", "end"]]
                   chr  start  end
    chr1:100-600  chr1    100  600
    """
    found = _read(path, "features.tsv", ["ID", "name", "modality", *PLACE], {GENES, PEAKS})
    features = found.features.assign(modality=pd.Categorical(found.features["modality"], [GENES, PEAKS]))
    order = np.argsort(features["modality"].cat.codes.to_numpy(), kind="stable")
    if (np.diff(order) < 0).any():
        features, found = features.iloc[order], found._replace(counts=found.counts[:, order])
    return _adata(found, features[["ID", "modality", *PLACE]].set_axis(features["name"]))


# ---------------------------------------------------------------------- files
def _read(path: str | Path, table: str, columns: list[str], kinds: set[str]) -> TenX:
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"There is no file or folder {str(path)!r}.", HINT)
    found = _h5(path) if path.is_file() else _folder(path, table, columns)
    n_cells, n_features = found.counts.shape
    if (n_cells, n_features) != (len(found.barcodes), len(found.features)):
        raise DataError(
            f"{str(path)!r}: the matrix has {n_features} features x {n_cells} barcodes, "
            f"but {len(found.features)} features and {len(found.barcodes)} barcodes are named.",
            "Matrix, features and barcodes must be of one run: copy all of them again from Cell Ranger's outs folder.",
        )
    holds = set(found.features["modality"])
    if holds != kinds:
        raise DataError(
            f"{str(path)!r} holds {' and '.join(map(repr, sorted(holds)))}, where {' and '.join(map(repr, sorted(kinds)))} are wanted.",
            HINT,
        )
    return found._replace(features=_placed(path, found.features))


def _file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    holds = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
    raise DataError(f"There is no {name} or {name}.gz in {str(folder)!r}; it holds {holds}.", HINT)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, OverflowError, OSError, EOFError, zlib.error) as problem:
        why = problem.args[0] if isinstance(problem, KeyError) else problem  # str() of a KeyError adds quotes
        raise DataError(
            f"{str(file)!r} cannot be read: {why}",
            "It may be cut short, or not of this format: copy it again from Cell Ranger's outs folder.",
        ) from problem


def _text(file: Path, columns: list[str], comment: str | None = None) -> pd.DataFrame:
    """The first columns of a tab-separated file, as they are written; what is not there is empty."""
    widest = range(12)  # columns that a BED file may have: lines need not be of one length
    with _reading(file):
        table = pd.read_csv(
            file,
            sep="\t",
            names=widest,
            dtype=str,
            comment=comment,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            index_col=False,
        )
    return table.iloc[:, : len(columns)].set_axis(columns, axis=1)


def _folder(folder: Path, table: str, columns: list[str]) -> TenX:
    files = [_file(folder, name) for name in ("matrix.mtx", table, "barcodes.tsv")]
    with _reading(files[0]):
        counts = sparse.csr_matrix(mmread(files[0]).T, dtype=np.float32)
    features = _text(files[1], columns, comment="#" if table.endswith(".bed") else None)
    if "ID" not in columns:
        features = features.assign(ID=features["chr"] + ":" + features["start"] + "-" + features["end"], modality=PEAKS)
    return TenX(counts, _text(files[2], ["barcode"])["barcode"], features)


def _h5(file: Path) -> TenX:
    """Compressed columns of features x barcodes are compressed rows of cells x features: the same three vectors."""
    with _reading(file), h5py.File(file, "r") as h5:
        group = h5["matrix"]
        table = group["features"]
        features = pd.DataFrame({"ID": _strings(table["id"]), "name": _strings(table["name"]), "modality": _strings(table["feature_type"])})
        features[PLACE] = _split(_strings(table["interval"])) if "interval" in table else ""
        barcodes = _strings(group["barcodes"])
        vectors = group["data"].astype(np.float32)[:], group["indices"][:], group["indptr"][:]
        counts = sparse.csr_matrix(vectors, shape=tuple(group["shape"][:][::-1]))
        counts.check_format(full_check=True)
    counts.sum_duplicates()
    return TenX(counts, barcodes, features)


def _strings(dataset: h5py.Dataset) -> pd.Series:
    return pd.Series(dataset.asstr()[:], dtype=object)


# ---------------------------------------------------------------------- features and cells
def _split(names: pd.Series) -> pd.DataFrame:
    """``chr:start-end`` as three columns of text, empty where a name is none of these."""
    return names.str.extract(r"^(.+):([0-9]+)-([0-9]+)$").set_axis(PLACE, axis=1).fillna("")


def _placed(path: Path, features: pd.DataFrame) -> pd.DataFrame:
    """Places as numbers: every peak has one, by its name where nothing else says it."""
    place = features[PLACE].copy()
    bare = place.eq("").all(axis=1)
    place[bare] = _split(features["ID"][bare])
    numbers = place[["start", "end"]].apply(lambda text: pd.to_numeric(text.where(text.str.fullmatch("[0-9]{1,15}"))))
    known = place["chr"].ne("") & (numbers["end"] > numbers["start"])
    bad = ~known & (features["modality"] == PEAKS)
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{str(path)!r}: feature {first + 1} of {len(bad)} is no peak: chr, start, end are {', '.join(map(repr, place.iloc[first]))}"
            + (f" ({bad.sum()} such lines in all)." if bad.sum() > 1 else "."),
            "A peak is a chromosome, a start from zero and an end above it, three columns with a tab between.",
        )
    chromosomes = place["chr"].where(known)
    whole = numbers.where(known).astype("int64" if known.all() else "Int64")
    return features.assign(chr=pd.Categorical(chromosomes, chromosomes.dropna().unique()), start=whole["start"], end=whole["end"])


def _adata(found: TenX, var: pd.DataFrame) -> AnnData:
    well = found.barcodes.str.extract("-([^-]+)$")[0].fillna("1")
    well = well.astype("int64" if well.str.fullmatch("[0-9]+").all() else "category")
    obs = pd.DataFrame({"batch_id": well.array}, index=pd.Index(found.barcodes.to_numpy()))
    var.index = make_index_unique(pd.Index(var.index.to_numpy()))
    return AnnData(found.counts, obs=obs, var=var)
