"""The Bernoulli likelihood of open chromatin: its value by definition, its gradients by finite differences."""

import pytest
import torch
from test_likelihoods import _draw
from torch.nn.functional import binary_cross_entropy

from scelbo import settings
from scelbo.data import Counts
from scelbo.likelihoods import Accessibility

CELLS, REGIONS = 23, 14


@pytest.fixture(params=[True, False], ids=["factors", "none"])
def factors(request):
    """Logits of the cells' and the regions' factors, or of ones."""
    certain = torch.full((1,), torch.inf, dtype=torch.float64)
    return (_draw(CELLS, 1, seed=1), _draw(REGIONS, seed=2)) if request.param else (certain.expand(CELLS, 1), certain.expand(REGIONS))


def _seen():
    dense = (torch.rand(CELLS, REGIONS, generator=torch.Generator().manual_seed(5)) < 0.3).double() * 2  # counts of 2 are seen as well
    return dense, Counts.of(dense.numpy()).to(torch.float64)


def test_value_is_that_of_the_definition(factors):
    dense, x = _seen()
    ours = Accessibility(_draw(CELLS, REGIONS), *factors)
    expected = -binary_cross_entropy(ours.mean, (dense > 0).double(), reduction="none").sum(-1)
    torch.testing.assert_close(ours.log_prob(x), expected)


def test_gradients(factors, monkeypatch):
    monkeypatch.setattr("scelbo.likelihoods.sparse.VALUES_AT_ONCE", 5 * REGIONS)
    _, x = _seen()
    h, inputs = _draw(CELLS, REGIONS), [f for f in factors if f.requires_grad]
    assert torch.autograd.gradcheck(lambda h, *f: Accessibility(h, *(f or factors)).log_prob(x), (h, *inputs))


def test_draws_of_latents_are_rows_of_their_own(factors):
    _, x = _seen()
    h = _draw(3, CELLS, REGIONS)
    torch.testing.assert_close(Accessibility(h, *factors).log_prob(x)[1], Accessibility(h[1], *factors).log_prob(x))


def test_regions_that_were_not_measured_are_left_out(factors):
    dense, _ = _seen()
    dense[:, ::3] = 0
    x = Counts.of(dense.numpy()).to(torch.float64)
    x.measured = seen = (torch.arange(REGIONS) % 3).nonzero()[:, 0]
    h = _draw(CELLS, REGIONS)
    fewer = Counts.of(dense[:, seen].numpy()).to(torch.float64)
    expected = Accessibility(h[:, seen], factors[0], factors[1][seen]).log_prob(fewer)
    torch.testing.assert_close(Accessibility(h, *factors).log_prob(x), expected)


@pytest.mark.parametrize("extreme", [-80.0, 80.0])
def test_float32_stays_finite_at_extremes(extreme):
    _, x = _seen()
    h = torch.full((CELLS, REGIONS), extreme, requires_grad=True)
    cell, region = torch.full((CELLS, 1), extreme, requires_grad=True), torch.full((REGIONS,), extreme, requires_grad=True)
    value = Accessibility(h, cell, region).log_prob(x.to(torch.float32))
    value.sum().backward()
    assert value.isfinite().all() and all(q.grad.isfinite().all() for q in (h, cell, region))


def test_draws_have_the_mean(factors):
    ours = Accessibility(_draw(CELLS, REGIONS).detach(), *(f.detach() for f in factors))
    with settings.private_seed(1):
        mean = torch.stack([ours.sample() for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, ours.mean, atol=0.04, rtol=0)
