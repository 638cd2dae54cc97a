"""What happens around the epochs of a training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from scelbo.train.plan import NonFinite, Plan


class LastGoodState(pl.Callback):
    """Keeps the weights and the optimiser from the start of the epoch, to go back to when a loss is not finite."""

    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}
        self.optimizer: dict[str, Any] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        self.weights = copy.deepcopy(plan.module.state_dict())
        self.optimizer = copy.deepcopy(trainer.optimizers[0].state_dict())

    def on_train_epoch_end(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        """On a GPU losses are not looked at step by step: look at the epoch's sum."""
        loss = plan.sums.parts.get("loss")
        if loss is not None and not bool(loss.isfinite()):
            raise NonFinite(next(iter(trainer.train_dataloader)))  # type: ignore[arg-type]


class KeepBest(pl.Callback):
    """Keeps the weights of the best validation, and writes the model to a folder at each new best if asked."""

    def __init__(self, monitor: str, write: Callable[[Plan], None] | None):
        self.monitor, self.write = monitor, write
        self.best, self.epoch = float("inf"), 0
        self.weights: dict[str, Any] | None = None

    def on_validation_end(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights, self.epoch = value, copy.deepcopy(plan.module.state_dict()), plan.epoch
            if self.write is not None:
                self.write(plan)
