"""The likelihood of spots: a sum of negative binomials, and the amounts that make it largest."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.distributions import NegativeBinomial

from scelbo.data import Counts
from scelbo.likelihoods import AdditiveNB, Amounts, amounts


@pytest.fixture
def mixed():
    """Counts, profiles of 4 types (the last never there), log-odds; float64."""
    rng = torch.Generator().manual_seed(0)
    basis = torch.rand(4, 60, generator=rng, dtype=torch.float64) ** 3 / 20
    o, v = torch.randn(60, generator=rng, dtype=torch.float64) / 2, 200 * torch.rand(12, 4, generator=rng, dtype=torch.float64)
    v[:, 3] = 0
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AdditiveNB(v @ basis, o, torch.ones(12, 1, dtype=torch.float64)).sample(), basis, o


def test_the_likelihood_is_torchs_and_so_are_its_gradients(mixed):
    x, _, o = mixed
    cells = Counts.of(x.numpy()).to(torch.float64)
    r, size = (
        (torch.rand(12, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.01),
        torch.full((12, 1), 3.0).double(),
    )
    expected = NegativeBinomial(size * r, logits=o, validate_args=False).log_prob(x).sum(1)
    p = AdditiveNB(r, o, size)
    np.testing.assert_allclose(p.log_prob(cells), expected, rtol=1e-9)
    np.testing.assert_allclose(p.mean, NegativeBinomial(size * r, logits=o).mean)
    np.testing.assert_allclose(p.variance, NegativeBinomial(size * r, logits=o).variance)
    leaves = (r.requires_grad_(), o.clone().requires_grad_(), size.requires_grad_())
    assert torch.autograd.gradcheck(lambda *q: AdditiveNB(*q).log_prob(cells), leaves)


def test_sums_of_draws_have_the_distribution_of_the_sum():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = lambda r: AdditiveNB(torch.full((40_000, 1), r), torch.tensor([0.7]), torch.ones(1, 1)).sample()  # noqa: E731
        parts, whole = one(0.4) + one(1.1), AdditiveNB(torch.full((1, 1), 1.5), torch.tensor([0.7]), torch.ones(1, 1))
    assert float(parts.mean()) == pytest.approx(float(whole.mean), rel=0.02)
    assert float(parts.var()) == pytest.approx(float(whole.variance), rel=0.05)


def test_amounts_are_where_a_general_optimiser_ends(mixed):
    x, basis, o = mixed
    found = amounts(Counts.of(x.numpy()), basis, o)
    for row, v in zip(x, found, strict=True):
        cost = lambda v, row=row: -float(NegativeBinomial(torch.from_numpy(v) @ basis + 1e-12, logits=o).log_prob(row).sum())  # noqa: E731
        best = optimize.minimize(cost, np.full(4, 50.0), bounds=[(0, None)] * 4, method="L-BFGS-B", options={"maxiter": 500})
        assert cost(v.numpy()) <= best.fun + 1e-6
    assert (found[:, 3] < 0.2 * found.sum(1)).all()
    of_each = amounts(Counts.of(x.numpy()), basis.expand(12, 4, 60), o)
    np.testing.assert_allclose(of_each, found, rtol=1e-6, atol=1e-6)


def test_amounts_of_types_that_are_nearly_alike_settle_soon_at_the_best():
    draw = torch.Generator().manual_seed(3)
    alike = torch.rand(1, 19, generator=draw, dtype=torch.float64) + 0.01
    basis = alike * torch.exp(0.05 * torch.randn(5, 19, generator=draw, dtype=torch.float64))
    o = torch.zeros(19, dtype=torch.float64)
    cells = Counts.of(torch.poisson(torch.rand(200, 1, generator=draw) * 3 * alike.float(), generator=draw).numpy())
    v, of = amounts(cells, basis, o, rounds=20), Amounts(cells, basis, o)
    slope = (of.gain(v) - of.price) / of.price
    assert slope.max() < 1e-6, "no amount would gain by growing"
    assert slope[v > 1e-6 * v.sum(1, keepdim=True)].abs().max() < 1e-6, "nor by falling, but for those at 0"


def test_the_information_is_minus_the_second_derivative(mixed):
    x, basis, o = mixed
    cells, v = Counts.of(x.numpy()[:1]).to(torch.float64), torch.tensor([[40.0, 30.0, 90.0, 5.0]]).double()
    value = lambda v: AdditiveNB(v[None] @ basis, o, torch.ones(1, 1).double()).log_prob(cells)[0]  # noqa: E731
    expected = -torch.autograd.functional.hessian(value, v[0])
    for b in (basis, basis[None]):
        np.testing.assert_allclose(Amounts(cells, b, o).information(v)[0], expected, rtol=1e-8)
        slope = Amounts(cells, b, o).gain(v) - Amounts(cells, b, o).price
        np.testing.assert_allclose(slope[0], torch.autograd.functional.jacobian(value, v[0]), rtol=1e-8)
