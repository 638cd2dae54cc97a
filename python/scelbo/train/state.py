"""How far a training is, as one file that runs no code when it is read: a training that was cut short goes on from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scelbo import settings
from scelbo.data import Loader
from scelbo.errors import ArgumentError, StorageError
from scelbo.train.callbacks import KeepBest
from scelbo.train.options import PlanOptions, TrainOptions
from scelbo.train.plan import Plan
from scelbo.train.processes import gathered, noise_of
from scelbo.whole import whole

if TYPE_CHECKING:
    from scelbo.model import Model

FORMAT = "scelbo training 1"
MAY_DIFFER = ("accelerator", "devices", "strategy", "num_nodes", "progress", "checkpoint", "resume", "trainer_kwargs")
"""Options that say where a training runs and what it tells, not what it arrives at."""


def identity(model: Model, options: TrainOptions, plan: PlanOptions, seed: int, max_epochs: int) -> dict[str, Any]:
    """What a training is of and how it goes: only the same one goes on."""
    told = {name: value for name, value in dataclasses.asdict(options).items() if name not in MAY_DIFFER}
    names = hashlib.sha256("\n".join(map(str, model.source().obs_names)).encode()).hexdigest()
    return {
        "model": type(model).__name__, **{name: getattr(model, name) for name in model.hyperparameters()},
        "setup": model.setup.to_dict(), "cells": names, "epochs trained before": model.trained_epochs, **told,
        **{f"plan_kwargs {name}": value for name, value in dataclasses.asdict(plan).items()}, "seed": seed, "max_epochs": max_epochs,
    }  # fmt: skip


class State:
    """The file of one training.

    Parameters
    ----------
    path
        Where it is, or will be.
    about
        Of :func:`identity`.
    seed
        Of the training.

    Raises
    ------
    ArgumentError
        The file is of a training that differs; what differs is named.
    StorageError
        It is no such file.
    """

    def __init__(self, path: str | Path, about: dict[str, Any], seed: int):
        self.path, self.about, self.seed = Path(path), json.loads(json.dumps(about, default=str)), seed
        self.read = _read(self.path) if self.path.exists() else None
        if self.read is not None:
            theirs = self.read["about"]
            for name in [*self.about, *theirs]:
                if self.about.get(name) != theirs.get(name):
                    raise ArgumentError(
                        f"resume={str(path)!r} holds a training with another {name}{_both(theirs.get(name), self.about.get(name))}.",
                        "Train as it was begun; or name another file, or remove this one, to begin anew.",
                    )

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return self.read["epochs"] if self.read else 0

    @property
    def finished(self) -> str | None:
        """How the training ended, if it did."""
        return self.read["finished"] if self.read else None

    def restore(self, plan: Plan, loader: Loader, stopping: EarlyStopping | None, best: KeepBest | None, rank: int, of: int) -> None:
        """Put everything back as it was at the end of the last epoch that was noted."""
        if self.read is None:
            return
        read = self.read
        plan.module.load_state_dict(read["weights"])
        plan.optimizer_state, plan.schedule_state, plan.rows = read["optimizer"], read["schedule"], read["rows"]
        plan.done, plan.steps_done = read["epochs"], read["steps"]
        if stopping is not None:
            stopping.load_state_dict(read["stopping"])
        if best is not None:
            best.best, best.epoch, best.weights = read["best"], read["best_epoch"], read["best_weights"]
        assert loader.rng is not None
        loader.rng.bit_generator.state = read["shuffling"]
        if len(read["noise"]) == of:
            torch.set_rng_state(read["noise"][rank])
            if torch.cuda.is_available() and read["noise_cuda"][rank]:
                torch.cuda.set_rng_state_all(read["noise_cuda"][rank])
        else:  # by another number of processes
            torch.manual_seed(noise_of(self.seed, read["epochs"], rank))

    def write(self, trainer: pl.Trainer, plan: Plan, at_end: dict[str, Any], best: KeepBest | None, finished: str | None = None) -> None:
        """Note how far the training is, whole or not at all; every process must call."""
        noise = gathered([at_end["noise"], at_end["noise_cuda"]])
        if not settings.first_process():
            return
        stopping = next((c for c in trainer.callbacks if isinstance(c, EarlyStopping)), None)  # type: ignore[attr-defined]
        schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        tree = {
            "about": self.about, "finished": finished, "epochs": at_end["epochs"], "steps": at_end["steps"],
            "weights": plan.module.state_dict(), "optimizer": trainer.optimizers[0].state_dict(),
            "schedule": schedules[0] if schedules else None,
            "rows": plan.rows, "stopping": stopping.state_dict() if stopping else None, "shuffling": at_end["shuffling"],
            "best": best.best if best else None, "best_epoch": best.epoch if best else None, "best_weights": best.weights if best else None,
            "noise": [one[0] for one in noise], "noise_cuda": [one[1] for one in noise],
        }  # fmt: skip
        tensors: dict[str, Tensor] = {}
        plain = json.dumps(_packed(tree, tensors))
        with whole(self.path) as new:
            save_file(tensors, new, {"format": FORMAT, "plain": plain})


class Noting(pl.Callback):
    """Writes the state after each look at the validation cells: then a training that goes on looks at them in the same epochs."""

    def __init__(self, state: State, loader: Loader, best: KeepBest | None, every: int):
        self.state, self.loader, self.best, self.every = state, loader, best, every
        self.at_end: dict[str, Any] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        """What the next epoch draws from, before it draws."""
        assert self.loader.rng is not None
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and plan.device.type == "cuda" else []
        self.at_end = {
            "epochs": plan.epoch - plan.start + 1, "steps": plan.steps, "shuffling": self.loader.rng.bit_generator.state,
            "noise": torch.get_rng_state(), "noise_cuda": cuda,
        }  # fmt: skip

    def on_train_epoch_start(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        """Write only now: schedules move after the end of an epoch."""
        if self.at_end and self.at_end["epochs"] % self.every == 0:
            self.state.write(trainer, plan, self.at_end, self.best)

    def finish(self, trainer: pl.Trainer, plan: Plan, reason: str) -> None:
        """The training ended by itself."""
        self.state.write(trainer, plan, self.at_end, self.best, reason)


def _both(theirs: Any, own: Any) -> str:
    short = all(len(json.dumps(value)) < 60 for value in (theirs, own))
    return f" ({theirs!r}, and this is {own!r})" if short else ""


def _packed(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Plain data with tensors put aside; dictionaries as pairs, since their keys may be numbers."""
    if isinstance(tree, Tensor):
        tensors[name := f"t{len(tensors)}"] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, _packed(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_packed(value, tensors) for value in tree]
    return tree.item() if isinstance(tree, np.generic) else tree


def _unpacked(plain: Any, tensors: Any) -> Any:
    if isinstance(plain, dict):
        return tensors.get_tensor(plain["tensor"]) if "tensor" in plain else {k: _unpacked(v, tensors) for k, v in plain["dict"]}
    return [_unpacked(value, tensors) for value in plain] if isinstance(plain, list) else plain


def _read(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            if said.get("format") == FORMAT:
                return _unpacked(json.loads(said["plain"]), file)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StorageError(f"resume={str(path)!r} cannot be read: {error}.", "Name another file, or remove it to begin anew.") from error
    raise StorageError(f"resume={str(path)!r} holds no training.", "Name another file.")
