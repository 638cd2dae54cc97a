"""Compiled loops do what torch does: in float32 they are as near to its float64 as its float32 is."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from scelbo import SCVI, kernels, likelihoods, settings
from scelbo.analysis import differential as engine
from scelbo.data import Counts
from scelbo.data.dense import SparseNeededError, dense
from scelbo.likelihoods import Accessibility, Mean, NegativeBinomial, ZeroInflatedNegativeBinomial

CELLS, GENES = 37, 61

pytestmark = pytest.mark.skipif(not kernels.present(), reason="needs numba")


def _counts():
    x = sparse.random(CELLS, GENES, 0.3, format="csr", random_state=1)
    x.data = np.ceil(x.data**4 * 300)
    return Counts.of(x)


def _draw(*shape, seed, scale=2.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


MAKE = {
    "nb": lambda link, h, log_l, t: NegativeBinomial(Mean(h, log_l, link), t),
    "zinb": lambda link, h, log_l, t, z: ZeroInflatedNegativeBinomial(Mean(h, log_l, link), t, z),
    "accessibility": lambda link, h, cell, region: Accessibility(h, cell, region[0]),
}
CASES = [(name, link, rows) for name in MAKE for link in ("softmax", "softplus") for rows in (1, CELLS)]
CASES = [c for c in CASES if c[0] != "accessibility" or c[1:] == ("softmax", 1)]


def _inputs(name, rows):
    parts = [_draw(CELLS, GENES, seed=0), _draw(CELLS, 1, seed=1), _draw(rows, GENES, seed=2, scale=4.0)]
    return parts + ([_draw(CELLS, GENES, seed=3, scale=6.0)] if name == "zinb" else [])


def _asked(name, link, inputs, weight, dtype, monkeypatch, compiled):
    monkeypatch.setattr(settings, "compiled", compiled)
    given = [q.to(dtype).requires_grad_() for q in inputs]
    value = MAKE[name](link, *given).log_prob(_counts().to(dtype))
    (value * weight.to(dtype)).sum().backward()
    return [value.detach(), *(q.grad for q in given)]


@pytest.mark.parametrize("alike", [True, False], ids=["alike", "weighted"])
@pytest.mark.parametrize(("name", "link", "rows"), CASES)
def test_values_and_gradients_are_those_of_torch(name, link, rows, alike, monkeypatch):
    weight = torch.full((CELLS,), 0.3) if alike else torch.linspace(0.5, 2, CELLS)
    inputs = _inputs(name, rows)
    exact = _asked(name, link, inputs, weight, torch.float64, monkeypatch, compiled=True)  # float64 is torch's
    for ours, true in zip(_asked(name, link, inputs, weight, torch.float32, monkeypatch, compiled=True), exact, strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-4, atol=3e-6 * float(true.abs().max()))


@pytest.mark.parametrize("name", MAKE)
def test_what_is_not_finite_stays_so(name):
    inputs = _inputs(name, 1)
    inputs[0][3, 5] = torch.nan
    value = MAKE[name]("softmax", *inputs).log_prob(_counts())
    assert value[3].isnan() and value.isfinite().sum() == CELLS - 1


@pytest.mark.parametrize(("name", "link", "rows"), CASES)
def test_values_alone_are_the_same_and_no_gradient_is_kept(name, link, rows, monkeypatch):
    inputs, made, gradient = _inputs(name, rows), [], likelihoods.compiled._gradient
    monkeypatch.setattr(likelihoods.compiled, "_gradient", lambda of, wanted: made.append(gradient(of, wanted)) or made[-1])
    with_gradients = MAKE[name](link, *(q.clone().requires_grad_() for q in inputs)).log_prob(_counts())
    assert made[0].shape == (CELLS, GENES)
    made.clear()
    with torch.inference_mode():
        assert torch.equal(MAKE[name](link, *inputs).log_prob(_counts()), with_gradients)
    assert made and all(d.shape == (1, GENES) for d in made)


def test_neighbours_are_those_of_the_whole_and_share_its_memory():
    x = _counts()
    some = x.take(torch.arange(5, 30))
    assert (some.scipy() != x.scipy()[5:30]).nnz == 0 and some.val.data_ptr() == x.val[int(x.crow[5]) :].data_ptr()
    other = x.take(torch.cat([torch.arange(5, 30), torch.tensor([7])]))
    for name in ("row", "col", "val", "size", "log_factorial", "flat"):
        mine, theirs = getattr(some, name), getattr(other, name)[: len(getattr(some, name))]
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), name


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 1001])
def test_rows_are_described_as_numpy_does(n, monkeypatch):
    rng = np.random.default_rng(n)
    values = [rng.normal(size=n), rng.standard_cauchy(n), rng.integers(0, 3, n), np.zeros(n), np.exp(9 * rng.normal(size=n))]
    e = np.stack(values).astype(np.float32)
    ours = engine.described(e)
    monkeypatch.setattr(settings, "compiled", False)
    for name, expected in engine.described(e).items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-4 if name == "std" else 0, atol=0)
    assert np.isnan(engine.described(np.full((1, 3), np.nan, np.float32))["median"]).all()


def test_rows_and_columns_are_those_of_scipy(monkeypatch):
    x, rows = _counts(), torch.tensor([5, 0, 5, 36, 1])
    ours, expected = x.take(rows), x.scipy()[rows.numpy()]
    assert (ours.scipy() != expected).nnz == 0
    columns = expected.tocsc()
    for mine, theirs in zip(ours.by_column, (columns.indices, columns.indptr, columns.data), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    monkeypatch.setattr(settings, "compiled", False)
    torchs = x.take(rows)
    for name in ("crow", "row", "col", "val", "size", "log_factorial"):
        mine, theirs = getattr(ours, name), getattr(torchs, name)
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), name
    assert len(x.take(rows[:0]).val) == 0


def test_training_without_them_is_the_same(adata, monkeypatch):
    losses = []
    for compiled in (True, False):
        monkeypatch.setattr(settings, "compiled", compiled)
        SCVI.setup_anndata(adata, batch_key="batch")
        model = SCVI(adata, n_hidden=16)
        model.train(3)
        losses.append(model.history["elbo_train"].to_numpy())
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_who_may_use_them(monkeypatch):
    one = torch.ones(1)
    assert kernels.compiled(one) and not kernels.compiled(one, one.double()) and not kernels.compiled(one.to("meta"))
    monkeypatch.setattr(kernels, "present", lambda: False)
    assert not kernels.compiled(one)


@pytest.mark.parametrize("kept", [True, False])
def test_the_first_wait_is_explained(kept, monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(settings, "say", told.append)
    monkeypatch.setattr(kernels, "Path", lambda folder: tmp_path)
    if kept:
        (tmp_path / "sparse.gather-11.py311.nbi").touch()
    kernels.loop.__wrapped__("sparse", "gather")
    assert len(told) == (not kept)


SAME_BITS = """
import hashlib, torch
from test_kernels import _counts, _inputs, MAKE
given = [q.requires_grad_() for q in _inputs("zinb", 1)]
MAKE["zinb"]("softmax", *given).log_prob(_counts()).sum().backward()
print(hashlib.sha256(b"".join(q.grad.numpy().tobytes() for q in given)).hexdigest())
"""


def test_what_was_compiled_now_or_earlier_gives_the_same_bits(tmp_path):
    path = os.pathsep.join([str(Path(kernels.__file__).parents[2]), str(Path(__file__).parent)])
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    said = [subprocess.run([sys.executable, "-c", SAME_BITS], env=env, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert "Compiling" in said[0] and "Compiling" not in said[1]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]


@pytest.mark.parametrize("name", MAKE)
def test_how_a_matrix_lies_in_memory_changes_nothing(name):
    results = []
    for turn in (lambda q: q, lambda q: q.T.contiguous().T):
        given = [turn(q).requires_grad_() for q in _inputs(name, 1)]
        MAKE[name]("softmax", *given).log_prob(_counts()).sum().backward()
        results.append([q.grad for q in given])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_dense_counts_are_the_sparse_ones_and_say_when_these_are_needed():
    x, weight, typical = _counts().within(torch.arange(3, GENES)), _draw(GENES, 3, seed=0), _draw(GENES, seed=1)
    for sparse_, dense_ in ((x, dense(x)), (x.map(torch.log1p), dense(x).map(torch.log1p))):
        torch.testing.assert_close(dense_ @ weight, sparse_ @ weight)
        torch.testing.assert_close(dense_.filled(typical) @ weight, sparse_.filled(typical) @ weight)
        assert torch.equal(dense_.dense(), sparse_.dense())
    some = torch.tensor([1, 4, 5])
    for rows in (slice(2, 7), torch.tensor([5, 0, 2])):
        for part, other in ((x.take(rows), dense(x).take(rows)), (x.take(rows).within(some), dense(x).take(rows).within(some))):
            for one, two in ((part, other), (part.kept(), other.kept())):
                torch.testing.assert_close(two.matrix, one.dense())
                torch.testing.assert_close((two.size, two.log_factorial), (one.size, one.log_factorial))
    torch.testing.assert_close(x.only(some).dense(), x.only(torch.arange(GENES)[:, None].eq(some).any(1)).dense())
    with pytest.raises(SparseNeededError):
        dense(x).scipy()


def test_loops_may_have_wide_vectors():
    wide, host = import_module("scelbo.kernels.maths").wide, import_module("llvmlite.binding").get_host_cpu_features()

    @import_module("numba").njit(fastmath=True)
    def total(x):
        wide()
        found = np.float32(0)
        for i in range(x.shape[0]):
            found += x[i]
        return found

    assert total(np.ones(100, np.float32)) == 100
    (signature,) = total.signatures
    assert '"prefer-vector-width"="512"' in total.inspect_llvm(signature)
    assert "zmm" in total.inspect_asm(signature) or not host.get("avx512f")
