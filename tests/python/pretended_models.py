"""Models train and answer on a device as on a processor, and steps do not wait for it: seen on one that is only pretended."""

import numpy as np
import pytest
import torch
from cases import CASES, arrays, per_cell
from pretended import DEVICE, There, pretended, register

from scelbo import settings
from scelbo.data import Counts
from scelbo.nn import Settled
from scelbo.train.epochs import EpochPlan

MAPPING = {c.model: c for c in CASES if "batch_key" in c.keys and hasattr(c.model, "load_query_data")}

ASKED = ("get_latent_representation", "get_proportions", "get_normalized_expression", "get_normalized_accessibility", "get_elbo")


@pytest.fixture(scope="module", autouse=True)
def known():
    register()


def test_the_device_refuses_what_lies_elsewhere_and_counts_who_waits(monkeypatch):
    here = torch.arange(6.0).view(2, 3)
    with pretended(monkeypatch) as device:
        there = here.to(DEVICE)
        assert isinstance(there, There) and there.device == DEVICE and torch.zeros(2, device=DEVICE).device == DEVICE
        with pytest.raises(RuntimeError, match="here and there"):
            there @ here.T
        weight = torch.ones(3, device=DEVICE, requires_grad=True)
        (there @ weight).square().sum().backward()
        assert not device.waits and isinstance(weight.grad, There)
        counts = Counts.of(np.eye(3)).to(DEVICE)
        assert not device.waits
        assert int(counts.val.sum()) == 3 and sum(device.waits.values()) == 1
    assert torch.equal(weight.grad.held, 2 * here.T @ here.sum(1))


def test_what_does_not_change_is_asked_when_a_training_begins():
    class Asked(Settled):
        asked = 0

        def look(self):
            self.asked += 1
            return self.asked > 1

    part = Asked()
    assert not part.told() and part.told() and part.asked == 2
    part.train()
    assert part.told() and part.told() and part.asked == 3
    part.eval()
    assert part.told() and part.asked == 4


def steps_on(device, monkeypatch):
    """Who waited in each step of training on the device."""
    waited, step = [], EpochPlan.step

    def watched(plan, cells):
        before = device.waits.copy()
        step(plan, cells)
        waited.append(device.waits - before)

    monkeypatch.setattr(EpochPlan, "step", watched)
    return waited


@pytest.mark.parametrize("case", CASES, ids=str)
def test_models_train_and_answer_there(case, adata, monkeypatch):
    monkeypatch.setattr(settings, "compiled", False)
    ask = [name for name in ASKED if hasattr(case.model, name)]
    answers = lambda model: {"cells": [per_cell(model)], **{name: arrays(getattr(model, name)()) for name in ask}}  # noqa: E731
    here = case.trained(adata, max_epochs=2, train_size=0.8)
    expected = answers(here)
    with pretended(monkeypatch) as device:
        waited = steps_on(device, monkeypatch)
        model = case.trained(adata, max_epochs=2, train_size=0.8, accelerator="cuda")
        model.to_device(DEVICE)
        found = answers(model)
    np.testing.assert_allclose(model._history.to_numpy(float), here._history.to_numpy(float), rtol=1e-5)
    for name, values in expected.items():
        for mine, theirs in zip(found[name], values, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
    assert waited and not any(waited), waited[-1]


@pytest.mark.parametrize("case", MAPPING.values(), ids=str)
def test_cells_that_lack_features_are_mapped_there(case, adata, monkeypatch):
    monkeypatch.setattr(settings, "compiled", False)
    reference, query = case.trained(adata, max_epochs=1), case.data(adata[:60].copy())[:, 3:].copy()
    query.obs["batch"] = "new"

    def mapped(**options):
        model = case.model.load_query_data(query, reference)
        model.train(max_epochs=2, seed=0, **options)
        return model._history.to_numpy(float)

    here = mapped()
    with pretended(monkeypatch) as device:
        waited = steps_on(device, monkeypatch)
        np.testing.assert_allclose(mapped(accelerator="cuda"), here, rtol=1e-5)
    assert waited and not any(waited), waited[-1]
