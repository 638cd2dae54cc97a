"""The likelihood of antibody counts, against scipy."""

import numpy as np
import pytest
import torch
from scipy import stats

from scelbo import settings
from scelbo.likelihoods import ProteinMixture, log_nb


def _mixture(dtype=torch.float64, **more):
    with settings.private_seed(0):
        shape = (6, 4)
        parts = [torch.randn(shape, dtype=dtype) + 1, torch.rand(shape, dtype=dtype) * 2, torch.randn(shape, dtype=dtype)]
        y = torch.randint(0, 12, shape).to(dtype)
        return ProteinMixture(*parts, torch.randn(1, 4, dtype=dtype), **more), y


def _nb(y, mu, phi):
    return stats.nbinom.logpmf(y, phi, phi / (phi + mu))


def test_negative_binomial_is_scipys():
    p, y = _mixture()
    phi = p.log_phi.exp().numpy()
    np.testing.assert_allclose(log_nb(y, p.log_back, p.log_phi), _nb(y.numpy(), p.background.numpy(), phi), rtol=1e-10)


def test_the_mixture_and_its_mask():
    p, y = _mixture()
    pi, phi = p.mixing.sigmoid().numpy(), p.log_phi.exp().numpy()
    both = pi * np.exp(_nb(y.numpy(), p.background.numpy(), phi)) + (1 - pi) * np.exp(_nb(y.numpy(), p.foreground.numpy(), phi))
    np.testing.assert_allclose(p.log_prob(y), np.log(both).sum(1), rtol=1e-10)
    measured = torch.tensor([True, False, True, True]).expand(6, 4)
    some, _ = _mixture(measured=measured)
    np.testing.assert_allclose(some.log_prob(y), np.log(both)[:, [0, 2, 3]].sum(1), rtol=1e-10)


def test_gradients():
    p, y = _mixture()
    parts = [t.clone().requires_grad_() for t in (p.log_back, p.log_alpha, p.mixing, p.log_phi)]
    assert torch.autograd.gradcheck(lambda *a: ProteinMixture(*a).log_prob(y), parts)


def test_draws_have_the_moments_that_are_said():
    p, _ = _mixture()
    many = ProteinMixture(*(t.expand(20_000, 6, 4) for t in (p.log_back, p.log_alpha, p.mixing)), p.log_phi)
    with settings.private_seed(1):
        drawn = many.sample()
    np.testing.assert_allclose(drawn.mean(0), p.mean, rtol=0.15)
    assert float((drawn.var(0) / p.variance).median()) == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(p.scale, p.probability * p.foreground)
