"""Files for users are written whole or not at all: a kill or a full disk half way leaves what was there, and the session alive."""

import ctypes
import signal
import sys
import warnings
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
from faults import ended, files_of_at_most, forked, small_disk, unfinished_in

from scelbo import SCVI, bridge, errors
from scelbo.cli.files import write
from scelbo.data import prepare, read_backed
from scelbo.data.simulate import counts

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),  # of what zarr and anndata will change one day
]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with cells as file and as store, and a model of them; that model."""
    cells, folder = counts(300, 200, stored=0.4), tmp_path_factory.mktemp("there")
    SCVI.setup_anndata(cells, batch_key="batch")
    model = SCVI(cells, n_hidden=16, n_latent=3)
    model.train(max_epochs=1, progress=False)
    model.save(folder / "model")
    cells.write_h5ad(folder / "cells.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells.write_zarr(folder / "cells.zarr")
    return folder, model


def ask(there, place):
    """What the command ``latent`` does."""
    folder, model = there
    data = [str(folder / f"cells{place.suffix}")]
    write(model.get_latent_representation(), place, "latent", "scvi", data, list(model.adata.obs_names))


WRITERS = {
    "values.h5ad": lambda there, place: there[1].get_normalized_expression(out=place),
    "values.zarr": lambda there, place: there[1].get_normalized_expression(out=place),
    "prepared.zarr": lambda there, place: prepare(there[0] / "cells.h5ad", place, seed=1),
    "from R.h5ad": lambda there, place: bridge.write(there[1].adata, str(place)),
    "in R.h5ad": lambda there, place: bridge.write(read_backed(there[0] / "cells.h5ad"), str(place), as_it_is=True),
    "asked.h5ad": ask,
    "asked.zarr": ask,
}
REPLACE = ("from R.h5ad", "in R.h5ad", "asked.h5ad", "asked.zarr")
"""The others write where nothing is."""


def held(folder):
    """All that is in a folder but for what was left unfinished: path -> bytes."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if not name.parts[0].startswith(".")}


@pytest.fixture
def before(there, tmp_path, request):
    """What the place holds before: cells of someone."""
    name = request.getfixturevalue("name")
    if name in REPLACE:
        old = counts(40, 10)
        old.write_h5ad(tmp_path / name) if name.endswith(".h5ad") else old.write_zarr(tmp_path / name)
    return held(tmp_path)


def sizes(there, tmp_path_factory, name):
    """Bytes of a file from which on none can be written: less than the largest has."""
    WRITERS[name](there, place := tmp_path_factory.mktemp("all") / name)
    largest = max(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())
    return [int(share * largest) for share in (0.01, 0.1, 0.5, 0.9)]


@pytest.mark.parametrize("name", WRITERS)
def test_a_kill_in_the_middle_leaves_what_was_there_and_the_next_clears_up(there, before, tmp_path, tmp_path_factory, name):
    def killed(size):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with files_of_at_most(size):
            WRITERS[name](there, tmp_path / name)

    for size in sizes(there, tmp_path_factory, name):
        assert ended(forked(partial(killed, size))) == -signal.SIGXFSZ
        assert held(tmp_path) == before and len(unfinished_in(tmp_path)) == 1
    WRITERS[name](there, tmp_path / name)
    assert held(tmp_path) != before and not unfinished_in(tmp_path)
    read = anndata.read_h5ad if name.endswith(".h5ad") else anndata.read_zarr
    assert read(tmp_path / name).shape == (300, 200)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_error_that_says_so_and_the_session_lives(there, before, tmp_path, tmp_path_factory, name):
    def lives():
        for size in few:
            with files_of_at_most(size), pytest.raises(errors.StorageError, match="cannot be written: File too large"):
                WRITERS[name](there, tmp_path / name)
            assert held(tmp_path) == before and not unfinished_in(tmp_path)
        for pages in (2, 8, 24):
            with small_disk(4096 * pages) as disk:
                if disk is not None:
                    with pytest.raises(errors.StorageError, match="cannot be written: No space left"):
                        WRITERS[name](there, disk / name)
                    assert list(disk.iterdir()) == []
        WRITERS[name](there, tmp_path / name)
        ctypes.CDLL(None).exit(0)  # HDF5 cleans up at the end of a process, too

    few = [1, *sizes(there, tmp_path_factory, name)]
    assert ended(forked(lives)) == 0


def test_a_disk_that_is_full_ends_the_work_at_once(there, tmp_path, monkeypatch):
    model, rows = there[1], []
    batches = type(model).batches
    monkeypatch.setattr(type(model), "batches", lambda self, *a: (rows.append(len(c)) or c for c in batches(self, *a)))
    with files_of_at_most(50_000), pytest.raises(errors.StorageError, match="too large"):
        model.get_normalized_expression(indices=np.tile(np.arange(300), 20), out=tmp_path / "a.h5ad", batch_size=10)
    assert 0 < sum(rows) < 6000


def test_what_goes_wrong_in_the_work_is_not_said_of_the_disk(there, tmp_path, monkeypatch):
    def memory_runs_out(*_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(type(there[1].module), "inference", memory_runs_out)
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory$"):
        there[1].get_normalized_expression(out=tmp_path / "a.h5ad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backed", ["anndata", "scelbo"])
def test_cells_on_disk_may_be_written_over_their_own_file(there, tmp_path, backed):
    cells = there[1].adata.copy()
    cells.raw = cells
    cells.obs["text"] = ["a", "b", None] * 100
    cells.write_h5ad(place := tmp_path / "cells.h5ad")
    on_disk = anndata.read_h5ad(place, backed="r") if backed == "anndata" else read_backed(place)
    on_disk.obs["new"] = np.arange(300.0)
    bridge.write(on_disk, str(place), as_it_is=True)
    bridge.write(on_disk, str(tmp_path / "other.h5ad"), as_it_is=True)
    for path in (place, tmp_path / "other.h5ad"):
        again = anndata.read_h5ad(path)
        assert (again.X != cells.X).nnz == 0 and (backed == "scelbo" or (again.raw.X != cells.X).nnz == 0)
        pd.testing.assert_frame_equal(again.obs, on_disk.obs)
    if backed == "anndata":
        assert on_disk.filename == place
    assert (on_disk.X[:20] != cells.X[:20]).nnz == 0
