"""AmortizedLDA: what of the models' contract is its own."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse, stats
from scipy.optimize import linear_sum_assignment

from scelbo import AmortizedLDA, errors, settings
from scelbo.data import Counts
from scelbo.likelihoods import BagOfWords
from scelbo.module import draw
from scelbo.nn import logistic_normal

TOPICS, GENES = 4, 60


def bags(n_cells=600, seed=0):
    """Cells of the model itself: their counts, theta and Phi."""
    rng = np.random.default_rng(seed)
    phi, theta = rng.dirichlet(np.full(GENES, 0.2), TOPICS), rng.dirichlet(np.full(TOPICS, 0.3), n_cells)
    x = np.stack([rng.multinomial(rng.integers(150, 400), p) for p in theta @ phi])
    return AnnData(sparse.csr_matrix(x, dtype=np.float32)), theta, phi


@pytest.fixture(scope="module")
def fitted():
    adata, theta, phi = bags()
    AmortizedLDA.setup_anndata(adata)
    model = AmortizedLDA(adata, n_topics=TOPICS, n_hidden=32)
    model.train(max_epochs=60, progress=False)
    return model, theta, phi


# ------------------------------------------------------------------ the likelihood
def _mixture(n=9, seed=0):
    draws = torch.Generator().manual_seed(seed)
    one = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=draws).softmax(-1).requires_grad_()  # noqa: E731
    x = np.random.default_rng(seed).poisson(0.8, (n, GENES))
    x[:, 0] += 1
    return x, Counts.of(x).to(torch.float64), one(n, TOPICS), one(TOPICS, GENES)


def test_a_bag_of_words_is_a_multinomial_without_its_coefficient():
    dense, x, theta, phi = _mixture()
    p = BagOfWords(theta, phi)
    whole = stats.multinomial(dense.sum(1), p.scale.detach().numpy()).logpmf(dense)
    coefficient = torch.lgamma(x.size[:, 0] + 1) - x.log_factorial[:, 0]
    np.testing.assert_allclose((p.log_prob(x) + coefficient).detach().numpy(), whole, rtol=1e-6)


def test_its_gradients_are_exact_and_several_draws_are_several_values(monkeypatch):
    monkeypatch.setattr("scelbo.likelihoods.sparse.VALUES_AT_ONCE", 4 * GENES)  # more than two chunks, with a leftover
    _, x, theta, phi = _mixture()
    weight = torch.arange(9.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t, p: BagOfWords(t, p).log_prob(x) * weight, (theta, phi))
    twice = BagOfWords(torch.stack([theta, theta.flip(0)]), torch.stack([phi, phi.flip(1)])).log_prob(x)
    torch.testing.assert_close(twice[1], BagOfWords(theta.flip(0), phi.flip(1)).log_prob(x))


def test_genes_that_were_not_measured_are_left_out():
    dense, x, theta, phi = _mixture()
    seen = np.arange(GENES) % 3 > 0
    x.measured = torch.from_numpy(np.flatnonzero(seen))
    x = Counts.of(np.where(seen, dense, 0)).to(torch.float64)
    x.measured = torch.from_numpy(np.flatnonzero(seen))
    p = BagOfWords(theta, phi).scale.detach().numpy()[:, seen]
    expected = (dense[:, seen] * np.log(p / p.sum(1, keepdims=True))).sum(1)
    np.testing.assert_allclose(BagOfWords(theta, phi).log_prob(x).detach().numpy(), expected)


@pytest.mark.parametrize("alpha", [[0.3, 0.3, 0.3], [2.0, 5.0, 9.0, 4.0]])
def test_the_logistic_normal_is_laplaces_approximation_of_the_dirichlet(alpha):
    """At the mode the gradient in the softmax basis is 0, and its curvature across the simplex is the normal's precision there."""
    normal, a = logistic_normal(torch.tensor(alpha)), torch.tensor(alpha, dtype=torch.float64)
    log_density = lambda z: (a * z.log_softmax(-1)).sum()  # noqa: E731
    at = normal.mean.double().requires_grad_()
    assert float(torch.autograd.grad(log_density(at), at)[0].abs().max()) < 1e-6
    curvature = -torch.autograd.functional.hessian(log_density, at.detach())
    np.testing.assert_allclose(np.linalg.pinv(curvature.numpy()).diagonal(), normal.variance.numpy(), rtol=1e-4)


# ------------------------------------------------------------------ the model
def test_topics_and_proportions_are_found_again(fitted):
    model, theta, phi = fitted
    ours = model.get_feature_by_topic().to_numpy().T
    distance = np.abs(ours[:, None] - phi[None]).sum(-1) / 2  # total variation
    mine, true = linear_sum_assignment(distance)
    assert distance[mine, true].max() < 0.1
    found = model.get_latent_representation().to_numpy()[:, mine]
    assert np.abs(found - theta[:, true]).mean() < 0.05
    assert np.corrcoef(found.ravel(), theta[:, true].ravel())[0, 1] > 0.97


