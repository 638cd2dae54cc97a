"""Results that stay on disk, or are made when they are read, hold what those in memory hold."""

import anndata
import numpy as np
import pytest

from scelbo import SCVI, errors
from scelbo.analysis import ondisk
from scelbo.data.simulate import counts


@pytest.fixture(scope="module")
def model():
    adata = counts(300, 40, stored=0.4)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=16, n_latent=3)
    model.train(max_epochs=1, progress=False)
    return model


ASKED = {"indices": np.arange(299, 9, -1), "gene_list": ["gene7", "gene3"], "transform_batch": ["batch0", "batch1"], "library_size": 1e4}


@pytest.mark.filterwarnings("ignore::UserWarning:zarr")  # consolidated metadata is not yet in zarr 3's specification
@pytest.mark.parametrize("name", ["rho.h5ad", "rho.zarr"])
@pytest.mark.parametrize("asked", [{}, ASKED, {"n_samples": 3, "seed": 1}], ids=["all", "some", "draws"])
def test_a_file_holds_what_memory_would(model, tmp_path, name, asked, monkeypatch):
    monkeypatch.setattr(ondisk, "ROWS", 64)
    inside = model.get_normalized_expression(**asked, batch_size=100)
    outside = model.get_normalized_expression(**asked, out=tmp_path / name, batch_size=100)
    assert list(outside.obs_names) == list(inside.index) and list(outside.var_names) == list(inside.columns)
    np.testing.assert_array_equal(np.asarray(outside.X[:]), inside)
    again = anndata.read_h5ad(tmp_path / name) if name.endswith("h5ad") else anndata.read_zarr(tmp_path / name)
    np.testing.assert_array_equal(again.X, inside)


def test_a_lazy_result_decodes_what_is_read(model, monkeypatch):
    monkeypatch.setattr(ondisk, "ROWS", 64)
    lazy = model.get_normalized_expression(**ASKED, lazy=True)
    inside = model.get_normalized_expression(**ASKED)
    assert lazy.shape == inside.shape and lazy.numblocks == (5, 1)
    np.testing.assert_allclose(lazy[100:130].compute(), inside.iloc[100:130], rtol=1e-5)
    np.testing.assert_allclose(lazy.sum(axis=0).compute(), inside.sum(), rtol=1e-5)


def test_what_is_unfinished_is_removed_and_what_is_there_is_kept(model, tmp_path, monkeypatch):
    there = tmp_path / "there.h5ad"
    there.write_text("mine")
    with pytest.raises(errors.ArgumentError, match="exists"):
        model.get_normalized_expression(out=there)
    assert there.read_text() == "mine"
    monkeypatch.setattr(type(model.module), "inference", lambda *a: 1 / 0)
    for name in ("new.h5ad", "new.zarr"):
        with pytest.raises(ZeroDivisionError):
            model.get_normalized_expression(out=tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"out": "rho.csv"}, "End the name in .h5ad or .zarr"),
        ({"out": "rho.h5ad", "n_samples": 2, "return_mean": False}, "one value a cell and gene"),
        ({"lazy": True, "n_samples": 2}, "latents' means"),
    ],
)
def test_wrong_questions_are_answered_clearly(model, asked, says):
    with pytest.raises(errors.ArgumentError, match=says):
        model.get_normalized_expression(**asked)
