"""The fit: split, loaders, one Lightning trainer, and what is kept afterwards, however it ended."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden

from scelbo import settings
from scelbo.data import Loader, split
from scelbo.errors import ArgumentError, LostProcessError, NonFiniteLossError, StorageError, one_of
from scelbo.storage import require_place
from scelbo.train.callbacks import KeepBest, LastGoodState, Together
from scelbo.train.epochs import EpochPlan
from scelbo.train.graphs import GraphPlan
from scelbo.train.interrupt import Stop, graceful_interrupt
from scelbo.train.options import PlanOptions, TrainOptions
from scelbo.train.plan import NonFinite, Plan
from scelbo.train.processes import lost, of_ray, require_alone, require_as_many, require_launcher, seed_for_all, sharing
from scelbo.train.state import Noting, State, identity
from scelbo.whole import require_writable

if TYPE_CHECKING:
    from scelbo.model import Model

SHOWN = {"elbo": "elbo_train", "validation": "elbo_validation"}
"""Beside the progress bar: minus the ELBO a cell."""
OF_STEPS = (
    "on_train_batch_start", "on_train_batch_end",
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
)  # fmt: skip
"""What callbacks are told of each minibatch."""


def fit(model: Model, options: TrainOptions, plan_options: PlanOptions) -> None:
    """Train ``model`` (see ``Model.train``). Ctrl-C keeps the model trained so far; a loss that is not finite takes it back."""
    data = model.read()
    if not any(p.requires_grad for p in model.module.parameters()):
        settings.say("Nothing to train: these cells bring no category that the reference did not know.")
        return
    max_epochs, home = options.epochs(data.n_obs), model.device
    seed = seed_for_all(options.seed, options.several)
    state = State(options.resume, identity(model, options, plan_options, seed, max_epochs), seed) if options.resume is not None else None
    done = state.epochs if state else 0
    if not (state and state.finished):
        _require_places(options)
    with settings.private_seed(seed) as rng:
        streams = [
            [rows[part] for part in split(len(rows), options.train_size, options.validation_size, options.shuffle_set_split, rng)]
            for rows in model.streams()
        ]
        train, validation, test = (np.concatenate(parts) for parts in zip(*streams, strict=True))
        every = _validate_every(options, plan_options, max_epochs, len(validation))
        good = LastGoodState()
        best = KeepBest(options.early_stopping_monitor, _writer(model, options)) if options.early_stopping or options.checkpoint else None
        stopping = None
        if options.early_stopping:
            stopping = EarlyStopping(options.early_stopping_monitor, options.early_stopping_min_delta, options.early_stopping_patience)
        agreed = Together({"seed": seed, "max_epochs": max_epochs, "the number of cells": data.n_obs, "the epoch noted in resume": done})
        with graceful_interrupt() as stop, _quiet():
            trainer = _trainer(options, max_epochs - done, every, [c for c in (agreed, good, stopping, best) if c])
            rank, of = trainer.global_rank, trainer.world_size
            with (
                settings.task(f"Training {type(model).__name__}", max_epochs, False if rank else options.progress) as work,
                sharing(model.module, rank, of, seed),
            ):
                report = lambda row: work.step(1, **{name: row[key] for name, key in SHOWN.items() if key in row})  # noqa: E731
                plan = _plan_of(model, options, trainer.strategy.root_device)(
                    model.module, plan_options, max_epochs, len(train), model.trained_epochs, model.optimizer_state, report, stop
                )
                shuffling = np.random.default_rng([seed, plan.start])
                data = data.near(trainer.strategy.root_device)
                loader = Loader(data, [s[0] for s in streams], options.batch_size, shuffling, model.beside(train), (rank, of))
                looked_at = Loader(data, np.sort(validation), options.batch_size, part=(rank, of)) if every else None
                if state:
                    state.restore(plan, loader, stopping, best, rank, of)
                    trainer.callbacks.append(noting := Noting(state, loader, best, every or 1))  # type: ignore[attr-defined]
                if done:
                    work.step(done)
                model.module.train()  # Lightning leaves modules in the mode that they are in
                unwritten: StorageError | None = None
                try:
                    if not (state and state.finished):
                        trainer.fit(plan, plan.grouped(loader), looked_at)
                        if state and not stop.requested:
                            noting.finish(trainer, plan, _ended(trainer, max_epochs - done, stop))
                except StorageError as error:
                    unwritten = error
                except NonFinite as error:
                    work.reason = "not finite"
                    model.module.load_state_dict(good.weights)
                    model.optimizer_state = None  # its moments have seen what led there
                    _record(model, plan)
                    raise _explain(model, error.index, plan) from None
                except RuntimeError as error:
                    if not lost(error):
                        raise
                    work.reason = "a process was lost"
                    raise _without(error, plan, options) from error
                finally:
                    model.train_indices, model.validation_indices, model.test_indices = train, validation, test
                    model.module.eval()
                if state and state.finished:
                    work.reason, model.optimizer_state = state.finished, plan.optimizer_state
                else:
                    work.reason = "not written" if unwritten else _ended(trainer, max_epochs - done, stop)
                    model.optimizer_state = trainer.optimizers[0].state_dict()
                model.outcome = {"reason": work.reason, "kept_epoch": None}
        model.module.zero_grad()  # gradients are as large as the weights
        _record(model, plan)
        if best is not None and best.weights:
            model.module.load_state_dict(best.weights)
            model.outcome["kept_epoch"] = best.epoch
        model.module.to(home)  # Lightning leaves it in the processor's memory
        model.conclude()
        if stop.requested:
            settings.say(f"Interrupted: the model keeps the {model.trained_epochs} epochs trained so far.")
        if unwritten:
            raise StorageError(
                f"{unwritten.args[0]} Training ended there, and the model keeps the {model.trained_epochs} epochs trained so far.",
                f"{unwritten.hint} The model can be asked, saved elsewhere, and trained further.",
            ) from unwritten


def _require_places(options: TrainOptions) -> None:
    """Raise, before the work begins, where its results could not be written."""
    if options.checkpoint is not None:
        require_place(options.checkpoint, overwrite=True)
    for place in (options.checkpoint, options.resume):
        if place is not None:
            require_writable(place)


def _ended(trainer: pl.Trainer, max_epochs: int, stop: Stop) -> str:
    """How a training ended by itself, or that it was asked to."""
    return "interrupted" if stop.requested else "stopped early" if trainer.current_epoch < max_epochs else "done"


def _record(model: Model, plan: Plan) -> None:
    """What was trained, as of now."""
    rows = {epoch: row for epoch, row in plan.rows.items() if "train_loss" in row}  # whole epochs
    new = pd.DataFrame.from_dict(rows, orient="index").rename_axis("epoch")
    before = model._history[model._history.index < plan.start]
    model._history = pd.concat([before, new]).rename_axis("epoch") if len(before) else new
    model.trained_epochs = plan.start + len(rows)
    model.is_trained = model.is_trained or plan.steps > 0


def _validate_every(options: TrainOptions, plan: PlanOptions, max_epochs: int, n_validation: int) -> int:
    """Epochs between validations; 0 for none."""
    wants = {
        "early_stopping": options.early_stopping,
        "reduce_lr_on_plateau": plan.reduce_lr_on_plateau,
        "checkpoint": options.checkpoint is not None,
    }
    needs = [name for name, wanted in wants.items() if wanted]
    if n_validation == 0:
        if needs:
            raise ArgumentError(
                f"{needs[0]} needs validation cells, and the sizes given leave none.", "Lower train_size, or set validation_size."
            )
        return 0
    if options.check_val_every_n_epoch:
        return int(options.check_val_every_n_epoch)
    return 1 if needs else max(1, max_epochs // 20)


def _writer(model: Model, options: TrainOptions) -> Callable[[Plan], None] | None:
    """Writes the model to the checkpoint folder, if one was named."""
    folder = options.checkpoint
    if folder is None:
        return None

    def write(plan: Plan) -> None:
        _record(model, plan)
        model.save(folder, overwrite=True)

    return write


def _plan_of(model: Model, options: TrainOptions, device: torch.device) -> type[Plan]:
    """The model's own plan, if it has one; else, if nobody asks Lightning for minibatches, one that makes or records the steps."""
    own: type[Plan] = getattr(model, "Plan", Plan)
    asked = any(is_overridden(hook, c) for c in options.trainer_kwargs.get("callbacks", ()) for hook in OF_STEPS)
    if own is not Plan or options.several or asked or options.trainer_kwargs.keys() - {"callbacks"}:
        return own
    return GraphPlan if device.type == "cuda" and settings.record_steps else EpochPlan