def test_answers_are_tables_of_shares(fitted):
    model, *_ = fitted
    names = [f"topic_{k}" for k in range(TOPICS)]
    theta, phi = model.get_latent_representation(indices=[5, 2]), model.get_feature_by_topic()
    assert list(theta) == names and list(theta.index) == list(model.adata.obs_names[[5, 2]])
    assert list(phi) == names and list(phi.index) == list(model.adata.var_names)
    np.testing.assert_allclose(theta.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(phi.sum(0), 1, rtol=1e-5)
    top = model.get_top_features(3)
    assert list(top) == ["topic", "rank", "feature", "probability"] and list(top["rank"]) == [1, 2, 3] * TOPICS
    assert top["feature"][0] == phi["topic_0"].idxmax() and top["probability"][0] == pytest.approx(phi["topic_0"].max(), rel=1e-6)
    one = model.get_latent_representation(give_mean=False, seed=1)
    pd.testing.assert_frame_equal(one, model.get_latent_representation(give_mean=False, seed=1))
    assert not np.allclose(one, model.get_latent_representation(give_mean=False, seed=2))
    with pytest.raises(errors.ArgumentError, match="n=0"):
        model.get_top_features(0)


def test_few_quasi_random_points_do_what_thousands_of_draws_do(fitted):
    model, *_ = fitted
    q = model.module.inference(next(model.batches(indices=np.arange(50)))).z
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = (q.mean + q.stddev * torch.randn(100_000, *q.mean.shape, generator=source)).softmax(-1)
    truth = draws.double().mean(0).numpy()
    off = lambda x: np.sqrt(np.square(x - truth).mean())  # noqa: E731
    plain = off(draws[:5000].double().mean(0).numpy())
    assert off(model.get_latent_representation(indices=np.arange(50)).to_numpy()) < 1.5 * plain


def test_perplexity_is_a_bound_between_1_and_the_genes(fitted):
    model, theta, phi = fitted
    x = model.adata.X.toarray()
    truth = math.exp(-(x * np.log(theta @ phi)).sum() / x.sum())
    assert 1 < truth < model.get_perplexity() < 1.15 * truth < GENES
    held_out = model.held_out_indices
    assert model.get_perplexity(indices=held_out, seed=1) == pytest.approx(model.get_perplexity(model.adata[held_out].copy(), seed=1))
    elbo, size = model.get_elbo(indices=held_out, return_mean=False, seed=1), x[held_out].sum()
    assert model.get_perplexity(indices=held_out, seed=1) == pytest.approx(math.exp(-elbo.sum() / size), rel=1e-5)
    assert (elbo < 0).all()


def test_the_loss_is_minus_the_elbo_term_by_term(fitted):
    model, *_ = fitted
    (cells,), module = model.batches(batch_size=600), model.module
    with torch.no_grad(), settings.private_seed():
        q = module.inference(cells)
        z = draw(q)
        loss = module.loss(cells, q, z, module.generative(z, cells))
        p = z.z.softmax(-1) @ z.phi.softmax(-1)
        expected = -(cells.x.dense() * p.log()).sum(-1)
    torch.testing.assert_close(loss.nll["x"], expected)
    for name, q_, kl in (("cell_topic_prior", q.z, loss.kl["z"]), ("topic_feature_prior", q.phi, loss.kl_global["phi"])):
        mean, sd = getattr(module, name)
        terms = (sd / q_.stddev).log() + (q_.variance + (q_.mean - mean) ** 2) / (2 * sd**2) - 0.5
        torch.testing.assert_close(kl, (terms.sum(-1) if name == "cell_topic_prior" else terms.sum()).detach(), rtol=1e-4, atol=1e-3)
    assert float(loss.total(n_cells=600)) == pytest.approx(float(loss.per_cell().mean() + loss.kl_global["phi"] / 600))


def test_minified_cells_keep_their_topics(fitted):
    model, *_ = fitted
    small = model.minify()
    pd.testing.assert_frame_equal(small.get_latent_representation(), model.get_latent_representation())
    with pytest.raises(errors.DataError, match="minified"):
        small.get_perplexity()


def test_cells_start_the_topics_and_the_seed_says_which(adata):
    AmortizedLDA.setup_anndata(adata)
    starts = [AmortizedLDA(adata, n_topics=5).module.topic_mean.detach() for _ in range(2)]
    assert torch.equal(*starts) and len(starts[0].unique(dim=0)) == 5
    expected = AmortizedLDA(adata[:3].copy(), n_topics=5)  # fewer cells than topics
    assert expected.module.topic_mean.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"cell_topic_prior": [0.1, 0.2]}, "2 numbers, and there are 20"),
        ({"topic_feature_prior": [0.1] * 3}, "3 numbers, and there are 40"),
        ({"cell_topic_prior": -1.0}, "above zero"),
        ({"topic_feature_prior": float("nan")}, "above zero"),
        ({"cell_topic_prior": "flat"}, "must be a number"),
        ({"cell_topic_prior": [0.1, "x"]}, "must be a number"),
        ({"topic_feature_prior": []}, "must be a list"),
        ({"n_topics": 1}, "2 or more"),
        ({"n_topics": 0}, "whole number"),
    ],
)
def test_what_cannot_be_is_said_before_training(adata, arguments, match):
    AmortizedLDA.setup_anndata(adata)
    with pytest.raises(errors.ArgumentError, match=match):
        AmortizedLDA(adata, **arguments)
