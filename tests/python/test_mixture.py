"""The aggregated posterior and importance weights, on a model whose true posterior is known."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.stats import norm
from torch.distributions import Normal

import scelbo
from scelbo.analysis import aggregated_posterior, differential_expression
from scelbo.analysis.mixture import importance_weights
from scelbo.module import VAE


class Latents(NamedTuple):
    z: Normal


class Unit:
    """x ~ N(z, 1)."""

    def __init__(self, z):
        self.z = z

    def log_prob(self, x):
        return Normal(self.z, 1).log_prob(x.dense()).sum(-1)


class Explained(NamedTuple):
    x: Unit


class Conjugate(VAE):
    """z ~ N(0, 1), x | z ~ N(z, 1): the posterior is N(x / 2, 1 / 2); q has that mean, and ``width`` times its deviation."""

    def __init__(self, width):
        super().__init__()
        self.deviation = torch.nn.Parameter(torch.tensor(width * 0.5**0.5))

    def inference(self, cells):
        mean = cells.x.dense() / 2
        return Latents(Normal(mean, self.deviation.expand(mean.shape)))

    def generative(self, z, cells):
        return Explained(Unit(z.z))


class Known(scelbo.Model):
    width: float = 1.0

    def build(self, setup):
        return Conjugate(self.width)


@pytest.fixture
def known():
    adata = AnnData(np.array([[1.0], [2], [6], [3]], np.float32))

    def make(width):
        Known.setup_anndata(adata)
        model = Known(adata, width=width)
        model.is_trained = True
        return model

    yield make
    scelbo.model.MODELS.pop("Known", None)


def draws_of(model, anchors, n=20_000):
    torch.manual_seed(0)
    return aggregated_posterior(model, indices=anchors).sample((n,))


@pytest.fixture(autouse=True)
def _private_draws():
    with scelbo.settings.private_seed(0):
        yield


def test_draws_from_true_posteriors_count_the_same(known):
    model, anchors = known(1.0), np.arange(4)
    weights = importance_weights(model, None, anchors, draws_of(model, anchors, 500))
    np.testing.assert_allclose(weights * 500, 1, rtol=1e-4)


@pytest.mark.parametrize("width", [0.8, 2.0])
def test_weighted_draws_have_the_true_posteriors_moments(known, width):
    model, anchors = known(width), np.array([2])  # x = 6: N(3, 1/2)
    z = draws_of(model, anchors)[:, 0].numpy()
    weights = importance_weights(model, None, anchors, torch.from_numpy(z)[:, None])
    mean = (weights * z).sum()
    assert mean == pytest.approx(3, abs=0.03)
    assert (weights * (z - mean) ** 2).sum() == pytest.approx(0.5, abs=0.03)
    assert abs(z.var() - 0.5) > 0.1  # which the draws themselves lack


def test_the_aggregated_posterior_is_the_even_mixture(known):
    at = np.linspace(-2, 6, 9)
    found = aggregated_posterior(known(1.0), indices=[0, 2]).log_prob(torch.tensor(at[:, None], dtype=torch.float32)).exp().detach()
    np.testing.assert_allclose(found, (norm.pdf(at, 0.5, 0.5**0.5) + norm.pdf(at, 3, 0.5**0.5)) / 2, rtol=1e-4)
    far = torch.tensor([[30.0]])
    assert aggregated_posterior(known(1.0), dof=3).log_prob(far) > aggregated_posterior(known(1.0)).log_prob(far)


def test_differential_expression_takes_the_weights(known, adata):
    scelbo.SCVI.setup_anndata(adata, batch_key="batch")
    model = scelbo.SCVI(adata, n_hidden=16, n_latent=2)
    model.train(max_epochs=2)
    asked = {"groupby": "cell_type", "group1": "type0", "n_samples_overall": 60, "mode": "change", "batch_correction": True}
    weighted = [differential_expression(model, **asked, weights="importance", importance_cells=8, seed=3).to_csv() for _ in range(2)]
    assert weighted[0] == weighted[1] != differential_expression(model, **asked, seed=3).to_csv()
