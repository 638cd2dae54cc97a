"""Several processes train what one would train; when one of them is lost, what was noted is not."""

import atexit
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from cases import CASES

import scelbo
from scelbo import GIMVI, MULTIVI, SCANVI, SCVI, errors, settings
from scelbo.data import Loader, disk, read_backed
from scelbo.data.simulate import cite, counts

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:anndata"),
]


def forked(work, n=2):
    """Run ``work(rank)`` in n processes, as torchrun would start them; returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": n,
        "LOCAL_WORLD_SIZE": n,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "x",
    }

    def run(rank):
        os.environ.update({name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()})
        warnings.simplefilter("ignore")
        work(rank)

    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def scvi(adata, **arguments):
    SCVI.setup_anndata(adata, batch_key="batch")
    return SCVI(adata, **{"n_hidden": 16, "n_latent": 4, **arguments})


ALONE = {"accelerator": "cpu", "seed": 1, "batch_size": 50, "check_val_every_n_epoch": 1}
TOGETHER = {**ALONE, "devices": 2}


def case_of(model):
    return next(case for case in CASES if case.model is model)


def make(name, folder):
    if name == "on disk":
        return scvi(read_backed(folder / "cells.h5ad"), dropout_rate=0.0)
    if name == "adversary":
        return case_of(GIMVI).make(cite(120, 40, 5, seed=1), dropout_rate=0.0)
    if name == "modalities":
        return case_of(MULTIVI).make(cite(120, 40, 5, seed=1), dropout_rate=0.0, hide_modalities=0.0, modality_penalty="None")
    adata = counts(300, 40, stored=0.3)
    if name == "labels":  # few are known, and go along with every minibatch
        adata.obs["known"] = adata.obs["cell_type"].where(np.arange(300) < 60)
        SCANVI.setup_anndata(adata, batch_key="batch", labels_key="known")
        return SCANVI(adata, n_hidden=16, n_latent=4, dropout_rate=0.0)
    return scvi(adata, dropout_rate=0.0)


@pytest.mark.parametrize("name", ["memory", "on disk", "labels", "adversary", "modalities"])
def test_two_processes_reach_the_curve_and_weights_of_one(name, tmp_path, monkeypatch):
    """Without noise, of which each process draws its own: all else is the same."""
    counts(300, 40, stored=0.3).write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(torch.distributions.Normal, "rsample", lambda q, shape=(): q.mean.expand(*shape, *q.mean.shape))
    monkeypatch.setattr(disk, "AT_ONCE", 96)
    monkeypatch.setattr(disk, "BLOCK", 8)
    alone = make(name, tmp_path)
    alone.train(max_epochs=3, **ALONE)

    def work(rank):
        model = make(name, tmp_path)
        model.train(max_epochs=3, **TOGETHER)
        model.save(tmp_path / "model")  # both say so, one writes

    assert forked(work) == [0, 0]
    together = scelbo.load(tmp_path / "model")
    curves = [part for part in alone._history if (name, part) != ("labels", "validation_loss")]  # each process means over its labels
    pd.testing.assert_frame_equal(together._history[curves], alone._history[curves], rtol=1e-5)
    for part, value in alone.module.state_dict().items():
        apart = (together.module.state_dict()[part].double() - value.double()).abs()
        assert apart.sum() <= 1e-3 * apart.numel(), part  # where a gradient is all but zero, Adam makes steps of float noise
    np.testing.assert_array_equal(np.sort(together.train_indices), np.sort(alone.train_indices))


@pytest.mark.parametrize("n", [2, 3, 7])
def test_no_cell_is_lost_and_none_comes_twice(n):
    adata = counts(203, 20)
    data, rows = scvi(adata).read(), np.random.default_rng(0).permutation(203)[:190]
    for along in (None, lambda rng: rng.permutation(rows[:30])):
        loaders = [Loader(data, rows, 32, np.random.default_rng(5), along, (rank, n)) for rank in range(n)]
        alone = Loader(data, rows, 32, np.random.default_rng(5), along)
        for whole, parts in zip(alone, zip(*loaders, strict=True), strict=True):
            np.testing.assert_array_equal(np.sort(np.concatenate([part.index for part in parts])), np.sort(whole.index))
            assert sum(part.share for part in parts) == pytest.approx(n)
            np.testing.assert_allclose([part.share for part in parts], [len(part) * n / len(whole) for part in parts])
            if along:
                np.testing.assert_array_equal(np.sort(np.concatenate([part.beside.index for part in parts])), np.sort(whole.beside.index))
    with pytest.raises(errors.ArgumentError, match="cannot be shared by 40 processes"):
        Loader(data, rows, 32, part=(0, 40))


def test_each_process_reads_its_own_blocks_of_a_file(tmp_path, monkeypatch):
    counts(640, 20).write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(disk, "AT_ONCE", 320)
    monkeypatch.setattr(disk, "BLOCK", 16)
    data, read = scvi(read_backed(tmp_path / "cells.h5ad")).read(), []
    monkeypatch.setattr("scelbo.data.matrix.read_rows", lambda matrix, rows: read.append(rows) or disk.read_rows(matrix, rows))
    for rank in range(2):
        list(Loader(data, np.arange(640), 32, np.random.default_rng(0), part=(rank, 2)))
    assert [len(rows) for rows in read] == [320, 320]
    assert np.mean([np.diff(rows) == 1 for rows in read]) > 0.7  # neighbours, as if one process read


def test_several_stop_together_and_keep_the_best(tmp_path):
    def work(rank):
        model = scvi(counts(300, 40))
        model.train(
            max_epochs=60, early_stopping=True, early_stopping_patience=2, checkpoint=tmp_path / "best",
            plan_kwargs={"lr": 0.05, "n_epochs_kl_warmup": 1}, **TOGETHER,
        )  # fmt: skip
        assert model.trained_epochs < 60 and model.outcome["reason"] == "stopped early"
        model.save(tmp_path / "model")

    assert forked(work) == [0, 0]
    model, best = scelbo.load(tmp_path / "model"), scelbo.load(tmp_path / "best")
    curve = model.history["elbo_validation"]["elbo_validation"]
    assert curve.idxmin() == len(curve) - 3 == model.outcome["kept_epoch"] == best.trained_epochs - 1
    assert all(torch.equal(value, best.module.state_dict()[name]) for name, value in model.module.state_dict().items())


def test_a_resumed_training_of_two_reaches_the_same_end(tmp_path):
    def train(folder, cut=None):
        model = scvi(counts(300, 40))
        if cut is not None:
            settings.on_event = lambda event: os._exit(0) if event["event"] == "step" and event["done"] == cut else None
        model.train(max_epochs=5, resume=tmp_path / f"{folder}.state", **TOGETHER)
        model.save(tmp_path / folder)

    assert forked(lambda rank: train("undisturbed")) == [0, 0]
    forked(lambda rank: train("again", 4 if rank == 0 else None))
    assert (tmp_path / "again.state").exists() and not (tmp_path / "again").exists()
    assert forked(lambda rank: train("again")) == [0, 0]
    one, other = (scelbo.load(tmp_path / folder) for folder in ("undisturbed", "again"))
    pd.testing.assert_frame_equal(one._history, other._history)
    assert all(torch.equal(value, other.module.state_dict()[name]) for name, value in one.module.state_dict().items())


def test_processes_must_agree(tmp_path):
    def work(rank):
        with pytest.raises(errors.ArgumentError, match="the number of cells is"):
            scvi(counts(100 + rank, 20)).train(max_epochs=1, **TOGETHER)

    assert forked(work) == [0, 0]


def test_processes_part_before_they_end():
    def work(rank):
        atexit._clear()  # what the tests' own process does at its end
        for _ in range(2):
            scvi(counts(100, 20)).train(max_epochs=1, **TOGETHER)
        assert torch.distributed.is_initialized()
        atexit._run_exitfuncs()
        assert not torch.distributed.is_initialized()

    assert forked(work) == [0, 0]


def test_a_loss_that_is_not_finite_ends_both(tmp_path):
    def work(rank):
        model = scvi(counts(300, 40))
        with pytest.raises(errors.NonFiniteLossError):
            model.train(max_epochs=3, **TOGETHER, plan_kwargs={"lr": 1e30, "eps": 1e-8})
        assert all(value.isfinite().all() for value in model.module.state_dict().values())

    assert forked(work) == [0, 0]


def test_a_session_and_a_missing_seed_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", [""])
    with pytest.raises(errors.ArgumentError, match="torchrun"):
        scvi(counts(60, 20)).train(max_epochs=1, devices=2, accelerator="cpu")
    monkeypatch.setattr(settings, "seed", None)
    with pytest.raises(errors.ArgumentError, match="the same seed"):
        scvi(counts(60, 20)).train(max_epochs=1, devices=2, accelerator="cpu")
    with pytest.raises(errors.ArgumentError, match="must be one of 'auto', 'ddp', 'ray'"):
        scvi(counts(60, 20)).train(max_epochs=1, strategy="dpp", seed=0)


SCRIPT = """
    import os, signal, sys
    from scelbo import SCVI, settings
    from scelbo.data.simulate import counts
    adata = counts(300, 40)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=16, n_latent=4)
    if os.environ.get("LOCAL_RANK") == "1":
        from scelbo.train.plan import Plan
        step = Plan.training_step
        def killed(plan, cells, i):
            if plan.epoch == 3 and i == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(plan, cells, i)
        Plan.training_step = killed
    settings.progress = False
    options = {"accelerator": "cpu", "seed": 1, "batch_size": 50, "check_val_every_n_epoch": 1}
    model.train(max_epochs=5, devices=2, resume=sys.argv[1], **options)
