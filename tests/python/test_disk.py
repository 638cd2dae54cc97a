"""Counts that lie on disk train, and answer, as those in memory do, and memory does not grow with them."""

import os
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scelbo import SCVI, errors
from scelbo.data import Loader, disk, read_backed
from scelbo.data.simulate import counts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata", "ignore::UserWarning:zarr", "ignore::FutureWarning:zarr")


@pytest.fixture(scope="module")
def cells():
    adata = counts(700, 40, stored=0.3)
    adata.layers["counts"] = adata.X
    adata.obsm["X_pca"] = np.ones((700, 2))
    adata.raw = adata.copy()
    return adata


def dense(adata):
    out = adata.copy()
    out.X = adata.X.toarray()
    return out


def written(adata, path, **how):
    (adata.write_h5ad if path.suffix == ".h5ad" else adata.write_zarr)(path, **how)
    return path


FORMS = {
    "h5ad": lambda a, to: anndata.read_h5ad(written(a, to / "a.h5ad"), backed="r"),
    "packed": lambda a, to: anndata.read_h5ad(written(a, to / "a.h5ad", compression="gzip"), backed="r"),
    "dense": lambda a, to: anndata.read_h5ad(written(dense(a), to / "a.h5ad"), backed="r"),
    "chunks": lambda a, to: read_backed(written(dense(a), to / "a.h5ad", compression="gzip")),
    "zarr": lambda a, to: read_backed(written(a, to / "a.zarr")),
    "dense zarr": lambda a, to: read_backed(written(dense(a), to / "a.zarr")),
    "dask": lambda a, to: anndata.AnnData(lazy(a.X, to), obs=a.obs, var=a.var),
}


def lazy(x, to):
    with h5py.File(to / "x.h5", "w") as file:
        anndata.io.write_elem(file, "x", x)
    return anndata.experimental.read_elem_lazy(h5py.File(to / "x.h5")["x"], chunks=(100, 40))


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(disk, "AT_ONCE", 96)
    monkeypatch.setattr(disk, "BLOCK", 8)


def model_of(adata, **keys):
    SCVI.setup_anndata(adata, batch_key="batch", **keys)
    return SCVI(adata, n_hidden=16, n_latent=3)


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("form", FORMS)
def test_minibatches_hold_what_memory_would_and_every_cell_once(cells, tmp_path, form):
    here, there = model_of(cells).read(), model_of(FORMS[form](cells, tmp_path)).read()
    rows = np.random.default_rng(0).choice(700, 600, replace=False)
    for rng in (np.random.default_rng(1), None):
        passed = list(Loader(there, rows, 32, rng))
        index = np.concatenate([batch.index.numpy() for batch in passed])
        assert sorted(index) == sorted(rows) and {len(batch) for batch in passed} <= {31, 32}
        if rng is None:
            np.testing.assert_array_equal(index, rows)
        for batch in passed:
            same = here.take(batch.index.numpy())
            for part in ("crow", "col", "val", "size", "log_factorial"):
                np.testing.assert_array_equal(getattr(batch.x, part), getattr(same.x, part))
            np.testing.assert_array_equal(batch.batch, same.batch)


@pytest.mark.usefixtures("few_at_once")
def test_training_and_answers_are_the_same_to_the_digit_on_the_same_minibatches(cells, tmp_path):
    here, there = model_of(cells), model_of(read_backed(written(cells, tmp_path / "a.h5ad")), layer="counts")
    assert there.read().at_once == 96 and here.read().at_once == 0
    here.read().at_once, here.read().block = 96, 8  # the order of reading from disk
    for model in (here, there):
        model.train(max_epochs=2, seed=0, batch_size=32, progress=False)
    pd.testing.assert_frame_equal(here._history, there._history)
    order = np.random.default_rng(0).permutation(700)
    for ask in (
        lambda model: model.get_latent_representation(indices=order, batch_size=50),
        lambda model: model.get_normalized_expression(indices=order[:99]),
        lambda model: model.get_elbo(seed=1),
        lambda model: model.differential_expression(groupby="batch", group1="batch0", seed=1).select_dtypes("number"),
        lambda model: model.minify().get_latent_representation(),
    ):
        np.testing.assert_array_equal(ask(here), ask(there))


@pytest.mark.usefixtures("few_at_once")
def test_the_order_is_random_within_reads_and_reads_are_of_blocks(cells, tmp_path, monkeypatch):
    data = model_of(FORMS["h5ad"](cells, tmp_path)).read()
    read = []
    monkeypatch.setattr("scelbo.data.matrix.read_rows", lambda matrix, rows: read.append(rows) or disk.read_rows(matrix, rows))
    first, second = (np.concatenate([c.index for c in Loader(data, np.arange(700), 32, np.random.default_rng(i))]) for i in range(2))
    assert (first != second).mean() > 0.9
    assert abs(np.corrcoef(first, np.arange(700))[0, 1]) < 0.4
    assert len(read) == 2 * 8  # 22 minibatches, three at once
    assert np.mean(np.diff(read[0]) == 1) > 0.8  # neighbours
    inside = np.diff(first[:32])
    assert (inside == 1).mean() < 0.2  # which are far apart in a minibatch


def test_what_fits_one_read_is_shuffled_as_in_memory(cells, tmp_path):
    orders = [
        np.concatenate([c.index for c in Loader(model_of(adata).read(), np.arange(700), 32, np.random.default_rng(0))])
        for adata in (cells, FORMS["h5ad"](cells, tmp_path))
    ]
    np.testing.assert_array_equal(*orders)


