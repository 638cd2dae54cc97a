"""What only R needs, seen from Python; tests/testthat sees the same from R."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scelbo import SCVI, bridge, kernels, settings
from scelbo.data.simulate import counts as simulate
from scelbo.errors import ArgumentError
from scelbo.kernels import products


@pytest.fixture(scope="module")
def model():
    adata = simulate(n_cells=60, n_genes=12)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_latent=2, n_hidden=8)
    model.train(max_epochs=2, progress=False)
    return model


COLUMNS = [
    ("factor", "factor", np.array([1, -1, 0]), (["a", "b", "unused"], False)),
    ("ordered", "factor", np.array([0, 1, 1]), (["lo", "hi"], True)),
    ("text", "string", np.array([0, -1, 1]), ["x", "NA"]),
    ("nothing", "string", np.array([-1, -1, -1]), []),
    ("whole", "int", np.array([1, 0, -3]), np.array([False, True, False])),
    ("all whole", "int", np.array([1, 0, 2**31 - 1]), None),
    ("flag", "bool", np.array([True, False, False]), np.array([False, True, False])),
    ("all flags", "bool", np.array([True, False, True]), None),
    ("number", "double", np.array([1.5, np.nan, np.inf]), None),
]


def test_a_frame_comes_back_as_it_was_sent():
    back = bridge.columns(bridge.frame(COLUMNS, ["c1", "c2", "c3"]))
    assert back["index"] == ["c1", "c2", "c3"]
    for (name, kind, values, more), (name2, kind2, values2, more2) in zip(COLUMNS, back["columns"], strict=True):
        assert (name, kind) == (name2, kind2)
        np.testing.assert_array_equal(values, values2)
        np.testing.assert_equal(more, more2)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.Series([1, 2**40]), "double"),  # R's integers have 32 bits
        (pd.Series(["a", None], dtype="string"), "string"),
        (pd.Series(pd.to_datetime(["2020-01-01", None])), "string"),
        (pd.Series([1, None], dtype="Int64"), "int"),
        (pd.Series([1.5, None], dtype="Float64"), "double"),
    ],
)
def test_whatever_pandas_holds_has_a_kind_in_r(column, kind):
    ((_, found, values, _),) = bridge.columns(pd.DataFrame({"x": column}))["columns"]
    assert (found, len(values)) == (kind, 2)


def test_whole_numbers_are_whole_where_a_method_passes_them_on():
    def ask(delta: float = 0.05, **more: object): ...

    typed = bridge.typed(ask, {"delta": 1.0, "n_samples_overall": 500.0, "pseudocounts": 0.5, "all_stats": True})
    assert {name: type(value) for name, value in typed.items()} == {
        "delta": float, "n_samples_overall": int, "pseudocounts": float, "all_stats": bool
    }  # fmt: skip


def test_the_slots_of_a_dgcmatrix_are_the_csr_of_its_transpose():
    genes_by_cells = sp.random(7, 5, 0.4, format="csc", random_state=0)
    x = genes_by_cells.data.copy()
    cells = bridge.counts(genes_by_cells.indices, genes_by_cells.indptr, x, 5, 7)
    np.testing.assert_allclose(cells.toarray(), genes_by_cells.toarray().T, rtol=1e-6)
    x[:] = -1  # R may change or free its own
    assert cells.min() >= 0
    assert cells.dtype == np.float32


def test_arguments_take_the_type_that_they_are_declared_with():
    assert bridge.typed(SCVI, {"n_latent": 20.0, "dropout_rate": 0.0}) == {"n_latent": 20, "dropout_rate": 0.0}
    assert isinstance(bridge.typed(SCVI, {"n_latent": 20.0})["n_latent"], int)
    assert bridge.typed(SCVI.get_normalized_expression, {"gene_list": "g1"}) == {"gene_list": ["g1"]}
    with pytest.raises(ArgumentError, match="whole number"):
        bridge.typed(SCVI.train, {"max_epochs": 2.5})
    with pytest.raises(ArgumentError, match="Did you mean 'max_epochs'"):
        bridge.typed(SCVI.train, {"max_epoch": 2.0})


def test_warnings_come_as_text(model):
    adata = simulate(n_cells=60, n_genes=12)
    adata.obs["rare"] = ["few"] * 2 + ["many"] * 58
    _, said = bridge.create("SCVI", adata, {"batch_key": "rare"}, {"n_latent": 2.0})
    assert any("few" in text for text in said)
    assert bridge.ask(model, "get_elbo", {})[1] == []


def test_events_are_thinned_and_plain(model):
    heard = []
    bridge.listen(heard.append, seconds=10)
    try:
        model.train(max_epochs=20)
    finally:
        bridge.listen(None)
    assert [event["event"] for event in heard] == ["start", "end"]
    assert settings.on_event is None


def test_a_model_survives_as_bytes(model):
    state = bridge.pack(model)
    assert isinstance(state, bytearray)
    back = bridge.unpack(state, model.adata)
    np.testing.assert_array_equal(back.get_latent_representation(), model.get_latent_representation())
    assert bridge.history(back).equals(bridge.history(model))
    assert bridge.about(back) == bridge.about(model)


def test_groups_stand_beside_the_cells_and_share_their_counts(model):
    groups = pd.DataFrame({"g": pd.Categorical(["a", "b"] * 30)}, index=model.adata.obs_names)
    cells = bridge.grouped(model, None, groups)
    assert np.shares_memory(cells.X.data, model.adata.X.data)
    assert "g" not in model.adata.obs
    assert set(model.differential_expression(cells, groupby="g", seed=1)["group1"]) == {"a", "b"}


@pytest.mark.parametrize(("reads", "holds"), [(None, "raw"), ("raw", None), ("counts", "raw")])
def test_counts_are_put_where_the_model_reads_them(reads, holds):
    adata = simulate(n_cells=60, n_genes=12)
    x = adata.X
    if reads is not None:
        adata.layers[reads], adata.X = x, None
    SCVI.setup_anndata(adata, layer=reads)
    model = SCVI(adata, n_latent=2, n_hidden=8)
    model.is_trained = True
    other = simulate(n_cells=60, n_genes=12)
    if holds is not None:
        other.layers[holds], other.X = x, np.log1p(x.toarray())
    placed = bridge.placed(model, other, holds)
    np.testing.assert_array_equal(model.get_latent_representation(placed), model.get_latent_representation())
    assert bridge.placed(model, adata, reads) is adata


def test_status_tells_who_did_the_loops(monkeypatch):
    pytest.importorskip("numba")
    assert bridge.status()["loops"] == {"numba": version("numba"), "compiled": settings.compiled}
    assert bridge.status()["onednn"] == (products.onednn() is not None)
    monkeypatch.setattr(settings, "compiled", False)
    assert not bridge.status()["loops"]["compiled"] and not bridge.status()["onednn"]
    monkeypatch.setattr(kernels, "present", lambda: False)
    assert bridge.status()["loops"]["numba"] is None


def test_threads_are_modest_unless_said(monkeypatch):
    before = bridge.threads(3)
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        bridge.modest_threads()
        assert bridge.status()["threads"] == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.setattr(bridge, "cores", lambda: 2)
        bridge.modest_threads()
        assert bridge.status()["threads"] == 1
    finally:
        bridge.threads(before)
