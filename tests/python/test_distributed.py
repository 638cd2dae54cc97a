"""Workers answer, each about some rows of a file, what one process answers; a store in random order holds the same cells."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scelbo
from scelbo import SCANVI, SCVI, errors
from scelbo.data import Loader, disk, prepare
from scelbo.data.simulate import counts
from scelbo.distributed import ask

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with cells on disk and two trained models."""
    folder = tmp_path_factory.mktemp("there")
    cells = counts(1300, 30)
    cells.write_h5ad(folder / "cells.h5ad")
    cells.write_zarr(folder / "cells.zarr")
    SCVI.setup_anndata(cells, batch_key="batch")
    model = SCVI(cells, n_hidden=16, n_latent=3)
    model.train(max_epochs=1, seed=0, progress=False)
    model.save(folder / "scvi")
    SCANVI.setup_anndata(cells, batch_key="batch", labels_key="cell_type")
    labels = SCANVI(cells, n_hidden=16, n_latent=3)
    labels.train(max_epochs=1, seed=0, progress=False)
    labels.save(folder / "scanvi")
    return folder


def same_answers(there, tmp_path, data="cells.h5ad"):
    cells, model, labels = anndata.read_h5ad(there / "cells.h5ad"), scelbo.load(there / "scvi"), scelbo.load(there / "scanvi")
    z = ask(there / "scvi", there / data, "get_latent_representation", tmp_path / "z.zarr", rows=400)
    np.testing.assert_allclose(np.asarray(z.X[:]), model.get_latent_representation(cells), rtol=1e-4, atol=1e-6)
    assert list(z.obs_names) == list(cells.obs_names) and disk.on_disk(z.X)
    of = {"gene_list": ["gene2", "gene7"], "library_size": 100}
    rho = ask(there / "scvi", there / data, "get_normalized_expression", tmp_path / "rho.zarr", rows=512, **of)
    expected = model.get_normalized_expression(cells, **of)
    np.testing.assert_allclose(anndata.read_zarr(tmp_path / "rho.zarr").to_df(), expected, rtol=1e-4)
    assert list(rho.var_names) == ["gene2", "gene7"]
    said = ask(there / "scanvi", there / data, "annotate", tmp_path / "said.zarr", rows=500)
    expected = labels.annotate(cells)
    assert list(said.obs["label"].astype(str)) == list(expected["label"].astype(str))
    back = anndata.read_zarr(tmp_path / "said.zarr").obs
    np.testing.assert_allclose(back["probability"], expected["probability"], rtol=1e-4)


@pytest.mark.parametrize("data", ["cells.h5ad", "cells.zarr"])
def test_threads_here_answer_without_a_cluster(there, tmp_path, data):
    pytest.importorskip("dask.array")
    same_answers(there, tmp_path, data)


def test_two_workers_answer(there, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        same_answers(there, tmp_path)
        asked = client.run(lambda: __import__("scelbo.distributed").distributed._opened.cache_info().misses)
    assert len(asked) == 2 and all(n >= 1 for n in asked.values())  # both opened the model


@pytest.mark.parametrize(
    ("question", "out", "says"),
    [
        ("get_latent", "z.zarr", "Did you mean 'get_latent_"),
        ("get_elbo", "z.zarr", "no row a cell|no table"),
        ("get_latent_representation", "z.h5ad", "one zarr store"),
        ("get_latent_representation", "cells.h5ad", "exists"),
    ],
)
def test_what_cannot_be_asked_is_said_before_the_work(there, question, out, says):
    with pytest.raises(errors.ArgumentError, match=says):
        ask(there / "scvi", there / "cells.h5ad", question, there / out)
    assert not (there / "z.zarr").exists()


# ---------------------------------------------------------------------- a store in random order
FORMS = {
    "h5ad": lambda cells, to: cells.write_h5ad(to / "a.h5ad") or to / "a.h5ad",
    "zarr": lambda cells, to: cells.write_zarr(to / "a.zarr") or to / "a.zarr",
    "dense": lambda cells, to: (
        anndata.AnnData(cells.X.toarray(), obs=cells.obs, layers=dict(cells.layers)).write_h5ad(to / "a.h5ad") or to / "a.h5ad"
    ),
    "memory": lambda cells, to: cells,
}


@pytest.fixture
def cells():
    adata = counts(700, 40, stored=0.3)
    adata.layers["doubled"] = adata.X * 2
    adata.obsm["X_pca"] = np.arange(1400.0).reshape(700, 2)
    adata.obsp["near"] = sparse.eye(700, format="csr")
    adata.uns["note"] = "kept"
    return adata


@pytest.mark.parametrize("form", FORMS)
def test_prepared_are_the_same_cells_in_random_order(cells, tmp_path, monkeypatch, form):
    monkeypatch.setattr("scelbo.data.shuffle.VALUES", 3000)  # pieces of some cells
    monkeypatch.setattr(disk, "AT_ONCE", 96)
    new = prepare(FORMS[form](cells, tmp_path), tmp_path / "new.zarr", seed=3)
    assert disk.on_disk(new.X) and sorted(new.obs_names) == sorted(cells.obs_names)
    back = new.to_memory()[cells.obs_names]
    assert (back.X != cells.X).nnz == 0 and (back.layers["doubled"] != cells.layers["doubled"]).nnz == 0
    pd.testing.assert_frame_equal(back.obs, cells.obs)
    if form != "dense":
        np.testing.assert_array_equal(back.obsm["X_pca"], cells.obsm["X_pca"])
        assert back.uns["note"] == "kept" and (back.obsp["near"] != cells.obsp["near"]).nnz == 0
    places = cells.obs_names.get_indexer(new.obs_names)
    assert abs(np.corrcoef(places, np.arange(700))[0, 1]) < 0.15 and (np.diff(places) == 1).mean() < 0.02
    again = prepare(cells, tmp_path / "again.zarr", seed=3)
    assert list(again.obs_names) == list(new.obs_names)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_prepared_train_and_answer_as_the_same_cells_in_memory(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "AT_ONCE", 96)
    monkeypatch.setattr(disk, "LONG_BLOCK", 48)
    monkeypatch.setattr(disk, "LONG_SPAN", 16)
    new = prepare(cells, tmp_path / "new.zarr")
    here = new.to_memory()
    models = []
    for adata in (here, new):
        SCVI.setup_anndata(adata, batch_key="batch")
        models.append(SCVI(adata, n_hidden=16, n_latent=3))
    assert models[1].read().block == 48
    models[0].read().at_once, models[0].read().block = models[1].read().at_once, 48  # the order of reading from disk
    for model in models:
        model.train(max_epochs=2, seed=0, batch_size=32, progress=False)
    pd.testing.assert_frame_equal(models[0]._history, models[1]._history)
    for question in (
        lambda model: model.train_indices,
        lambda model: model.get_latent_representation(),
        lambda model: model.get_normalized_expression(indices=np.arange(50)),
        lambda model: model.differential_expression(groupby="batch", group1="batch0", seed=1).select_dtypes("number"),
    ):
        np.testing.assert_array_equal(question(models[0]), question(models[1]))
    index = np.concatenate([batch.index for batch in Loader(models[1].read(), np.arange(700), 32, np.random.default_rng(0))])
    assert sorted(index) == list(range(700))


def test_a_place_that_is_taken_or_no_zarr_is_refused(cells, tmp_path):
    for out, says in ((tmp_path, "no zarr store"), (tmp_path / "a.zarr", "exists")):
        (tmp_path / "a.zarr").mkdir(exist_ok=True)
        with pytest.raises(errors.ArgumentError, match=says):
            prepare(cells, out)
