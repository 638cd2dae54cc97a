"""On a GPU: the same numbers as on a processor, from data that stay there, without waiting for it at every step."""

import numpy as np
import pytest
import torch
from cases import CASES, PROTEINS, arrays
from lightning.pytorch.callbacks import Callback
from test_kernels import CASES as LIKELIHOODS
from test_kernels import CELLS, GENES, MAKE, _counts, _inputs

from scelbo import PEAKVI, SCANVI, SCVI, TOTALVI, LinearSCVI, errors, kernels, settings
from scelbo.data.simulate import cite

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
OF_ONE_ANSWER = ("get_latent_representation", "get_proportions", "get_normalized_accessibility")


@pytest.mark.parametrize("compiled", [True, False], ids=["Triton", "torch"])
@pytest.mark.parametrize(("name", "link", "rows"), LIKELIHOODS)
def test_likelihoods_and_gradients_are_those_of_the_processor(name, link, rows, compiled, monkeypatch):
    weight = torch.linspace(0.5, 2, CELLS, dtype=torch.float64)

    def asked(device, dtype):
        given = [q.to(device, dtype).requires_grad_() for q in _inputs(name, rows)]
        value = MAKE[name](link, *given).log_prob(_counts().to(device, dtype))
        (value * weight.to(device, dtype)).sum().backward()
        return [value.detach(), *(q.grad for q in given)]

    exact = asked("cpu", torch.float64)
    monkeypatch.setattr(settings, "compiled", compiled)
    assert kernels.fused(torch.zeros(1, device=GPU)) == compiled
    for ours, true in zip(asked(GPU, torch.float32 if compiled else torch.float64), exact, strict=True):
        torch.testing.assert_close(ours.cpu().double(), true, rtol=1e-4, atol=3e-6 * float(true.abs().max()))


def test_minibatches_are_made_where_the_data_are():
    adata = cite(120, GENES, 5, seed=1)
    SCVI.setup_anndata(adata, batch_key="batch")
    data = SCVI(adata).read()
    near, rows = data.near(GPU), np.array([7, 3, 99, 3])
    assert near is not data and data["x"].val.device.type == "cpu"
    ours, expected = near.take(rows), data.take(rows)
    assert ours.x.val.is_cuda and ours.batch.is_cuda
    for name in ("crow", "col", "val", "row", "size", "log_factorial"):
        assert torch.equal(getattr(ours.x, name).cpu(), getattr(expected.x, name)), name
    assert torch.equal(ours.batch.cpu(), expected.batch) and torch.equal(ours.index.cpu(), expected.index)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_models_train_there_and_answer_as_on_a_processor(case, adata):
    model = case.trained(adata, max_epochs=2, accelerator="cuda", train_size=0.8)
    assert model.device.type == "cpu" and np.isfinite(model._history.to_numpy()[:, 0]).all()
    ask = [name for name in OF_ONE_ANSWER if hasattr(model, name)]
    here = [arrays(getattr(model, name)()) for name in ask]
    model.to_device("cuda")
    for name, expected in zip(ask, here, strict=True):
        for mine, theirs in zip(arrays(getattr(model, name)()), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-4, err_msg=name)
    model.train(1, seed=0, accelerator="cuda", progress=False)
    assert model.device.type == "cuda"


class Watch(Callback):
    """What became of the recording of steps."""

    def on_train_epoch_end(self, trainer, plan):
        self.still, self.recorded, self.steps = plan.still, len(plan.recorded), plan.steps


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (SCVI, {"batch_key": "batch"}),
        (LinearSCVI, {"batch_key": "batch"}),
        (PEAKVI, {"batch_key": "batch"}),
        (SCANVI, {"batch_key": "batch", "labels_key": "cell_type", "unlabeled_category": "type3"}),
        (TOTALVI, {"batch_key": "batch", **PROTEINS}),
    ],
)
def test_steps_do_not_wait_for_the_gpu_and_are_recorded(model, keys, monkeypatch):
    monkeypatch.setattr(settings, "record_steps", True)
    adata = cite(400, 60, 5, seed=1)
    model.setup_anndata(adata, **keys)
    made, watch = model(adata, n_hidden=16), Watch()
    made.train(3, batch_size=32, seed=0, accelerator="cuda", early_stopping=False, trainer_kwargs={"callbacks": [watch]})
    assert watch.still and watch.recorded > 0 and watch.steps == 3 * 12


