"""Values against scipy, gradients against finite differences in float64."""

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from scelbo import settings
from scelbo.data import Counts
from scelbo.likelihoods import Mean, NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial

CELLS, GENES = 37, 11  # more than two chunks, with a leftover


@pytest.fixture(params=["softmax", "softplus"])
def link(request):
    return request.param


@pytest.fixture(params=["gene", "cell"])
def theta_rows(request):
    return 1 if request.param == "gene" else CELLS


def _counts():
    x = sparse.random(CELLS, GENES, 0.4, format="csr", random_state=1)
    x.data = np.ceil(x.data * 9)
    return x.toarray(), Counts.of(x).to(torch.float64)


def _draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def _scipy(name, x, mu, theta, pi):
    nb = stats.nbinom(theta, theta / (theta + mu))
    return {
        "nb": lambda: nb.logpmf(x),
        "zinb": lambda: np.log((x == 0) * pi + (1 - pi) * nb.pmf(x)),
        "poisson": lambda: stats.poisson(mu).logpmf(x),
        "normal": lambda: stats.norm(mu, theta).logpdf(x),
    }[name]().sum(-1)


MAKE = {
    "nb": lambda m, t, z: NegativeBinomial(m, t),
    "zinb": lambda m, t, z: ZeroInflatedNegativeBinomial(m, t, z),
    "poisson": lambda m, t, z: Poisson(m),
    "normal": lambda m, t, z: Normal(m, t),
}


@pytest.mark.parametrize("name", MAKE)
def test_value_equals_scipy(name, link, theta_rows):
    dense, x = _counts()
    h, log_l, log_theta, zi = _draw(CELLS, GENES), _draw(CELLS, 1, seed=1), _draw(theta_rows, GENES, seed=2), _draw(CELLS, GENES, seed=3)
    ours = MAKE[name](Mean(h, log_l, link), log_theta, zi)
    expected = _scipy(name, dense, ours.mean.detach().numpy(), log_theta.exp().detach().numpy(), zi.sigmoid().detach().numpy())
    np.testing.assert_allclose(ours.log_prob(x).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("name", MAKE)
def test_gradient_equals_finite_differences(name, link, theta_rows):
    _, x = _counts()
    inputs = (_draw(CELLS, GENES), _draw(CELLS, 1, seed=1), _draw(theta_rows, GENES, seed=2), _draw(CELLS, GENES, seed=3))
    weight = torch.linspace(0.5, 2, CELLS, dtype=torch.float64)  # cells may count differently
    loss = lambda h, l, t, z: (MAKE[name](Mean(h, l, link), t, z).log_prob(x) * weight).sum()  # noqa: E731, E741
    used = {"nb": 3, "zinb": 4, "poisson": 2, "normal": 3}[name]
    rest = [q.detach() for q in inputs[used:]]
    assert torch.autograd.gradcheck(lambda *q: loss(*q, *rest), inputs[:used])


@pytest.mark.parametrize("name", MAKE)
def test_sample_axes_are_rows_of_their_own(name, link):
    _, x = _counts()
    h, log_l, log_theta, zi = _draw(3, CELLS, GENES), _draw(CELLS, 1, seed=1), _draw(1, GENES, seed=2), _draw(3, CELLS, GENES, seed=3)
    together = MAKE[name](Mean(h, log_l, link), log_theta, zi).log_prob(x)
    apart = torch.stack([MAKE[name](Mean(h[i], log_l, link), log_theta, zi[i]).log_prob(x) for i in range(3)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("name", MAKE)
def test_draws_have_the_mean_and_variance_stated(name):
    h, log_l, log_theta, zi = (
        q.detach() for q in (_draw(2, 5), torch.full((2, 1), 3.0).double(), _draw(1, 5, seed=2), _draw(2, 5, seed=3))
    )
    one = MAKE[name](Mean(h, log_l), log_theta, zi)
    with settings.private_seed(0):
        draws = MAKE[name](Mean(h.expand(40_000, 2, 5), log_l), log_theta, zi.expand(40_000, 2, 5)).sample()
    expected = one.mean * (torch.sigmoid(-zi) if name == "zinb" else 1)
    spread = one.variance.sqrt()
    assert ((draws.mean(0) - expected).abs() < 6 * spread / 200).all()
    torch.testing.assert_close(draws.var(0), one.variance.expand(2, 5), rtol=0.15, atol=0)


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
@pytest.mark.parametrize("name", MAKE)
def test_float32_stays_finite_at_extremes(name, extreme):
    _, x = _counts()
    x = x.to(torch.float32)
    h = torch.full((CELLS, GENES), extreme, requires_grad=True)
    zi = torch.full((CELLS, GENES), -extreme, requires_grad=True)
    theta = torch.full((1, GENES), extreme / 6, requires_grad=True)
    value = MAKE[name](Mean(h, torch.full((CELLS, 1), 5.0)), theta, zi).log_prob(x)
    value.sum().backward()
    assert value.isfinite().all() and h.grad.isfinite().all()
    assert all(q.grad is None or q.grad.isfinite().all() for q in (zi, theta))


@pytest.mark.parametrize("name", MAKE)
def test_unmeasured_genes_are_left_out(name, link):
    dense, _ = _counts()
    dense[:, ::3] = 0
    x = Counts.of(dense).to(torch.float64)
    x.measured = (torch.arange(GENES) % 3).nonzero()[:, 0]
    h, log_l, log_theta, zi = _draw(CELLS, GENES), _draw(CELLS, 1, seed=1), _draw(1, GENES, seed=2), _draw(CELLS, GENES, seed=3)
    seen = x.measured
    fewer = Counts.of(dense[:, seen.numpy()]).to(torch.float64)
    expected = MAKE[name](Mean(h[:, seen], log_l, link), log_theta[:, seen], zi[:, seen]).log_prob(fewer)
    torch.testing.assert_close(MAKE[name](Mean(h, log_l, link), log_theta, zi).log_prob(x), expected)
