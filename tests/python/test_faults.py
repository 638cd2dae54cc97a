"""What may go wrong while a model is trained or written: full disks, folders of others, kills, Ctrl-C, numbers that are none."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import MODELS, ended, faults, files_of_at_most, forked

from scelbo import SCVI, errors, settings
from scelbo import whole as module
from scelbo.train.plan import Plan
from scelbo.whole import require_writable, whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
TRAINING = {"max_epochs": 6, "seed": 1, "check_val_every_n_epoch": 1}


@pytest.fixture
def model(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    return SCVI(adata, n_hidden=16, n_latent=4)


def weights(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_killed_trainings_go_on_to_the_same_weights():
    found, kills, _ = faults(3, seed=2, models=MODELS[:1])
    assert kills >= 3 and any(unfinished for _, _, unfinished in found)


WRITTEN = {
    "model": lambda model, place: model.save(place, overwrite=True),
    "model and data": lambda model, place: model.save(place, overwrite=True, save_anndata=True),
    "model of scvi-tools": lambda model, place: model.save_as_scvi_tools(place, overwrite=True),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_a_full_disk_is_an_error_that_says_so_and_changes_nothing(model, tmp_path, what):
    model.train(max_epochs=1)
    WRITTEN[what](model, tmp_path / "there")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    model.train(max_epochs=1)
    with files_of_at_most(1000), pytest.raises(errors.StorageError, match=r"there.*cannot be written: File too large.*as it was") as caught:
        WRITTEN[what](model, tmp_path / "there")
    assert "Free some space" in caught.value.hint
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(list(tmp_path.iterdir())) == 1 and np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("where", ["checkpoint", "resume"])
def test_a_disk_that_fills_up_during_training_loses_nothing(model, adata, tmp_path, monkeypatch, where):
    def fills(event):
        if event["event"] == "step" and event["done"] == 3:
            full.enter_context(files_of_at_most(5000))

    options = {**TRAINING, where: tmp_path / "there"}
    monkeypatch.setattr(settings, "on_event", fills)
    with (
        contextlib.ExitStack() as full,
        pytest.raises(errors.StorageError, match=r"there' cannot be written: .* the model keeps the [34] epochs trained so far") as caught,
    ):
        model.train(**options)
    monkeypatch.setattr(settings, "on_event", None)
    assert "Free some space" in caught.value.hint and [path.name for path in tmp_path.iterdir()] == ["there"]
    assert model.trained_epochs == len(model.history["train_loss"]) and not model.module.training
    short = SCVI(adata, n_hidden=16, n_latent=4)
    short.train(**TRAINING, trainer_kwargs={"max_steps": model.trained_epochs})  # each epoch is one
    assert equal(weights(model), weights(short))
    if where == "resume":
        undisturbed, again = (SCVI(adata, n_hidden=16, n_latent=4) for _ in range(2))
        undisturbed.train(**TRAINING)
        again.train(**options)
        assert equal(weights(again), weights(undisturbed))
    else:
        assert SCVI.load(tmp_path / "there", adata).trained_epochs == 3
    model.train(max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("where", ["checkpoint", "resume"])
def test_a_place_that_cannot_be_written_is_refused_before_training(model, tmp_path, monkeypatch, where):
    monkeypatch.setattr(Plan, "loss_of", lambda *_: pytest.fail("it trained"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.StorageError, match=r"file/there.*cannot be written: (Not a directory|File exists)"):
        model.train(**TRAINING, **{where: tmp_path / "file" / "there"})
    with files_of_at_most(0), pytest.raises(errors.StorageError, match="File too large"):
        model.train(**TRAINING, **{where: tmp_path / "there"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"
    if where == "checkpoint":
        with pytest.raises(errors.StorageError, match="not a model folder"):
            model.train(**TRAINING, checkpoint=tmp_path)
    assert not model.is_trained


def test_a_folder_of_someone_else_is_refused_before_training(model):
    """Root may write anywhere, so it becomes nobody first."""

    def work():
        if os.getuid() == 0:
            os.setuid(65534)
        for where in ("checkpoint", "resume"):
            with pytest.raises(errors.StorageError, match="cannot be written: Permission denied") as caught:
                model.train(**TRAINING, **{where: theirs / "there"})
            assert "may write to" in caught.value.hint and not model.is_trained
        with pytest.raises(errors.StorageError, match="Permission denied"):
            model.save(theirs / "there")

    theirs = Path(tempfile.mkdtemp())
    theirs.chmod(0o555)
    try:
        assert ended(forked(work)) == 0
        assert not list(theirs.iterdir())
    finally:
        theirs.chmod(0o755)
        shutil.rmtree(theirs)


@pytest.mark.parametrize(("kind", "seed"), [("loss", 0), ("gradient", 1), ("last gradient", 2)])
def test_a_number_that_is_none_takes_the_model_back_and_training_goes_on(model, adata, tmp_path, monkeypatch, kind, seed):
    loss_of, steps = Plan.loss_of, 6 * 3
    at = steps - 1 if kind == "last gradient" else int(np.random.default_rng(seed).integers(3, steps))
    seen, starts = [], {}

    def broken(plan, cells):
        if plan.epoch not in starts:
            starts[plan.epoch] = weights(model)
        seen.append(cells)
        if len(seen) - 1 != at:
            return loss_of(plan, cells)
        if kind == "loss":
            next(plan.module.parameters()).data[0] = torch.nan
            return loss_of(plan, cells)
        total = loss_of(plan, cells)
        total.register_hook(lambda gradient: gradient * torch.nan)
        return total

    monkeypatch.setattr(Plan, "loss_of", broken)
    with pytest.raises(errors.NonFiniteLossError, match="put back to the start of that epoch"):
        model.train(**TRAINING, batch_size=40, checkpoint=tmp_path / "best", resume=tmp_path / "state")
    assert equal(weights(model), starts[model.trained_epochs]) and model.trained_epochs == max(starts)
    assert len(model.history["train_loss"]) == model.trained_epochs
    assert all(value.isfinite().all() for value in SCVI.load(tmp_path / "best", adata).module.state_dict().values())
    monkeypatch.setattr(Plan, "loss_of", loss_of)
    epochs = model.trained_epochs
    model.train(max_epochs=2)
    assert model.trained_epochs == epochs + 2 and np.isfinite(model.get_elbo())
    again = SCVI(adata, n_hidden=16, n_latent=4)
    again.train(**TRAINING, batch_size=40, checkpoint=tmp_path / "best", resume=tmp_path / "state")
    undisturbed = SCVI(adata, n_hidden=16, n_latent=4)
    undisturbed.train(**TRAINING, batch_size=40, checkpoint=tmp_path / "other")
    assert equal(weights(again), weights(undisturbed))


def test_ctrl_c_twice_gives_up_and_ends_no_session(model, monkeypatch):
    def send(event):
        if event["event"] == "step" and event["done"] == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(settings, "on_event", send)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=1000)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr(settings, "on_event", None)
    model.train(max_epochs=1)
    assert np.isfinite(model.get_elbo())


def test_what_a_kill_left_is_put_back_or_cleared_and_what_lives_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_exchanged", lambda one, other: False)  # as where two folders cannot change places in one step
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "text").write_text("old")

    def replace():
        with whole(tmp_path / "m") as new:
            new.mkdir()
            (new / "text").write_text("new")
            monkeypatch.setattr(Path, "replace", lambda path, to: (move(path, to), os.kill(os.getpid(), signal.SIGKILL)))

    move = Path.replace
    assert ended(forked(replace)) == -signal.SIGKILL
    assert not (tmp_path / "m").exists() and len(list(tmp_path.iterdir())) == 1
    with whole(tmp_path / "m[x]") as other:  # of another name: nothing to do with it
        other.write_text("x")
        require_writable(tmp_path / "m")
        assert (tmp_path / "m" / "text").read_text() == "old" and len(list(tmp_path.iterdir())) == 2
        require_writable(tmp_path / "m[x]")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m[x]"]
    with whole(tmp_path / "m") as new:
        new.mkdir()
        (new / "text").write_text("newer")
    assert (tmp_path / "m" / "text").read_text() == "newer" and len(list(tmp_path.iterdir())) == 2


def test_two_that_begin_at_the_same_moment_do_not_take_each_others_work(tmp_path, monkeypatch):
    made, make = [], module.tempfile.mkdtemp

    def cleared_away_at_once(**where):
        made.append(make(**where))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(module.tempfile, "mkdtemp", cleared_away_at_once)
    with whole(tmp_path / "a") as new:
        new.write_text("a")
    assert len(made) == 2 and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_half_way_leaves_no_file(tmp_path):
    def half():
        with whole(tmp_path / "a.csv") as place:
            place.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert list(tmp_path.iterdir()) == []
