"""What tests share. Warnings are errors (pyproject), one thread, no progress bars."""

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

SHAPED = ["scelbo.likelihoods", "scelbo.nn", "scelbo.module"]
with install_import_hook(SHAPED, "beartype.beartype"):  # the shapes in their annotations are checked, in tests only
    from scelbo import settings
    from scelbo.data.simulate import cite

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture
def adata(request):
    """120 cells x 40 genes, and 5 proteins, in 2 batches, 3 donors, 4 types; as the case reads them, in tests of one."""
    cells = cite(120, 40, 5, seed=1)
    return request.getfixturevalue("case").data(cells) if "case" in request.fixturenames else cells


@pytest.fixture
def ray():
    """Ray, where it is installed with what Tune needs."""
    pytest.importorskip("ray.tune")
    return pytest.importorskip("ray")


@pytest.fixture(autouse=True)
def global_random_state_is_untouched():
    """Nothing that a test does may draw from, or seed, the caller's random numbers. (MuData and dask draw from Python's: test_seeds.py.)"""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global random state was touched"
    after = np.random.get_state()[1]  # noqa: NPY002
    assert (before[1] == after).all(), "numpy's global random state was touched"
