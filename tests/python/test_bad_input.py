"""Whatever the data hold: an error or a warning of ours that says what is wrong, before anything trains, and the object as it was."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some_arrays
from refusals import FIRST, asked, fingerprint
from scipy import sparse

from scelbo import SCVI, errors


# ---------------------------------------------------------------------- what the data may hold
def of_values(change):
    """The counts changed."""

    def spoil(adata):
        x = adata.X.toarray()
        adata.X = sparse.csr_matrix(change(x))
        return adata

    return spoil


def at(place, value):
    def spoil(adata):
        adata.obsm = {name: of(table) for name, table in adata.obsm.items()} if value == 0 else dict(adata.obsm)
        return of_values(of)(adata)

    def of(x):
        x = x.copy()
        (x.iloc if isinstance(x, pd.DataFrame) else x)[place] = value
        return x

    return spoil


def with_x(make):
    def spoil(adata):
        return AnnData(make(adata.X), obs=adata.obs, var=adata.var, obsm=dict(adata.obsm))

    return spoil


def with_column(name, make):
    def spoil(adata):
        adata.obs[name] = make(adata)
        return adata

    return spoil


def renamed(names, axis="var"):
    def spoil(adata):
        setattr(adata, f"{axis}_names", [names[0]] * 2 + list(getattr(adata, f"{axis}_names")[2:]))
        return adata

    return spoil


NO_DATA = errors.DataError, errors.SetupError
DATA = {
    "a negative count": (at((3, 2), -1), errors.DataError, "negative"),
    "a fraction": (at((3, 2), 0.5), errors.DataError, "not a whole number"),
    "one fraction in the last cell": (at((-1, -1), 2.000001), errors.DataError, "not a whole number"),
    "NaN": (at((3, 2), np.nan), errors.DataError, "NaN or infinite"),
    "infinity": (at((0, 0), np.inf), errors.DataError, "NaN or infinite"),
    "minus infinity": (at((-1, -1), -np.inf), errors.DataError, "NaN or infinite"),
    "log values": (of_values(np.log1p), errors.DataError, "not a whole number"),
    "centred values": (of_values(lambda x: x - x.mean(0)), errors.DataError, "negative"),
    "all values negative": (of_values(lambda x: -x - 1), errors.DataError, "negative"),
    "an empty cell": (at(5, 0), errors.DataError, "cell5"),
    "only empty cells": (of_values(np.zeros_like), errors.DataError, "no counts"),
    "texts": (with_x(lambda x: x.toarray().astype(str)), errors.DataError, "numbers are needed"),
    "objects": (with_x(lambda x: x.toarray().astype(object)), errors.DataError, "numbers are needed"),
    "complex numbers": (with_x(lambda x: x.toarray().astype(np.complex64)), errors.DataError, "numbers are needed"),
    "no matrix": (lambda a: AnnData(obs=a.obs, var=a.var, obsm=dict(a.obsm)), NO_DATA, "no"),
    "no cells": (lambda a: a[:0].copy(), errors.DataError, "0 cells"),
    "no features": (lambda a: a[:, :0].copy(), errors.DataError, "0 features"),
    "features of one name": (renamed(["gene9"]), errors.DataError, "var_names_make_unique"),
}
BATCHES = {
    "no such column": (lambda a: a, "Batch", errors.DataError, "Did you mean 'batch'?"),
    "a cell without a batch": (with_column("b", lambda a: [None, *["x"] * (a.n_obs - 1)]), "b", errors.DataError, "no value"),
    "a categorical without a value": (
        with_column("b", lambda a: pd.Categorical([np.nan, *["x"] * (a.n_obs - 1)])), "b", errors.DataError, "no value",
    ),
    "NaN among numbers": (with_column("b", lambda a: [np.nan, *[1.0] * (a.n_obs - 1)]), "b", errors.DataError, "no value"),
    "only missing": (with_column("b", lambda a: [None] * a.n_obs), "b", errors.DataError, "no value"),
    "a batch of one cell": (with_column("b", lambda a: ["x", *["y"] * (a.n_obs - 1)]), "b", errors.DataWarning, "fewer than"),
    "a batch for each cell": (with_column("b", lambda a: list(a.obs_names)), "b", errors.DataWarning, "fewer than"),
    "a list in place of a name": (lambda a: a, ["batch"], errors.ArgumentError, "batch_key"),
    "a number in place of a name": (lambda a: a, 3, errors.ArgumentError, "batch_key"),
}  # fmt: skip
NUMBERS = {
    "text": (lambda a: ["low"] * a.n_obs, errors.DataError, "numbers are needed"),
    "categories": (lambda a: pd.Categorical(["low"] * a.n_obs), errors.DataError, "numbers are needed"),
    "NaN": (lambda a: [np.nan, *[0.5] * (a.n_obs - 1)], errors.DataError, "NaN or infinite"),
    "infinity": (lambda a: [np.inf, *[0.5] * (a.n_obs - 1)], errors.DataError, "NaN or infinite"),
    "only missing": (lambda a: [np.nan] * a.n_obs, errors.DataError, "NaN or infinite"),
    "dates": (lambda a: pd.to_datetime(["2020-01-01"] * a.n_obs), errors.DataError, "numbers are needed"),
    "one value": (lambda a: [0.5] * a.n_obs, errors.DataWarning, "explains nothing"),
    "large values": (lambda a: np.arange(a.n_obs) * 1e6, errors.DataWarning, "scale"),
}


@pytest.fixture(params=FIRST, ids=str)
def case(request):
    return request.param


@pytest.mark.parametrize("name", DATA)
def test_what_the_matrix_may_hold(case, adata, name):
    spoil, kind, says = DATA[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's own
        bad = spoil(adata)
    got, text = asked(case.owner.setup_anndata, bad, **case.keys)
    assert issubclass(got or object, kind), f"{got}: {text}"
    assert says in text


@pytest.mark.parametrize("name", BATCHES)
def test_what_a_batch_may_be(adata, name):
    spoil, key, kind, says = BATCHES[name]
    got, text = asked(SCVI.setup_anndata, spoil(adata), batch_key=key)
    assert issubclass(got or object, kind), f"{got}: {text}"
    assert says in text


@pytest.mark.parametrize("name", NUMBERS)
def test_what_a_continuous_covariate_may_be(adata, name):
    make, kind, says = NUMBERS[name]
    adata.obs["number"] = make(adata)
    got, text = asked(SCVI.setup_anndata, adata, continuous_covariate_keys=["number"])
    assert issubclass(got or object, kind), f"{got}: {text}"
    assert says in text


# ---------------------------------------------------------------------- odd, and yet right
ODD = {
    "a view": lambda a: a[::-1][::-1],
    "by column": lambda a: replaced(a, a.X.tocsc()),
    "dense": lambda a: replaced(a, a.X.toarray()),
    "dense by column": lambda a: replaced(a, np.asfortranarray(a.X.toarray())),
    "int64": lambda a: replaced(a, a.X.astype(np.int64)),
    "uint8": lambda a: replaced(a, a.X.astype(np.uint8)),
    "float64": lambda a: replaced(a, a.X.astype(np.float64)),
    "float16": lambda a: replaced(a, a.X.toarray().astype(np.float16)),
    "big-endian": lambda a: replaced(a, a.X.toarray().astype(">f4")),
    "indices out of order": lambda a: replaced(a, unsorted(a.X)),
    "zeros that are stored": lambda a: replaced(a, with_stored_zeros(a.X)),
    "indices of 64 bits": lambda a: replaced(a, wide(a.X)),
    "batches with spaces and letters of any kind": lambda a: rebatched(a, {"batch0": "Spül Lösung / 1", "batch1": "试剂 2"}),
    "batches that are numbers": lambda a: rebatched(a, {"batch0": 0, "batch1": 1}),
    "batches that are booleans": lambda a: rebatched(a, {"batch0": False, "batch1": True}),
    "levels that no cell has": lambda a: rebatched(a, {}, levels=["batch0", "batch1", "never"]),
}


def replaced(adata, x):
    adata.X = x
    return adata


def rebatched(adata, names, levels=None):
    values = adata.obs["batch"].astype(object).map(lambda b: names.get(b, b))
    adata.obs["batch"] = pd.Categorical(values, levels) if levels else list(values)
    return adata


def unsorted(x):
    indices, data = x.indices.copy(), x.data.copy()
    for start, stop in zip(x.indptr, x.indptr[1:], strict=False):
        indices[start:stop], data[start:stop] = indices[start:stop][::-1], data[start:stop][::-1]
    return sparse.csr_matrix((data, indices, x.indptr), shape=x.shape)


def with_stored_zeros(x):
    dense = x.toarray()
    genes = np.tile(np.arange(dense.shape[1]), len(dense))
    return sparse.csr_matrix((dense.ravel(), genes, np.arange(0, dense.size + 1, dense.shape[1])), shape=x.shape)


def wide(x):
    x = x.copy()
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    return x


def latents_after(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8, n_latent=3)
    model.train(max_epochs=1, seed=0)
    return model.get_latent_representation()


@pytest.mark.parametrize("name", ODD)
def test_what_looks_odd_and_is_right_gives_the_same(adata, name):
    plain = latents_after(adata.copy())
    odd, found = ODD[name](adata), []
    assert asked(lambda a: found.append(latents_after(a)), odd) == (None, "")
    np.testing.assert_allclose(found[0], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 40), (120, 1), (1, 1), (2, 2), (3, 40)])
def test_few_cells_or_features_train_or_say_why_not(case, adata, shape):
    few = adata[: shape[0], : shape[1]].copy()

    def whole(adata):
        case.owner.setup_anndata(adata, **case.keys)
        case.of(adata, **case.small).train(max_epochs=1, seed=0)

    kind, text = asked(whole, few)
    assert kind is None or len(text) > 20


def test_a_view_leaves_the_object_that_it_is_of(adata):
    before = fingerprint(adata)
    SCVI.setup_anndata(adata[::2], batch_key="batch")
    assert fingerprint(adata) == before


# ---------------------------------------------------------------------- anything at all
ANY_NUMBER = st.one_of(st.integers(-2, 9), st.floats(width=32), st.sampled_from([np.nan, np.inf, -0.0, 1e30, 2.0**24 + 1]))
ANY_VALUE = st.one_of(st.none(), st.text(max_size=3), st.integers(-3, 3), st.floats(), st.booleans(), st.dates())


@given(
    x=some_arrays.arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(0, 4)), elements=ANY_NUMBER),
    column=st.lists(ANY_VALUE, min_size=6, max_size=6),
    form=st.sampled_from([np.asarray, sparse.csr_matrix, sparse.csc_matrix]),
    use=st.sampled_from(["batch_key", "labels_key", "categorical_covariate_keys", "continuous_covariate_keys", "size_factor_key"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything_is_taken_or_answered(x, column, form, use):
    """Whatever is set up can be trained; whatever cannot is refused with our words; either way it stays what it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = pd.DataFrame({"c": pd.Series(column[: len(x)], dtype=object)}, index=[f"cell{i}" for i in range(len(x))])
        adata = AnnData(form(x), obs=obs)

    def whole(adata):
        SCVI.setup_anndata(adata, **{use: ["c"] if use.endswith("keys") and use != "labels_key" else "c"})
        model = SCVI(adata, n_hidden=2, n_latent=2)
        model.train(max_epochs=1, seed=0)
        assert np.isfinite(model.get_latent_representation()).all()

    asked(whole, adata)
