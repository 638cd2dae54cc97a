"""Products by oneDNN are PyTorch's own to float32's precision, with gradients, however matrices lie in memory."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from scelbo import settings
from scelbo.kernels import products
from scelbo.nn import Linear

M, K, N = 96, 128, 500


@pytest.fixture(autouse=True)
def onednn(monkeypatch):
    """Whatever the processor; the products that it made."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    made, operator = [], torch.ops.mkldnn._linear_pointwise.default
    monkeypatch.setattr(products, "onednn", lambda: lambda *given: made.append(given) or operator(*given))
    return made


def _matrix(*shape, seed, transposed=False):
    shape = (*shape[:-2], shape[-1], shape[-2]) if transposed else shape
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.mT if transposed else values


def _answers(multiply, h, weight, bias, of, dtype):
    given = [q.detach().to(dtype).requires_grad_() for q in (h, weight, bias)]
    y = multiply(*given)
    of(y).backward()
    return [y.detach(), *(q.grad for q in given)]


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("of", [lambda y: y.square().sum(), lambda y: y.sum()], ids=["square", "sum"])
@pytest.mark.parametrize("samples", [(), (3,)], ids=str)
def test_values_and_gradients(samples, of, transposed, onednn):
    h = _matrix(*samples, M, K, seed=0, transposed=transposed[0])
    weight, bias = _matrix(K, N, seed=1, transposed=transposed[1]), _matrix(1, N, seed=2)[0]
    ours = _answers(products.affine, h, weight, bias, of, torch.float32)
    assert len(onednn) == 3
    for found, exact in zip(ours, _answers(lambda h, w, b: h @ w + b, h, weight, bias, of, torch.float64), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


CUTS = {
    "steps": lambda q: q[..., ::2],
    "some columns": lambda q: q[..., 3:-5],
    "one column": lambda q: q[..., :1].expand_as(q),
    "one row": lambda q: q[:1].expand_as(q),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_with_gaps_in_memory_of_which_onednn_makes_slow_or_wrong_products(cut, onednn):
    h, weight, bias = cut(_matrix(M, 2 * K, seed=0)), cut(_matrix(2 * K, 2 * N, seed=1)), cut(_matrix(1, 2 * N, seed=2)[0])
    weight = weight[: h.shape[1]]
    exact = h.double() @ weight.double() + bias.double()
    torch.testing.assert_close(products.affine(h, weight, bias).double(), exact, rtol=1e-4, atol=1e-4)
    assert len(onednn) == 1
    assert all(q.is_contiguous() or q.T.is_contiguous() for q in onednn[0][:2]) and onednn[0][2].is_contiguous()


def test_what_is_not_a_number_stays_so(onednn):
    h = _matrix(M, K, seed=0)
    h[3, 4], h[5, 6] = torch.nan, torch.inf
    y = products.affine(h, _matrix(K, N, seed=1))
    assert y[3].isnan().all() and y[5].isinf().all() and y.isfinite().sum() == (M - 2) * N and len(onednn) == 1


def test_gradients_have_gradients():
    h, weight = _matrix(M, K, seed=0).requires_grad_(), _matrix(K, N, seed=1).requires_grad_()
    found = []
    for multiply in (products.affine, torch.matmul):
        slope = torch.autograd.grad(multiply(h, weight).square().sum(), h, create_graph=True)[0]
        found.append(torch.autograd.grad(slope.square().sum(), weight)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4 * float(found[1].abs().max()))


def test_torchs_own_transforms_go_through():
    many, weight = _matrix(4, M, K, seed=0), _matrix(K, N, seed=1)
    slope = vmap(grad(lambda h: products.affine(h, weight).square().sum()))(many)
    torch.testing.assert_close(slope, 2 * many @ weight @ weight.T, rtol=1e-4, atol=1e-2)


def test_what_is_small_or_not_float32_or_not_wanted_is_torchs(onednn, monkeypatch):
    h, weight = _matrix(M, K, seed=0), _matrix(K, N, seed=1)
    products.affine(h[:10], weight)
    products.affine(h.double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert products.affine(h, weight).dtype == torch.bfloat16
    monkeypatch.setattr(settings, "compiled", False)
    products.affine(h, weight)
    assert not onednn


def test_a_linear_layer_is_torchs(onednn):
    with settings.private_seed():
        theirs, ours = nn.Linear(K, N), Linear(K, N)
    ours.load_state_dict(theirs.state_dict())
    h = _matrix(M, K, seed=0)
    torch.testing.assert_close(ours(h), theirs(h), rtol=1e-4, atol=1e-5)
    assert len(onednn) == 1


def test_only_where_it_is_faster(monkeypatch):
    monkeypatch.undo()
    operator = products.onednn()
    assert operator is None or operator is torch.ops.mkldnn._linear_pointwise.default
    assert (operator is not None) == (products.onednn.__wrapped__() is not None)