def test_rows_are_read_in_spans_and_only_small_gaps_are_read_along():
    class Dense(h5py.Dataset):
        shape = (100, 2)

        def __init__(self):
            self.spans = []

        def __getitem__(self, rows):
            self.spans.append((rows.start, rows.stop))
            return np.arange(200.0).reshape(100, 2)[rows]

    wanted = np.array([0, 1, 2 + disk.GAP, 50, 99])
    matrix = Dense()
    rows, at = disk.read_rows(matrix, wanted)
    assert matrix.spans == [(0, 3 + disk.GAP), (50, 51), (99, 100)]
    np.testing.assert_array_equal(rows[at].toarray()[:, 1], 2 * wanted + 1)


def test_the_stored_values_of_a_read_are_bounded(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "VALUES", 4000)
    monkeypatch.setattr(disk, "BLOCK", 8)
    x = FORMS["h5ad"](cells, tmp_path).X
    assert disk.rows_at_once(x) * cells.X.nnz / 700 == pytest.approx(4000, rel=0.01)


def test_all_but_the_matrices_is_read(cells, tmp_path):
    for name in ("a.h5ad", "a.zarr"):
        backed = read_backed(written(cells, tmp_path / name))
        assert disk.on_disk(backed.X) and disk.on_disk(backed.layers["counts"]) and backed.raw is None
        pd.testing.assert_frame_equal(backed.obs, cells.obs)
        pd.testing.assert_frame_equal(backed.var, cells.var)
        np.testing.assert_array_equal(backed.obsm["X_pca"], cells.obsm["X_pca"])


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_a_file_is_read_whole_where_memory_suffices(cells, tmp_path, monkeypatch, name):
    path = written(cells, tmp_path / name)
    whole = disk.read_or_leave(path)
    assert not disk.stays_on_disk(whole) and whole.raw is not None
    assert disk.memory() > 2**28
    monkeypatch.setattr(disk, "memory", lambda: 4 * 8 * 3 * cells.X.nnz + 4)  # X, raw and a layer
    assert not disk.stays_on_disk(disk.read_or_leave(path))
    monkeypatch.setattr(disk, "memory", lambda: 4 * 8 * 3 * cells.X.nnz - 4)
    assert disk.stays_on_disk(disk.read_or_leave(path))


def test_what_is_wrong_on_disk_is_found_before_training(cells, tmp_path):
    bad = cells[:100].copy()
    bad.X = bad.X.toarray()
    bad.X[3] = 0
    bad.X[5, 2] = -1.5
    with pytest.raises(errors.DataError) as caught:
        model_of(FORMS["h5ad"](bad, tmp_path))
    assert [p.partition(": ")[2].partition(",")[0] for p in caught.value.problems] == [
        "1 stored values are negative",
        "1 stored values are not a whole number",
        "1 cells have no counts",
    ]
    by_column = cells.copy()
    by_column.X = sparse.csc_matrix(by_column.X)
    for name in ("b.h5ad", "b.zarr"):
        with pytest.raises(errors.DataError, match="by column") as caught:
            model_of(read_backed(written(by_column, tmp_path / name)))
        assert "tocsr()" in caught.value.hint


def test_a_matrix_of_another_format_is_linked(cells, tmp_path):
    path = tmp_path / "tenx.h5"
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(cells.X, name)
    x = disk.linked(path, "matrix", cells.shape, tmp_path / "links.h5")
    np.testing.assert_array_equal(x[:].toarray(), cells.X.toarray())
    model = model_of(anndata.AnnData(x, obs=cells.obs, var=cells.var))
    model.train(max_epochs=1, progress=False)
    assert np.isfinite(model.get_elbo())


def test_a_model_on_disk_is_saved_with_its_data_and_goes_on(cells, tmp_path):
    for form in ("h5ad", "zarr"):
        model = model_of(FORMS[form](cells, tmp_path))
        model.train(max_epochs=1, seed=0, progress=False)
        model.save(tmp_path / form, save_anndata=True)
        elbo = model.get_elbo(seed=1)
        assert elbo == SCVI.load(tmp_path / form).get_elbo(seed=1) == model.minify(keep_counts=True).get_elbo(seed=1)
        assert SCVI.prepare_query_anndata(model.adata, model).shape == cells.shape


TRAINS = r"""
import re, sys
from pathlib import Path
from scelbo import SCVI
from scelbo.data import disk, read_backed
disk.AT_ONCE = 1000
adata = read_backed(sys.argv[1])
SCVI.setup_anndata(adata, batch_key="batch")
model = SCVI(adata, n_hidden=8, n_latent=2)
model.train(max_epochs=1, batch_size=500, train_size=0.95, progress=False)
model.get_latent_representation()
print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # glibc would keep what is freed, for later use


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
def test_memory_does_not_grow_with_the_cells(tmp_path):
    peaks, rng = [], np.random.default_rng(0)
    for n in (3_000, 12_000):
        x = sparse.csr_matrix((rng.integers(1, 9, 600 * n).astype("f4"), rng.integers(0, 2000, 600 * n), np.arange(n + 1) * 600), (n, 2000))
        x.sum_duplicates()
        obs = pd.DataFrame({"batch": np.repeat(["a", "b"], n // 2)}, index=np.arange(n).astype(str))
        anndata.AnnData(x, obs=obs).write_h5ad(tmp_path / f"{n}.h5ad")
        run = [sys.executable, "-c", TRAINS, tmp_path / f"{n}.h5ad"]
        answer = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ | GIVES_BACK)
        peaks.append(1024 * int(answer.stdout))
    assert peaks[1] - peaks[0] < 8 * x.nnz / 2, [f"{peak / 1e6:.0f} MB" for peak in peaks]
