"""The aggregated posterior and importance weights, on a model whose true posterior is known."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from known import known
from scipy.stats import norm

import scelbo
from scelbo.analysis import aggregated_posterior, differential_expression
from scelbo.analysis.mixture import importance_weights, tempered


def model_of(width):
    return known(AnnData(np.array([[1.0], [2], [6], [3]], np.float32)), width)


def draws_of(model, anchors, n=20_000):
    torch.manual_seed(0)
    return aggregated_posterior(model, indices=anchors).sample((n,))


@pytest.fixture(autouse=True)
def _private_draws():
    with scelbo.settings.private_seed(0):
        yield


def test_draws_from_true_posteriors_count_the_same():
    model, anchors = model_of(1.0), np.arange(4)
    weights = importance_weights(model, None, anchors, draws_of(model, anchors, 500))
    np.testing.assert_allclose(weights * 500, 1, rtol=1e-4)


@pytest.mark.parametrize("width", [0.8, 2.0])
def test_weighted_draws_have_the_true_posteriors_moments(width):
    model, anchors = model_of(width), np.array([2])  # x = 6: N(3, 1/2)
    z = draws_of(model, anchors)[:, 0].numpy()
    weights = importance_weights(model, None, anchors, torch.from_numpy(z)[:, None])
    mean = (weights * z).sum()
    assert mean == pytest.approx(3, abs=0.03)
    assert (weights * (z - mean) ** 2).sum() == pytest.approx(0.5, abs=0.03)
    assert abs(z.var() - 0.5) > 0.1  # which the draws themselves lack


def test_the_aggregated_posterior_is_the_even_mixture():
    at = np.linspace(-2, 6, 9)
    found = aggregated_posterior(model_of(1.0), indices=[0, 2]).log_prob(torch.tensor(at[:, None], dtype=torch.float32)).exp().detach()
    np.testing.assert_allclose(found, (norm.pdf(at, 0.5, 0.5**0.5) + norm.pdf(at, 3, 0.5**0.5)) / 2, rtol=1e-4)
    far = torch.tensor([[30.0]])
    assert aggregated_posterior(model_of(1.0), dof=3).log_prob(far) > aggregated_posterior(model_of(1.0)).log_prob(far)


def test_few_draws_never_carry_all_weight():
    even, steep = np.full(100, 0.01), np.exp(-np.arange(100.0)) / np.exp(-np.arange(100.0)).sum()
    np.testing.assert_allclose(tempered(even), even)
    flat = tempered(steep)
    assert 1 / (steep**2).sum() < 3 and 1 / (flat**2).sum() == pytest.approx(10)
    assert (np.diff(flat) < 0).all() and flat.sum() == pytest.approx(1)
    assert 1 / (tempered(np.eye(100)[3]) ** 2).sum() == pytest.approx(10)  # all on one


def test_differential_expression_takes_the_weights(adata):
    scelbo.SCVI.setup_anndata(adata, batch_key="batch")
    model = scelbo.SCVI(adata, n_hidden=16, n_latent=2)
    model.train(max_epochs=2)
    asked = {"groupby": "cell_type", "group1": "type0", "n_samples_overall": 60, "mode": "change", "batch_correction": True}
    weighted = [differential_expression(model, **asked, weights="importance", importance_cells=8, seed=3).to_csv() for _ in range(2)]
    assert weighted[0] == weighted[1] != differential_expression(model, **asked, seed=3).to_csv()


def test_weighted_draws_of_expression(adata):
    scelbo.SCVI.setup_anndata(adata, batch_key="batch")
    model = scelbo.SCVI(adata, n_hidden=16, n_latent=2)
    model.train(max_epochs=2)
    asked = {"indices": np.arange(10, 40), "n_samples_overall": 50, "gene_list": ["gene4", "gene1"], "seed": 5, "library_size": 10}
    drawn = model.get_normalized_expression(**asked, weights="importance", importance_cells=6)
    assert drawn.shape == (50, 2) and list(drawn.columns) == ["gene4", "gene1"]
    assert drawn.index.isin(adata.obs_names[10:40]).all() and drawn.index.nunique() <= 6
    assert ((drawn > 0) & (drawn < 10)).all(axis=None)
    with pytest.raises(scelbo.errors.ArgumentError, match="n_samples_overall"):
        model.get_normalized_expression(weights="importance")
