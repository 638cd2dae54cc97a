"""Models of every kind of data give the same from disk, whatever the format, as from memory: to the digit on the same minibatches."""

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.experimental import read_elem_lazy
from anndata.io import write_elem
from mudata import MuData

from scelbo import MULTIVI, PEAKVI, SCANVI, TOTALVI
from scelbo.cli import files
from scelbo.data import disk, read_backed
from scelbo.data.simulate import cite

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
SMALL = {"n_hidden": 16, "n_latent": 3}


def labels(data):
    SCANVI.setup_anndata(data, batch_key="batch", labels_key="cell_type")
    return SCANVI(data, **SMALL)


def atac(data):
    PEAKVI.setup_anndata(data, batch_key="batch")
    return PEAKVI(data, **SMALL)


def proteins(data):
    TOTALVI.setup_anndata(data, batch_key="batch", protein_expression_obsm_key="protein_expression")
    return TOTALVI(data, **SMALL)


def proteins_beside(data):
    modalities = {"rna_layer": "rna", "protein_layer": "protein", "batch_key": "rna"}
    TOTALVI.setup_mudata(data, batch_key="batch", modalities=modalities)
    return TOTALVI(data, **SMALL)


def multiome(data):
    MULTIVI.setup_mudata(data, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"})
    return MULTIVI(data, **SMALL)


def data_of(kind):
    cells = cite(300, 60, 5, stored=0.3, seed=1)
    if kind is proteins_beside:
        return MuData({"rna": cells, "protein": AnnData(cells.obsm["protein_expression"].astype("f4"), obs=cells.obs)})
    if kind is multiome:
        return MuData({"rna": cells[:, :40].copy(), "atac": cells[:, 40:].copy()})
    return cells


def left(adata, to, form):
    """The same cells, whose matrix stays on disk."""
    to.mkdir()
    bare = AnnData(adata.X, obs=adata.obs[[]], var=adata.var)
    if form == "h5ad":
        bare.write_h5ad(to / "x.h5ad")
        x = read_backed(to / "x.h5ad").X
    elif form == "zarr":
        bare.write_zarr(to / "x.zarr")
        x = read_backed(to / "x.zarr").X
    else:
        with h5py.File(to / "x.h5", "w") as file:
            write_elem(file, "x", adata.X)
        x = read_elem_lazy(h5py.File(to / "x.h5")["x"], chunks=(16, adata.n_vars))
    return AnnData(x, obs=adata.obs, var=adata.var, obsm=dict(adata.obsm))


def asked(model):
    """What it answers: order, latent space, normalised values, ELBO, differences."""
    order = np.random.default_rng(0).permutation(300)
    yield model.train_indices
    yield model.get_latent_representation(indices=order, batch_size=50)
    yield model.get_elbo(seed=1)
    for name in ("get_normalized_expression", "get_normalized_accessibility", "predict"):
        if hasattr(model, name):
            answer = getattr(model, name)(indices=order[:60])
            yield from answer if isinstance(answer, tuple) else [answer]
    for name in ("differential_expression", "differential_accessibility"):
        if hasattr(model, name):
            yield getattr(model, name)(idx1=np.arange(100), seed=1).select_dtypes("number")


@pytest.mark.parametrize("form", ["h5ad", "zarr", "dask"])
@pytest.mark.parametrize("kind", [labels, atac, proteins, proteins_beside, multiome])
def test_every_kind_is_the_same_from_disk(kind, form, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "AT_ONCE", 96)
    monkeypatch.setattr(disk, "BLOCK", 8)
    here, there = data_of(kind), data_of(kind)
    if isinstance(there, MuData):
        there = MuData({name: left(part, tmp_path / name, form) for name, part in there.mod.items()})
    else:
        there = left(there, tmp_path / "a", form)
    models = kind(here), kind(there)
    assert models[0].read().at_once == 0 < models[1].read().at_once < 200  # several reads an epoch
    models[0].read().at_once, models[0].read().block = models[1].read().at_once, models[1].read().block
    for model in models:
        model.train(max_epochs=2, seed=0, batch_size=32, progress=False)
    pd.testing.assert_frame_equal(models[0]._history, models[1]._history)
    answers = list(zip(*map(asked, models), strict=True))
    assert len(answers) >= 4
    for one, other in answers:
        np.testing.assert_array_equal(one, other)


def test_a_mudata_file_stays_on_disk_where_it_would_fill_the_memory(tmp_path, monkeypatch):
    whole = data_of(multiome)
    whole.write_h5mu(tmp_path / "a.h5mu")
    assert multiome(files.read(tmp_path / "a.h5mu")).read().at_once == 0
    monkeypatch.setattr(disk, "memory", lambda: 4 * 8 * sum(part.X.nnz for part in whole.mod.values()) - 4)
    there = files.read(tmp_path / "a.h5mu")
    models = [multiome(whole), multiome(there)]
    assert models[1].read().at_once > 0
    for model in models:
        model.train(max_epochs=1, seed=0, progress=False)
    for one, other in zip(*map(asked, models), strict=True):
        np.testing.assert_array_equal(one, other)