@pytest.mark.parametrize(
    "kwargs", [{}, {"plan_kwargs": {"n_steps_kl_warmup": 20, "reduce_lr_on_plateau": True, "lr_patience": 0}}], ids=["", "schedules"]
)
def test_recorded_steps_are_those_that_are_not(kwargs, monkeypatch):
    adata, found = cite(400, 60, 5, seed=1), []
    SCVI.setup_anndata(adata, batch_key="batch")
    for recorded in (True, False):
        monkeypatch.setattr(settings, "record_steps", recorded)
        model = SCVI(adata, n_hidden=16, gene_likelihood="nb", dropout_rate=0.0)
        model.train(20, batch_size=32, seed=0, accelerator="cuda", early_stopping=False, check_val_every_n_epoch=1, **kwargs)
        found.append(model._history)
    recorded, plain = found
    assert list(recorded) == list(plain)
    for name in ("kl_weight", "lr"):
        np.testing.assert_allclose(recorded[name].iloc[0], plain[name].iloc[0], rtol=1e-6)
    for name in ("train_loss", "validation_loss"):  # the noise differs
        np.testing.assert_allclose(recorded[name].iloc[-5:].mean(), plain[name].iloc[-5:].mean(), rtol=0.02)
    if kwargs:
        assert recorded["lr"].min() < recorded["lr"].max()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_training_goes_on_where_it_was(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "record_steps", recorded)
    adata, curves = cite(200, 40, 5, seed=1), []
    SCVI.setup_anndata(adata)
    for epochs in ([4], [2, 4]):
        file = tmp_path / f"{len(epochs)}.state"
        for n in epochs:
            model = SCVI(adata, n_hidden=16, dropout_rate=0.0)
            monkey = {"max_epochs": 4, "batch_size": 32, "seed": 0, "accelerator": "cuda", "resume": file, "check_val_every_n_epoch": 1}
            model.train(**monkey, trainer_kwargs={"callbacks": [Stop(n)]})
        curves.append(model._history["train_loss"].to_numpy())
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


class Stop(Callback):
    """As if the user had asked to stop after some epochs."""

    def __init__(self, after):
        self.after = after

    def on_train_epoch_start(self, trainer, plan):
        if plan.epoch == self.after:
            plan.stop.requested = True


def test_a_loss_that_is_not_finite_is_noticed_and_taken_back():
    adata = cite(200, 40, 5, seed=1)
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=16)
    model.train(1, accelerator="cuda", seed=0)
    before = {name: value.cpu().clone() for name, value in model.module.state_dict().items()}

    class Poison(Callback):
        def on_train_batch_start(self, trainer, plan, cells, i):
            if i == 1:
                next(plan.module.parameters()).data.fill_(torch.nan)

    with pytest.raises(errors.NonFiniteLossError, match="epoch 2") as caught:
        model.train(2, accelerator="cuda", seed=0, batch_size=32, trainer_kwargs={"callbacks": [Poison()]})
    assert "cells with the most counts" in str(caught.value)
    for name, value in model.module.state_dict().items():
        assert torch.equal(value.cpu(), before[name]), name
    model.train(1, accelerator="cuda", seed=0)
    assert np.isfinite(model._history["train_loss"]).all()


def test_validation_leaves_the_noise_of_training_alone():
    adata = cite(200, 40, 5, seed=1)
    SCVI.setup_anndata(adata)
    curves = []
    for every in (1, 4):
        model = SCVI(adata, n_hidden=16)
        model.train(3, accelerator="cuda", seed=0, check_val_every_n_epoch=every)
        curves.append(model._history["train_loss"].to_numpy())
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
