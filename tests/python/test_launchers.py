"""Programs that others start several times, torchrun and SLURM, train one model: by the command line, as one process would."""

import json
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import scelbo
from scelbo import SCVI, errors, settings
from scelbo.cli import main
from scelbo.data.simulate import counts

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="SLURM and gloo are for others"),
    pytest.mark.filterwarnings("ignore::UserWarning:anndata"),
]
# a model that draws nothing: the same minibatches then give the same numbers
FIT = (
    "fit rnastereoscope {0}/cells.h5ad -o {0}/{1} --labels cell_type --max-epochs 3 --batch-size 50 --check-val-every-n-epoch 1"
    " --seed 1 --accelerator cpu"
)


def of_slurm(rank):
    """What srun tells the second of two tasks on one machine, and the first."""
    return {
        "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2, "SLURM_NNODES": 1, "SLURM_NODEID": 0,
        "SLURM_NODELIST": "localhost", "SLURM_PROCID": rank, "SLURM_LOCALID": rank,
    }  # fmt: skip


def by_torchrun(words):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", *words]
    return [subprocess.Popen(run, stdout=-1, stderr=-1, text=True)]


def by_srun(words):
    while True:  # Lightning makes a port of the job's last four digits
        job = random.SystemRandom().randrange(10_000)
        with socket.socket() as free:
            if free.connect_ex(("localhost", 15_000 + job)):
                break
    told = [{**of_slurm(rank), "SLURM_JOB_ID": f"12{job:04}"} for rank in range(2)]
    return [
        subprocess.Popen(
            [sys.executable, "-m", *words], stdout=-1, stderr=-1, text=True, env=os.environ | {k: str(v) for k, v in t.items()}
        )
        for t in told
    ]


@pytest.mark.parametrize("start", [by_torchrun, by_srun])
def test_two_processes_of_the_command_line_reach_the_curve_and_weights_of_one(start, tmp_path):
    counts(300, 40, stored=0.3).write_h5ad(tmp_path / "cells.h5ad")
    assert main(FIT.format(tmp_path, "alone").split()) == 0
    processes = start(["scelbo", *FIT.format(tmp_path, "together").split(), "--devices", "2", "--log", "json"])
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    assert {out for out, _ in said} == {""}
    events = [json.loads(line) for _, err in said for line in err.splitlines() if line.startswith("{")]
    assert [event["done"] for event in events if event["event"] == "step"] == [1, 2, 3]  # one process speaks
    alone, together = scelbo.load(tmp_path / "alone"), scelbo.load(tmp_path / "together")
    pd.testing.assert_frame_equal(together._history, alone._history, rtol=1e-5)
    for name, value in alone.module.state_dict().items():
        np.testing.assert_allclose(together.module.state_dict()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(np.sort(together.train_indices), np.sort(alone.train_indices))


def make():
    adata = counts(60, 20)
    SCVI.setup_anndata(adata)
    return SCVI(adata, n_hidden=8, n_latent=2)


def test_one_process_trains_in_a_job_that_has_room_for_more(monkeypatch):
    for name, value in {"SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "rstudio", "SLURM_NTASKS": 4, "SLURM_PROCID": 0}.items():
        monkeypatch.setenv(name, str(value))
    model = make()
    model.train(max_epochs=1)
    assert model.trained_epochs == 1


def test_a_launcher_that_started_other_processes_than_asked_for_is_told(monkeypatch):
    with monkeypatch.context() as patch:
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}.items():
            patch.setenv(name, str(value))
        with pytest.raises(errors.ArgumentError, match="torchrun started 8 processes") as caught:
            make().train(max_epochs=1)
        assert "devices=4, num_nodes=2" in caught.value.hint
    for told, says in (
        ({**of_slurm(0), "SLURM_NTASKS": 4}, "make 2 processes, and 4 were started"),
        ({"SLURM_NTASKS": 2}, "ntasks-per-node"),
    ):
        with monkeypatch.context() as patch:
            for name, value in {"SLURM_PROCID": 0, **told}.items():
                patch.setenv(name, str(value))
            with pytest.raises(errors.ArgumentError, match=says):
                make().train(max_epochs=1, devices=2, accelerator="cpu", seed=0)
    assert settings.first_process() and not torch.distributed.is_initialized()
