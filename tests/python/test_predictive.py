"""Draws from the model, its parameters, and counterfactuals over any covariate."""

import numpy as np
import pytest
from cases import CASES, COVARIATES

from scelbo import SCVI, errors
from scelbo.data.simulate import counts


@pytest.fixture(scope="module")
def model():
    adata = counts(400, 60, stored=0.5, seed=3)
    SCVI.setup_anndata(adata, **COVARIATES)
    model = SCVI(adata, n_hidden=32, n_latent=5, gene_likelihood="nb")
    model.train(max_epochs=60, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


@pytest.mark.parametrize("case", [case for case in CASES if case.model is SCVI], ids=str)
def test_every_likelihood_gives_its_parameters_and_draws(case, adata):
    model = case.make(adata)
    model.train(max_epochs=1)
    parameters = model.get_likelihood_parameters()
    likelihood = model.gene_likelihood
    assert (
        set(parameters)
        == {"mean", "dispersions", "dropout"}
        - {
            "zinb": set(),
            "nb": {"dropout"},
            "normal": {"dropout"},
            "poisson": {"dispersions", "dropout"},
        }[likelihood]
    )
    assert all(v.shape == (120, 40) and np.isfinite(v).all() for v in parameters.values())
    drawn = model.posterior_predictive_sample(n_samples=2, indices=[3, 1], gene_list=["gene2", "gene0", "gene9"])
    assert [d.shape for d in drawn] == [(2, 3)] * 2
    if likelihood != "normal":
        assert all((d.data >= 1).all() and (d.data == np.round(d.data)).all() for d in drawn)
    assert model.get_latent_library_size().shape == (120, 1)
    assert model.get_feature_correlation_matrix(gene_list=["gene1", "gene5"]).shape == (2, 2)


def test_draws_have_the_means_and_variances_of_the_counts(model):
    drawn = np.mean([d.mean(0) for d in model.posterior_predictive_sample(n_samples=8)], 0).ravel()
    seen = np.asarray(model.adata.X.mean(0)).ravel()
    assert np.corrcoef(np.log1p(drawn), np.log1p(seen))[0, 1] > 0.98
    assert drawn.sum() == pytest.approx(seen.sum(), rel=0.1)


def test_parameters_explain_the_reconstruction_error(model):
    from scipy.stats import nbinom

    p = model.get_likelihood_parameters()
    ours = -nbinom(p["dispersions"], p["dispersions"] / (p["dispersions"] + p["mean"])).logpmf(model.adata.X.toarray()).sum(1)
    assert ours.mean() == pytest.approx(model.get_reconstruction_error()["reconstruction_loss"], rel=0.05)


def test_observed_library_sizes_are_the_totals(model):
    np.testing.assert_allclose(model.get_latent_library_size(), model.adata.X.sum(1), rtol=1e-5)


def test_genes_of_one_program_correlate(model):
    adata = model.adata
    top = model.differential_expression(groupby="cell_type", group1="type0").index
    matrix = model.get_feature_correlation_matrix(n_samples=3, correlation_type="pearson", gene_list=[*top[:2], top[-1]])
    assert matrix.iloc[0, 1] > matrix.iloc[0, 2]
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert adata.n_obs == 400


def test_any_covariate_can_be_asked_about(model):
    own = model.get_normalized_expression()
    for change in ({"donor": "donor1"}, {"percent_mito": 0}, {"batch": "batch1"}):
        assert not np.allclose(own, model.get_normalized_expression(transform=change), rtol=1e-3)
    np.testing.assert_array_equal(
        model.get_normalized_expression(transform={"batch": "batch1"}), model.get_normalized_expression(transform_batch="batch1")
    )
    rows = np.flatnonzero(model.adata.obs["donor"] == "donor1")
    np.testing.assert_allclose(own.iloc[rows], model.get_normalized_expression(indices=rows, transform={"donor": "donor1"}), rtol=1e-5)
    with pytest.raises(errors.ArgumentError, match=r"covariate 'doner' is unknown\. Did you mean 'donor'"):
        model.get_normalized_expression(transform={"doner": "donor1"})
    with pytest.raises(errors.ArgumentError, match="category of label 'type9'"):  # the label, by its column's name
        model.get_normalized_expression(transform={"cell_type": "type9"})


def test_batch_vectors_need_an_embedding(model, adata):
    with pytest.raises(errors.ArgumentError, match="batch_representation='embedding'"):
        model.get_batch_representation()
    SCVI.setup_anndata(adata, batch_key="batch")
    embedded = SCVI(adata, batch_representation="embedding", batch_embedding_dim=3)
    embedded.train(max_epochs=1)
    vectors = embedded.get_batch_representation()
    assert vectors.shape == (120, 3) and len(np.unique(vectors, axis=0)) == 2
