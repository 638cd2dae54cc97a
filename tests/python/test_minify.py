"""Cells without counts: what can still be asked is answered the same, what cannot be says so, and counts come back."""

import numpy as np
import pandas as pd
import pytest
from cases import CASES, COVARIATES, arrays, having, per_cell

from scelbo import SCVI, errors
from scelbo.data.simulate import counts

COUNTS = [case for case in CASES if case.arguments.get("gene_likelihood") != "normal"]


@pytest.mark.parametrize("keep_counts", [False, True])
@having("minify")
def test_the_same_answers_from_a_fraction_of_the_data(case, adata, keep_counts, tmp_path):
    before = adata.copy()
    model = case.make(adata)
    model.train(max_epochs=1)
    source, stored = model.adata, model.adata.X.nnz
    small = model.minify(keep_counts=keep_counts)
    assert model.adata is source and source.X.nnz == stored and set(adata.obsm) == set(before.obsm) and adata.X.nnz == before.X.nnz
    assert small.adata.X.nnz == (stored if keep_counts else 0)
    asked = {
        "get_latent_representation": lambda ask: [ask(indices=np.arange(120)), ask(indices=[7, 3], give_mean=False, seed=1)],
        "posterior_predictive_sample": lambda ask: [ask(seed=3)],
        "get_aggregated_posterior": lambda ask: [ask().mean],
        "get_normalized_expression": lambda ask: [
            ask(transform_batch=model.setup.categories["batch"][0]),
            ask(n_samples=2, library_size="latent", gene_list=["gene3", "gene1"], seed=2),
        ],
        "get_normalized_accessibility": lambda ask: [
            ask(transform_batch=model.setup.categories["batch"][0]),
            ask(region_list=[model.setup.features[model.regions][i] for i in (3, 1)], normalize_cells=True),
        ],
        "get_latent_library_size": lambda ask: [ask()],
    }
    for name, ask in asked.items():
        if hasattr(model, name):
            for ours, whole in zip(ask(getattr(small, name)), ask(getattr(model, name)), strict=True):
                for one, other in zip(arrays(ours), arrays(whole), strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    small.save(tmp_path / "m", save_anndata=True)
    again = case.model.load(tmp_path / "m")
    np.testing.assert_array_equal(per_cell(again), per_cell(small))
    whole = again.with_data(case.given(adata))
    np.testing.assert_array_equal(per_cell(whole), per_cell(model))
    assert whole.get_elbo(seed=1) == model.get_elbo(seed=1)


@pytest.fixture(scope="module")
def model():
    adata = counts(400, 60, n_types=3, stored=0.4)
    SCVI.setup_anndata(adata, **COVARIATES)
    model = SCVI(adata, n_hidden=32, n_latent=4, gene_likelihood="nb")
    model.train(max_epochs=30, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


@pytest.mark.parametrize("mode", ["vanilla", "change"])
def test_differential_expression_without_counts(model, mode):
    asked = {"groupby": "cell_type", "mode": mode, "n_samples_overall": 500, "seed": 1}
    small, whole = model.minify().differential_expression(**asked), model.differential_expression(**asked)
    assert not set(small) & {"raw_mean1", "non_zeros_proportion2", "raw_normalized_mean1"}
    for table in (small, whole):
        table.set_index(["group1", table.index], inplace=True)
    shared = small.loc[whole.index]
    pd.testing.assert_series_equal(shared["scale1"], whole["scale1"], rtol=1e-4)
    probability = "proba_de" if mode == "change" else "proba_m1"
    np.testing.assert_allclose(shared[probability], whole[probability], atol=0.02)
    kept = model.minify(keep_counts=True).differential_expression(**asked)
    np.testing.assert_allclose(kept["raw_mean1"].sort_values(), whole["raw_mean1"].sort_values(), rtol=1e-6)


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.get_elbo(),
        lambda m: m.get_marginal_ll(n_mc_samples=2),
        lambda m: m.get_reconstruction_error(),
        lambda m: m.train(max_epochs=1),
        lambda m: m.posterior_predictive_check(),
    ],
    ids=["elbo", "marginal likelihood", "reconstruction", "training", "predictive check"],
)
def test_what_needs_counts_says_that_they_are_gone(model, ask):
    with pytest.raises(errors.DataError, match="minified: their counts are gone"):
        ask(model.minify())
    ask(model.minify(keep_counts=True).with_data(model.adata))


def test_a_new_model_cannot_be_made_of_nothing(model):
    with pytest.raises(errors.DataError, match="counts"):
        SCVI(model.minify().adata)
