"""A training that was cut short goes on to the very weights that it would have reached."""

import json
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from cases import CASES
from safetensors import safe_open
from safetensors.torch import save_file

from scelbo import SCVI, errors, settings


class CutShort(Exception):
    pass


def cut_after(epochs, monkeypatch):
    """As if the process ended there: whatever training would do afterwards is not done."""

    def listen(event):
        if event["event"] == "step" and event["done"] == epochs:
            raise CutShort

    monkeypatch.setattr(settings, "on_event", listen)


def make(adata, **arguments):
    SCVI.setup_anndata(adata, batch_key="batch")
    return SCVI(adata, n_hidden=16, n_latent=4, **arguments)


def same(one, other):
    pd.testing.assert_frame_equal(one._history, other._history)
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name]), name
    for i, moments in one.optimizer_state["state"].items():
        assert all(torch.equal(value, other.optimizer_state["state"][i][name]) for name, value in moments.items())
    assert one.outcome == other.outcome and one.trained_epochs == other.trained_epochs


def trained_in_two_parts(new, path, monkeypatch, after, **options):
    with monkeypatch.context() as patch:
        cut_after(after, patch)
        with pytest.raises(CutShort):
            new().train(resume=path, **options)
    model = new()
    model.train(resume=path, **options)
    return model


@pytest.mark.parametrize("case", {case.model: case for case in reversed(CASES)}.values(), ids=str)
def test_every_model_goes_on_to_the_same_weights(case, adata, tmp_path, monkeypatch):
    options = {"max_epochs": 4, "seed": 3, "batch_size": 40, "early_stopping": False}
    undisturbed = case.make(adata)
    undisturbed.train(**options)
    same(trained_in_two_parts(lambda: case.make(adata), tmp_path / "state", monkeypatch, 3, **options), undisturbed)


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 12, "early_stopping": True, "early_stopping_patience": 2, "plan_kwargs": {"lr": 0.05, "n_epochs_kl_warmup": 1}},
        {"max_epochs": 9, "plan_kwargs": {"reduce_lr_on_plateau": True, "lr_patience": 3, "lr_threshold": 1e9}},  # falls twice
        {"max_epochs": 8, "plan_kwargs": {"n_steps_kl_warmup": 20}, "batch_size": 20},
        {"max_epochs": 60},  # which looks at the validation cells every third epoch
        {"max_epochs": 8, "train_size": 1.0},
    ],
)
def test_stopping_schedules_and_looks_go_on_too(adata, tmp_path, monkeypatch, options):
    undisturbed = make(adata)
    undisturbed.train(seed=1, **options)
    again = trained_in_two_parts(lambda: make(adata), tmp_path / "state", monkeypatch, 5, seed=1, **options)
    same(again, undisturbed)
    after = make(adata)
    after.train(seed=1, resume=tmp_path / "state", **options)  # it has ended: nothing is done again
    same(after, undisturbed)


def test_epochs_before_it_are_not_forgotten(adata, tmp_path, monkeypatch):
    def new():
        model = make(adata)
        model.train(max_epochs=2, seed=0)
        return model

    undisturbed = new()
    undisturbed.train(max_epochs=4, seed=1)
    same(trained_in_two_parts(new, tmp_path / "state", monkeypatch, 2, max_epochs=4, seed=1), undisturbed)


def test_an_interrupt_is_gone_on_from(adata, tmp_path, monkeypatch):
    undisturbed = make(adata)
    undisturbed.train(max_epochs=4, seed=1)
    with monkeypatch.context() as patch:
        sent = lambda event: event["event"] == "step" and event["done"] == 2 and signal.raise_signal(signal.SIGINT)  # noqa: E731
        patch.setattr(settings, "on_event", sent)
        stopped = make(adata)
        stopped.train(max_epochs=4, seed=1, resume=tmp_path / "state")
    assert stopped.outcome["reason"] == "interrupted" and stopped.trained_epochs == 2
    again = make(adata)
    again.train(max_epochs=4, seed=1, resume=tmp_path / "state")
    same(again, undisturbed)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"max_epochs": 5}, r"another max_epochs \(2, and this is 5\)"),
        ({"seed": 2}, "another seed"),
        ({"plan_kwargs": {"lr": 1.0}}, "another plan_kwargs lr"),
        ({"batch_size": 64}, "another batch_size"),
    ],
)
def test_another_training_does_not_go_on_from_it(adata, tmp_path, other, says):
    make(adata).train(max_epochs=2, seed=1, resume=tmp_path / "state")
    with pytest.raises(errors.ArgumentError, match=says):
        make(adata).train(**{"max_epochs": 2, "seed": 1, **other}, resume=tmp_path / "state")
    with pytest.raises(errors.ArgumentError, match="another n_layers"):
        make(adata, n_layers=2).train(max_epochs=2, seed=1, resume=tmp_path / "state")
    with pytest.raises(errors.ArgumentError, match="another cells"):
        make(adata[:100].copy()).train(max_epochs=2, seed=1, resume=tmp_path / "state")


def test_where_it_runs_may_differ(adata, tmp_path):
    first, again = make(adata), make(adata)
    first.train(max_epochs=2, seed=1, resume=tmp_path / "state")
    again.train(max_epochs=2, seed=1, resume=tmp_path / "state", accelerator="cpu", devices=1, progress=False)
    same(again, first)


def test_the_file_is_plain_and_what_is_no_such_file_is_refused(adata, tmp_path):
    make(adata).train(max_epochs=2, seed=1, resume=tmp_path / "deep" / "state")
    with safe_open(tmp_path / "deep" / "state", "np") as file:
        assert json.loads(file.metadata()["plain"])["dict"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["state"]
    save_file({"x": torch.zeros(1)}, tmp_path / "weights")
    (tmp_path / "text").write_text("x")
    for name, says in (("weights", "holds no training"), ("text", "cannot be read")):
        with pytest.raises(errors.StorageError, match=says):
            make(adata).train(max_epochs=2, resume=tmp_path / name)


def test_a_write_that_breaks_off_leaves_the_last_state(adata, tmp_path, monkeypatch):
    from scelbo.train import state

    seen, save = [], state.save_file

    def breaking(tensors, path, about):
        if len(seen) == 2:
            path.write_bytes(b"half")
            raise OSError("disk full")
        seen.append(1)
        save(tensors, path, about)

    monkeypatch.setattr(state, "save_file", breaking)
    with pytest.raises(OSError, match="disk full"):
        make(adata).train(max_epochs=5, seed=1, resume=tmp_path / "state")
    monkeypatch.setattr(state, "save_file", save)
    again, undisturbed = make(adata), make(adata)
    again.train(max_epochs=5, seed=1, resume=tmp_path / "state")
    undisturbed.train(max_epochs=5, seed=1)
    same(again, undisturbed)
    np.testing.assert_array_equal(again.train_indices, undisturbed.train_indices)