def _trainer(options: TrainOptions, max_epochs: int, every: int, callbacks: list[Any]) -> pl.Trainer:
    accelerator = options.accelerator if options.accelerator != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(options.strategy, str):
        one_of("strategy", options.strategy, ("auto", "ddp", "ray"))
    strategy, more = options.strategy, dict(options.trainer_kwargs)
    if strategy == "ray":
        strategy, environment = of_ray()
        more["plugins"] = [environment, *more.get("plugins", [])]
    elif options.several and isinstance(strategy, str):
        require_launcher()
        strategy = DDPStrategy(find_unused_parameters=True)  # a process may hold no cell of some modality
    elif not options.several:
        require_alone()
        more.setdefault("plugins", [LightningEnvironment()])  # one process, whatever a cluster's job may have room for
    try:
        trainer = pl.Trainer(
            max_epochs=max(1, max_epochs), accelerator=accelerator, devices=1 if options.devices == "auto" else options.devices,
            strategy=strategy, num_nodes=options.num_nodes, callbacks=[*callbacks, *more.pop("callbacks", [])],
            check_val_every_n_epoch=every or 1, limit_val_batches=1.0 if every else 0, num_sanity_val_steps=0,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, **more,
        )  # fmt: skip
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        said = f"accelerator={options.accelerator!r}, devices={options.devices!r}, trainer_kwargs={options.trainer_kwargs!r}"
        raise ArgumentError(f"Lightning does not take {said}: {error}") from error
    if options.strategy in ("auto", "ddp"):  # Ray, or a strategy that was given, counts its own
        require_as_many(trainer.num_nodes * trainer.num_devices, trainer.world_size)
    return trainer


