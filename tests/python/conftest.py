"""What tests share. Warnings are errors (pyproject), one thread, no progress bars."""

import numpy as np
import pytest
import torch

from scelbo import settings
from scelbo.data.simulate import counts

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(settings, "progress", False)


@pytest.fixture
def adata():
    """120 cells x 40 genes in 2 batches, 3 donors, 4 types."""
    return counts(120, 40, seed=1)


@pytest.fixture(autouse=True)
def global_random_state_is_untouched():
    """Nothing that a test does may draw from, or seed, the caller's random numbers."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global random state was touched"
    assert (before[1] == np.random.get_state()[1]).all(), "numpy's global random state was touched"
