"""Trials find the best of a space; those that fall behind stop, and what was cut short goes on."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import scelbo
from scelbo import SCVI, errors, settings
from scelbo.data import read_backed
from scelbo.data.simulate import counts
from scelbo.tuning import _made, _whose, tune

warned = pytest.mark.filterwarnings("ignore")


def cells():
    adata = counts(150, 30)
    SCVI.setup_anndata(adata, batch_key="batch")
    return adata


def test_arguments_go_where_they_belong():
    model, train = _made(SCVI, cells(), {"n_latent": 3, "lr": 0.01, "batch_size": 64, "max_epochs": 2})
    assert model.n_latent == 3 and train == {"batch_size": 64, "max_epochs": 2, "plan_kwargs": {"lr": 0.01}}
    with pytest.raises(errors.ArgumentError, match="Did you mean 'n_latent'"):
        _whose(SCVI, "n_latents")


@warned
def test_what_cannot_be_tried_is_said_before_any_trial(ray, tmp_path):
    with pytest.raises(errors.ArgumentError, match="Did you mean 'n_latent'"):
        tune(SCVI, cells(), {"n_latents": [2, 3]})
    counts(60, 20).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(errors.ArgumentError, match="cannot be sent to workers"):
        tune(SCVI, read_backed(tmp_path / "a.h5ad"), {"n_latent": [2, 3]})
    with pytest.raises(errors.ArgumentError, match="keys="):
        tune(SCVI, tmp_path / "a.h5ad", {"n_latent": [2, 3]})


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(errors.BackendError, match=r"scelbo\[tune\]"):
        tune(SCVI, cells(), {"n_latent": [2, 3]})


@warned
def test_the_best_of_some_trials_is_kept_and_an_ended_search_is_not_done_again(ray, tmp_path, monkeypatch):
    adata = cells()
    given = {"n_trials": 3, "max_epochs": 4, "grace_epochs": 1, "folder": tmp_path / "trials", "n_hidden": 8, "seed": 1, "at_once": 1}
    found = tune(SCVI, adata, {"lr": [1e-6, 1e-2]}, **given)
    assert len(found.table) == 3 and found.table["end"].iloc[0]
    ended = found.table[found.table["end"]]
    assert found.table["value"].iloc[0] == ended["value"].min() and found.best == {"lr": found.table["lr"].iloc[0]}
    assert (found.table["epochs"][~found.table["end"]] < 4).all()
    assert found.model.history["elbo_validation"]["elbo_validation"].iloc[-1] == pytest.approx(found.table["value"].iloc[0])
    alone = SCVI(adata, n_hidden=8)
    with monkeypatch.context() as patch:
        patch.setattr(settings, "progress", False)
        alone.train(max_epochs=4, seed=1, check_val_every_n_epoch=1, plan_kwargs={"lr": found.best["lr"]})
    np.testing.assert_allclose(alone.get_latent_representation(), found.model.get_latent_representation(), rtol=1e-3, atol=1e-4)
    again = tune(SCVI, adata, {"lr": [1e-6, 1e-2]}, **given)
    assert again.best == found.best and len(again.table) == 3


SEARCH = """
import sys
from pathlib import Path
from scelbo import SCVI, settings
from scelbo.data.simulate import counts
from scelbo.tuning import tune
settings.progress = False
adata = counts(150, 30)
SCVI.setup_anndata(adata, batch_key="batch")
folder = Path(sys.argv[1])
found = tune(
    SCVI, adata, {"lr": {"low": 1e-3, "high": 1e-2}}, n_trials=4, max_epochs=200, stop_early=False, at_once=1,
    folder=folder, n_hidden=8, seed=1,
)
found.table.to_csv(folder / "table.csv", index=False)
found.model.save(folder / "best")
"""


def searched(folder, until=None):
    """A search by a process of its own, which is killed once ``until()`` holds."""
    run = subprocess.Popen([sys.executable, "-c", SEARCH, str(folder)], start_new_session=True, stdout=-1, stderr=-2, text=True)
    while until is not None and run.poll() is None:
        if until():
            os.killpg(run.pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == (0 if until is None else -signal.SIGKILL), said
    return None if until else (pd.read_csv(folder / "table.csv"), scelbo.load(folder / "best"))


def test_a_search_that_is_killed_goes_on_without_a_trial_lost_or_repeated(ray, tmp_path):
    whole, model = searched(tmp_path / "whole")
    cut = tmp_path / "cut"
    ended = lambda: len(list(cut.glob("*/model/model.json")))  # noqa: E731
    searched(cut, until=lambda: len(list(cut.glob("*/training.state"))) >= 3)
    assert 2 <= ended() < 4 and not (cut / "table.csv").exists()
    again, best = searched(cut)
    pd.testing.assert_frame_equal(again, whole)
    assert len(whole) == whole["lr"].nunique() == 4 and whole["end"].all() and (whole["epochs"] == 200).all()
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(best.module.state_dict()[name], value)
    assert ended() == 4 == len(list(cut.glob("*/training.state")))