def _without(error: RuntimeError, plan: Plan, options: TrainOptions) -> LostProcessError:
    """What is left when another process ended."""
    again = "Start all of them again: training goes on from what is noted there." if options.resume else (
        "Start all of them again; with train(resume='training.state') they would go on from the last epochs that were noted."
    )  # fmt: skip
    where = f" How far it was is noted in {str(options.resume)!r}." if options.resume else ""
    said = f"Another process of this training does not answer any more, in epoch {plan.epoch + 1}.{where}"
    return LostProcessError(said, again, [str(error)])


def _explain(model: Model, index: np.ndarray, plan: Plan) -> NonFiniteLossError:
    """Which cells and genes of the minibatch are extreme."""
    found = []
    if len(index):
        x = model.read().take(index).x  # type: ignore[attr-defined]
        size, names = x.size[:, 0], model.adata.obs_names  # type: ignore[union-attr]
        top = size.argsort(descending=True)[:3]
        peak = torch.zeros(x.n_vars).scatter_reduce(0, x.col, x.val, "amax")
        genes = peak.argsort(descending=True)[:3]
        cells = ", ".join(f"{names[int(index[i])]} ({size[i]:,.0f})" for i in top)
        found = [
            f"cells with the most counts (median {float(size.median()):,.0f}): {cells}",
            "genes with the highest values: " + ", ".join(f"{model.setup.var_names[int(g)]} ({peak[g]:,.0f})" for g in genes),
        ]
    return NonFiniteLossError(
        f"The loss became NaN or infinite in epoch {plan.epoch + 1}; the model was put back to the start of that epoch.",
        "Lower the learning rate, plan_kwargs={'lr': 5e-4}, or remove extreme cells and genes, and train again: it goes on from there.",
        found,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's own lines and hints are not for the people who use a model."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*(tensorboard|num_workers|log_every_n_steps|isinstance\(treespec).*")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
