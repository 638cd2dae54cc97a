"""Folders and files as Cell Ranger writes them, read back; scanpy's readers are asked where it has one."""

import gzip
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse
from scipy.io import mmwrite

from scelbo.data import read_10x_atac, read_10x_multiome
from scelbo.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scanpy as sc

N_CELLS, N_PEAKS = 7, 5
BARCODES = ["AAAC-1", "AAAG-1", "AACC-2", "AACG-2", "AACT-10", "AAGA-10", "AAGC-1"]
PEAKS = [("chr1", 9801, 10669), ("chr1", 180592, 181563), ("chrX", 0, 1), ("KI270728.1", 6, 7), ("chr_un-1:2", 5, 600)]
PEAK_NAMES = [f"{chromosome}:{start}-{end}" for chromosome, start, end in PEAKS]
GENES = [("ENSG1", "CD4", "chr12", 5, 80), ("ENSG2", "ATAD3C", "chr1", 7, 9), ("ENSG3", "CD4", "", "", "")]
FEATURES = [  # of both kinds, in no order
    *[(i, name, "Gene Expression", *place) for i, name, *place in GENES[:2]],
    *[(name, name, "Peaks", *place) for name, place in zip(PEAK_NAMES, PEAKS, strict=True)],
    *[(i, name, "Gene Expression", *place) for i, name, *place in GENES[2:]],
]


def lines(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def counts(n_features, seed=3):
    """Features x barcodes, with an empty cell."""
    matrix = np.random.default_rng(seed).poisson(0.9, (n_features, N_CELLS))
    matrix[:, 2] = 0
    return sparse.csc_matrix(matrix)


def write_folder(folder, matrix, table, rows, zipped=False, barcodes=BARCODES, header=""):
    folder.mkdir(exist_ok=True)
    mmwrite(folder / "matrix.mtx", matrix, field="integer")
    (folder / table).write_text(header + lines(rows))
    (folder / "barcodes.tsv").write_text(lines([b] for b in barcodes))
    for file in list(folder.iterdir()) if zipped else []:
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return folder


def write_h5(file, matrix, features, interval=True, barcodes=BARCODES):
    """In the layout that 10x documents, with the indices of each barcode in descending order, which it allows."""
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]).astype(int)
    with h5py.File(file, "w") as h5:
        group = h5.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S18")
        group["data"], group["indices"] = matrix.data[order].astype("int32"), matrix.indices[order].astype("int64")
        group["indptr"], group["shape"] = matrix.indptr.astype("int64"), np.array(matrix.shape, "int32")
        table = group.create_group("features")
        table["_all_tag_keys"] = np.array(["genome"], "S")
        for at, name in enumerate(["id", "name", "feature_type"]):
            table[name] = np.array([row[at] for row in features], "S")
        table["genome"] = np.array(["GRCh38"] * len(features), "S")
        if interval:
            table["interval"] = np.array([f"{row[3]}:{row[4]}-{row[5]}" if row[3] else "NA" for row in features], "S")
    return file


def atac(tmp_path, kind, matrix):
    if kind == "h5":
        rows = [(name, name, "Peaks") for name in PEAK_NAMES]
        return write_h5(tmp_path / "filtered_peak_bc_matrix.h5", matrix, rows, interval=False)
    return write_folder(tmp_path / "filtered_peak_bc_matrix", matrix, "peaks.bed", PEAKS, zipped=kind == "gz")


def multiome(tmp_path, kind, matrix):
    if kind == "h5":
        return write_h5(tmp_path / "filtered_feature_bc_matrix.h5", matrix, FEATURES)
    return write_folder(tmp_path / "filtered_feature_bc_matrix", matrix, "features.tsv", FEATURES, zipped=kind == "gz")


def assert_like_scanpy(adata, theirs):
    """The same counts, cell by cell and feature by feature, whatever the order of features."""
    assert adata.obs_names.equals(theirs.obs_names)
    assert sorted(adata.var_names) == sorted(theirs.var_names)
    assert (adata.X != theirs[:, adata.var_names].X).nnz == 0


# ---------------------------------------------------------------------- what is read
@pytest.mark.parametrize("kind", ["plain", "gz", "h5"])
def test_peaks_are_read_as_they_were_written(tmp_path, kind):
    matrix = counts(N_PEAKS)
    adata = read_10x_atac(atac(tmp_path, kind, matrix))
    assert isinstance(adata.X, sparse.csr_matrix) and adata.X.dtype == np.float32 and adata.X.has_sorted_indices
    np.testing.assert_array_equal(adata.X.toarray(), matrix.T.toarray())
    assert list(adata.obs_names) == BARCODES and list(adata.var_names) == PEAK_NAMES
    assert list(adata.var.columns) == ["chr", "start", "end"]
    assert list(adata.var.itertuples(index=False, name=None)) == PEAKS
    assert list(adata.obs["batch_id"]) == [1, 1, 2, 2, 10, 10, 1]


