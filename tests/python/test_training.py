"""Training: schedules, stopping, going on, and what is kept when something goes wrong."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from scelbo import PEAKVI, SCVI, errors, settings
from scelbo.data.simulate import counts
from scelbo.train import PlanOptions, TrainOptions
from scelbo.train.epochs import EpochPlan


def make(adata, **arguments):
    SCVI.setup_anndata(adata, batch_key="batch")
    return SCVI(adata, n_hidden=16, n_latent=4, **arguments)


def test_epochs_rule():
    rule = TrainOptions().epochs
    assert [rule(n) for n in (100, 20_000, 40_000, 100_000, 20_000_000)] == [400, 400, 200, 80, 1]


def test_kl_weight_reaches_one_and_the_peers_setting_does_not(adata):
    model = make(adata)
    model.train(max_epochs=10)
    assert model.history["kl_weight"]["kl_weight"].tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    model = make(adata)
    model.train(max_epochs=10, plan="scvi-tools")
    assert model.history["kl_weight"]["kl_weight"].iloc[-1] == pytest.approx(9 / 400)
    assert PlanOptions(n_steps_kl_warmup=100).kl_weight(0, 25, 10) == 0.25


def test_early_stopping_goes_back_to_the_best(adata):
    model = make(adata)
    model.train(
        max_epochs=200, early_stopping=True, early_stopping_patience=3, train_size=0.5, plan_kwargs={"lr": 0.05, "n_epochs_kl_warmup": 1}
    )
    curve = model.history["elbo_validation"]["elbo_validation"]
    assert len(curve) < 200 and curve.idxmin() == len(curve) - 4
    with settings.private_seed(1234):
        now = model.get_elbo(indices=model.validation_indices, seed=1234)
    assert -now == pytest.approx(curve.min(), rel=0.05)


def test_early_stopping_without_validation_cells_is_refused_before_training(adata):
    with pytest.raises(errors.ArgumentError, match="needs validation cells"):
        make(adata).train(max_epochs=2, train_size=1.0, early_stopping=True)


@pytest.mark.parametrize("plan_kwargs", [{"n_steps_kl_warmup": 7}, {"reduce_lr_on_plateau": True, "lr_patience": 1, "lr": 0.05}])
def test_steps_of_lightnings_loop_and_our_own_reach_the_same_weights(adata, plan_kwargs):
    seen, epochs, models = [], [], []
    of_epochs = LambdaCallback(on_train_epoch_end=lambda trainer, plan: epochs.append(type(plan)))
    of_steps = LambdaCallback(on_train_batch_end=lambda *_: seen.append(1))
    for more in ({"callbacks": [of_epochs]}, {"callbacks": [of_steps]}):
        model = make(adata)
        model.train(max_epochs=6, seed=3, batch_size=64, plan_kwargs=plan_kwargs, trainer_kwargs=more)
        models.append(model)
    assert len(seen) == 6 * math.ceil(len(model.train_indices) / 64), "who asks for minibatches sees each"
    assert epochs == [EpochPlan] * 6
    for name, curve in models[0].history.items():
        pd.testing.assert_frame_equal(curve, models[1].history[name])
    for a, b in zip(*(m.module.state_dict().values() for m in models), strict=True):
        assert torch.equal(a, b)


def test_the_learning_rate_falls_on_a_plateau(adata):
    model = make(adata)
    model.train(max_epochs=40, plan_kwargs={"lr": 0.05, "reduce_lr_on_plateau": True, "lr_patience": 1, "lr_factor": 0.5})
    rates = model.history["lr"]["lr"]
    assert rates.iloc[0] == 0.05 and rates.iloc[-1] < 0.05


def test_going_on_keeps_the_optimiser_the_epochs_and_the_split(adata):
    model = make(adata)
    model.train(max_epochs=3, seed=1)
    train, steps = model.train_indices, model.optimizer_state["state"][0]["step"].item()
    model.train(max_epochs=2, seed=1)
    assert model.trained_epochs == 5 and list(model.history["train_loss"].index) == [0, 1, 2, 3, 4]
    assert model.optimizer_state["state"][0]["step"].item() == steps / 3 * 5
    np.testing.assert_array_equal(model.train_indices, train)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"plan_kwargs": {"learning_rate": 1}}, "plan_kwargs entry 'learning_rate' is unknown"),
        ({"plan_kwargs": {"optimizer": "SGD"}}, "Adam"),
        ({"plan_kwargs": {"lr": 0}}, "above zero"),
        ({"plan": "scvi_tools"}, "must be one of 'scvi-tools'"),
        ({"max_epochs": 0}, "whole number above zero"),
        ({"batch_size": -1}, "whole number above zero"),
        ({"train_size": 2}, "a share of the cells"),
    ],
)
def test_wrong_training_arguments_are_refused(adata, given, says):
    with pytest.raises(errors.ArgumentError, match=says):
        make(adata).train(**given)


def test_a_loss_that_is_not_finite_takes_the_model_back_and_names_what_is_extreme(adata):
    model = make(adata)
    model.train(max_epochs=2)
    good = {k: v.clone() for k, v in model.module.state_dict().items()}
    generative = model.module.generative

    def broken(z, cells):
        explained = generative(z, cells)
        if 5 in cells.index:
            explained.x.rate.h.data[0, 0] = torch.nan
        return explained

    model.module.generative = broken
    with pytest.raises(errors.NonFiniteLossError) as caught:
        model.train(max_epochs=2)
    del model.module.generative
    assert "epoch 3" in str(caught.value) and "cells with the most counts" in str(caught.value) and "gene" in str(caught.value)
    assert all(torch.equal(v, good[k]) for k, v in model.module.state_dict().items())
    model.train(max_epochs=1)
    assert model.trained_epochs == 3


def test_the_best_state_is_written_to_the_checkpoint_folder(adata, tmp_path):
    model = make(adata)
    model.train(max_epochs=4, checkpoint=tmp_path / "best")
    again = SCVI.load(tmp_path / "best", adata)
    assert again.is_trained and again.trained_epochs == len(again._history) >= 1
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())


def test_progress_goes_to_the_event_sink_and_quiet_is_quiet(adata, capfd, monkeypatch):
    seen = []
    monkeypatch.setattr(settings, "on_event", seen.append)
    make(adata).train(max_epochs=3)
    assert [e["event"] for e in seen] == ["start", "step", "step", "step", "end"]
    assert seen[-1]["reason"] == "done" and seen[2]["done"] == 2 and np.isfinite(seen[2]["metrics"]["elbo"])
    monkeypatch.setattr(settings, "on_event", None)
    make(adata).train(max_epochs=2, progress=False)
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""


CTRL_C = """
    import os, signal, sys, threading
    from scelbo import SCVI, settings
    from scelbo.data.simulate import counts
    adata = counts(300, 40)
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=16)
    def send(event):
        if event["event"] == "step" and event["done"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
    settings.on_event = send
    handler = signal.getsignal(signal.SIGINT)
    for start in (0, 3):
        model.train(max_epochs=10_000)
        print(model.trained_epochs, model.is_trained, model.get_latent_representation().shape)
    assert signal.getsignal(signal.SIGINT) is handler
"""


def test_ctrl_c_keeps_the_model_trained_so_far_twice_over():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CTRL_C)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.split("\n")
    assert lines[0].startswith("3 True (300,") and lines[1].startswith("6 True (300,")


def test_an_interrupt_leaves_the_hosts_handlers():
    from scelbo.train.interrupt import graceful_interrupt

    before = signal.getsignal(signal.SIGINT)
    with graceful_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_weight_decay_may_spare_what_is_no_matrix(adata):
    module = make(adata).module
    for decay, spared in (("all", 0), ("matrices", sum(p.dim() < 2 for p in module.parameters() if p.requires_grad))):
        groups = PlanOptions(optimizer="AdamW", weight_decay=0.5, decay=decay).optimizer_of(module).param_groups
        assert sum(len(g["params"]) for g in groups if g["weight_decay"] == 0) == spared
        assert {g["weight_decay"] for g in groups if g["params"][0].dim() > 1} == {0.5}
    with pytest.raises(errors.ArgumentError, match="matrices"):
        PlanOptions().with_({"decay": "biases"})


def test_a_part_of_the_module_may_learn_at_its_own_rate(adata):
    model = make(adata)
    plan = PlanOptions(decay="matrices", parts={"z": {"lr": 0.5, "eps": 1e-8}})
    groups = plan.optimizer_of(model.module).param_groups
    fast = {id(p) for p in model.module.z.parameters()}
    assert {id(p) for g in groups if g["lr"] == 0.5 and g["eps"] == 1e-8 for p in g["params"]} == fast
    assert {g["lr"] for g in groups for p in g["params"] if id(p) not in fast} == {1e-3}


def test_another_plan_goes_on_from_the_optimisers_state(adata):
    """Each parameter finds its own momenta, however the plans group them."""
    model = make(adata)
    for options in ({"decay": "matrices"}, {"decay": "all"}, {"parts": {"z": {"lr": 1e-4}}, "decay": "matrices"}):
        model.train(max_epochs=1, plan_kwargs=options)
        shapes = [tuple(p.shape) for p in model.module.parameters() if p.requires_grad]
        kept = model.optimizer_state["state"]
        assert [tuple(kept[i]["exp_avg"].shape) for i in range(len(shapes))] == shapes


@pytest.mark.parametrize(("kind", "hyper"), [(SCVI, {"gene_likelihood": "nb"}), (SCVI, {}), (PEAKVI, {})], ids=["nb", "zinb", "peaks"])
def test_two_threads_give_the_answers_of_one(kind, hyper):
    """But for rounding, as docs/reproducibility.md and R's help of ``train(threads = )`` say: sums are made in another order."""
    adata, before, found = counts(700, 400, seed=3), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            kind.setup_anndata(adata, batch_key="batch")
            model = kind(adata, n_hidden=32, n_latent=5, **hyper)
            model.train(4, batch_size=256, accelerator="cpu")
            weights = torch.cat([value.flatten().double() for value in model.module.state_dict().values()])
            found.append((model.history["elbo_train"].to_numpy(), model.get_latent_representation(), model.get_elbo(), weights))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-3)
    one, two = found[0][-1], found[1][-1]
    assert (one - two).norm() <= 1e-5 * one.norm()  # as docs/reproducibility.md says