"""


def test_a_killed_process_ends_the_run_with_a_word_and_the_state_intact(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    run = subprocess.run(
        [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "state")], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode != 0 and "LostProcessError: Another process of this training does not answer any more, in epoch 4" in run.stderr
    assert "Start all of them again" in run.stderr
    alone = scvi(counts(300, 40))
    alone.train(max_epochs=5, resume=tmp_path / "state", **ALONE)  # by one process: also that goes on
    assert alone.trained_epochs == 5 and alone.outcome["reason"] == "done"


@pytest.mark.filterwarnings("ignore")
def test_workers_of_ray_train_what_other_processes_would(ray, tmp_path, monkeypatch):
    torch_trainer = pytest.importorskip("ray.train.torch").TorchTrainer
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    options, path = {**ALONE, "max_epochs": 2}, str(tmp_path)

    def train(folder="ray", **where):
        from scelbo import SCVI
        from scelbo.data.simulate import counts

        adata = counts(300, 40)
        SCVI.setup_anndata(adata, batch_key="batch")
        model = SCVI(adata, n_hidden=16, n_latent=4)
        model.train(**options, **(where or {"strategy": "ray"}))
        model.save(f"{path}/{folder}")

    before = np.random.get_state()  # noqa: NPY002
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        torch_trainer(train, scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1})).fit()
    finally:
        ray.shutdown()
        np.random.set_state(before)  # noqa: NPY002
    assert forked(lambda rank: train("forked", devices=2)) == [0, 0]
    pd.testing.assert_frame_equal(scelbo.load(tmp_path / "ray")._history, scelbo.load(tmp_path / "forked")._history, rtol=1e-5)