@pytest.mark.parametrize("kind", ["gz", "h5"])
def test_genes_come_before_peaks(tmp_path, kind):
    matrix = counts(len(FEATURES))
    adata = read_10x_multiome(multiome(tmp_path, kind, matrix))
    order = [0, 1, 7, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(adata.X.toarray(), matrix.T.toarray()[:, order])
    assert list(adata.var_names) == ["CD4", "ATAD3C", "CD4-1", *PEAK_NAMES]
    assert list(adata.var.columns) == ["ID", "modality", "chr", "start", "end"]
    assert list(adata.var["ID"]) == ["ENSG1", "ENSG2", "ENSG3", *PEAK_NAMES]
    assert list(adata.var["modality"]) == ["Gene Expression"] * 3 + ["Peaks"] * N_PEAKS
    places = adata.var[["chr", "start", "end"]]
    assert places.loc["CD4-1"].isna().all() and list(places.dtypes.astype(str)) == ["category", "Int64", "Int64"]
    known = places.drop("CD4-1").itertuples(index=False, name=None)
    assert list(known) == [*(tuple(place) for _, _, *place in GENES[:2]), *PEAKS]
    assert adata.X.dtype == np.float32


@pytest.mark.parametrize("kind", ["gz", "h5"])
def test_scanpy_reads_the_same_counts(tmp_path, kind):
    path = multiome(tmp_path, kind, counts(len(FEATURES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sc.read_10x_h5(path, gex_only=False) if kind == "h5" else sc.read_10x_mtx(path, gex_only=False)
    theirs.var_names_make_unique()
    ours = read_10x_multiome(path)
    assert_like_scanpy(ours, theirs)
    shared = theirs.var.loc[ours.var_names]
    assert list(ours.var["modality"]) == list(shared["feature_types"]) and list(ours.var["ID"]) == list(shared["gene_ids"])


def test_scanpy_reads_the_same_peaks(tmp_path):
    path = atac(tmp_path, "h5", counts(N_PEAKS))
    assert_like_scanpy(read_10x_atac(path), sc.read_10x_h5(path, gex_only=False))
    folder = atac(tmp_path, "plain", counts(N_PEAKS))
    assert (read_10x_atac(folder).X != sc.read_mtx(folder / "matrix.mtx").X.T).nnz == 0


def test_what_was_read_can_be_written_and_read(tmp_path):
    adata = read_10x_multiome(multiome(tmp_path, "h5", counts(len(FEATURES))))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(back.var, adata.var)
    pd.testing.assert_frame_equal(back.obs, adata.obs)


def test_comments_and_further_columns_of_a_bed_file_are_passed_over(tmp_path):
    rows = [(*place, f"peak{i}", "#1") for i, place in enumerate(PEAKS)]
    header = "# id=sample\n# primary_contig=chr1\n"
    folder = write_folder(tmp_path / "bed", counts(N_PEAKS), "peaks.bed", rows, header=header)
    assert list(read_10x_atac(folder).var_names) == PEAK_NAMES


def test_features_without_places_have_those_in_their_names(tmp_path):
    rows = [row[:3] for row in FEATURES]
    folder = write_folder(tmp_path / "old", counts(len(rows)), "features.tsv", rows)
    var = read_10x_multiome(folder).var
    assert list(var[var["modality"] == "Peaks"][["chr", "start", "end"]].itertuples(index=False, name=None)) == PEAKS
    assert var[var["modality"] != "Peaks"][["chr", "start", "end"]].isna().all(axis=None)


@pytest.mark.parametrize(("barcodes", "batch"), [(["A", "B"], [1, 1]), (["A-1-left", "B-1-right"], ["left", "right"])])
def test_barcodes_that_others_renamed(tmp_path, barcodes, batch):
    folder = write_folder(tmp_path / "own", counts(N_PEAKS)[:, :2], "peaks.bed", PEAKS, barcodes=barcodes)
    adata = read_10x_atac(folder)
    assert list(adata.obs_names) == barcodes and list(adata.obs["batch_id"]) == batch


# ---------------------------------------------------------------------- what cannot be read
def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="There is no file or folder") as none:
        read_10x_atac(tmp_path / "nowhere")
    assert "filtered_peak_bc_matrix" in none.value.hint
    folder = atac(tmp_path, "gz", counts(N_PEAKS))
    with pytest.raises(
        DataError, match=r"no features\.tsv or features\.tsv\.gz .*it holds barcodes\.tsv\.gz, matrix\.mtx\.gz, peaks\.bed\.gz"
    ):
        read_10x_multiome(folder)
    (folder / "matrix.mtx.gz").unlink()
    with pytest.raises(DataError, match=r"no matrix\.mtx or matrix\.mtx\.gz"):
        read_10x_atac(folder)


@pytest.mark.parametrize("short", ["peaks.bed", "barcodes.tsv"])
def test_lengths_that_do_not_fit(tmp_path, short):
    folder = atac(tmp_path, "plain", counts(N_PEAKS))
    text = (folder / short).read_text().splitlines(keepends=True)
    (folder / short).write_text("".join(text[:-1]))
    named = "4 features and 7 barcodes" if short == "peaks.bed" else "5 features and 6 barcodes"
    with pytest.raises(DataError, match=f"the matrix has 5 features x 7 barcodes, but {named} are named"):
        read_10x_atac(folder)


@pytest.mark.parametrize(
    "bad", ["chr1\t5\n", "chr1\tfive\t9\n", "chr1\t9\t9\n", "\t1\t9\n", "chr1\t-4\t9\n", "chr1 1 9\n", "chr1\t1.5\t9\n"]
)
def test_a_malformed_line_is_shown(tmp_path, bad):
    folder = atac(tmp_path, "plain", counts(N_PEAKS))
    text = (folder / "peaks.bed").read_text().splitlines(keepends=True)
    (folder / "peaks.bed").write_text("".join([*text[:2], bad, *text[3:]]))
    with pytest.raises(DataError, match="feature 3 of 5 is no peak") as raised:
        read_10x_atac(folder)
    assert repr(bad.rstrip("\n").split("\t")[0]) in str(raised.value) and "tab" in raised.value.hint
    (folder / "peaks.bed").write_text("".join([*text[:2], bad, bad, *text[4:]]))
    with pytest.raises(DataError, match=r"\(2 such lines in all\)"):
        read_10x_atac(folder)


def test_a_peak_without_a_place_in_a_file(tmp_path):
    rows = [(name, name, "Peaks") for name in [*PEAK_NAMES[:4], "peak5"]]
    file = write_h5(tmp_path / "peaks.h5", counts(N_PEAKS), rows, interval=False)
    with pytest.raises(DataError, match="feature 5 of 5 is no peak"):
        read_10x_atac(file)


def test_the_other_reader_is_named(tmp_path):
    both = multiome(tmp_path, "h5", counts(len(FEATURES)))
    with pytest.raises(DataError, match="holds 'Gene Expression' and 'Peaks', where 'Peaks' are wanted") as raised:
        read_10x_atac(both)
    assert "read_10x_multiome()" in raised.value.hint
    with pytest.raises(DataError, match="holds 'Peaks', where 'Gene Expression' and 'Peaks' are wanted"):
        read_10x_multiome(atac(tmp_path, "h5", counts(N_PEAKS)))
    rows = [*FEATURES[:-1], ("CD3", "CD3", "Antibody Capture")]
    with pytest.raises(DataError, match="holds 'Antibody Capture' and 'Gene Expression' and 'Peaks'"):
        read_10x_multiome(write_h5(tmp_path / "proteins.h5", counts(len(rows)), rows, interval=False))


@pytest.mark.parametrize("file", ["matrix.mtx.gz", "peaks.bed.gz", "barcodes.tsv.gz"])
def test_files_that_are_cut_short_or_empty(tmp_path, file):
    folder = atac(tmp_path, "gz", counts(N_PEAKS))
    whole = (folder / file).read_bytes()
    for broken in (whole[:-12], b"no gzip at all", whole[:10] + b"\xff" * 8 + whole[18:]):
        (folder / file).write_bytes(broken)
        with pytest.raises(DataError, match=f"{file}.* cannot be read"):
            read_10x_atac(folder)
    (folder / file).write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"cannot be read|but 0 features and 7|but 5 features and 0"):
        read_10x_atac(folder)


@pytest.mark.parametrize(
    "text",
    [
        "2 2 1\n1 1 1\n",
        "%%MatrixMarket matrix coordinate integer general\n5 7 2\n1 1 3\n",
        "%%MatrixMarket matrix coordinate integer general\n5 7 1\n6 1 3\n",
    ],
)
def test_a_malformed_matrix(tmp_path, text):
    folder = atac(tmp_path, "plain", counts(N_PEAKS))
    (folder / "matrix.mtx").write_text(text)
    with pytest.raises(DataError, match=r"matrix\.mtx.* cannot be read"):
        read_10x_atac(folder)


def test_files_of_another_format(tmp_path):
    folder = atac(tmp_path, "plain", counts(N_PEAKS))
    with pytest.raises(DataError, match=r"peaks\.bed.* cannot be read"):
        read_10x_atac(folder / "peaks.bed")
    AnnData(np.ones((2, 2), "float32")).write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(DataError, match=r"cells\.h5ad.* cannot be read"):
        read_10x_atac(tmp_path / "cells.h5ad")
    file = atac(tmp_path, "h5", counts(N_PEAKS))
    with h5py.File(file, "a") as h5:
        h5["matrix/indices"][0] = N_PEAKS
    with pytest.raises(DataError, match=r"filtered_peak_bc_matrix\.h5.* cannot be read"):
        read_10x_atac(file)
