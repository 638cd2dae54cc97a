"""What happens around the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from scelbo.train.plan import Plan
from scelbo.train.processes import require_agreement


def noted(module: nn.Module, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of the weights, in the memory of an earlier one where there is one."""
    now = module.state_dict()
    if not before:
        return {name: value.clone() for name, value in now.items()}
    for name, value in now.items():
        before[name].copy_(value)
    return before


class LastGoodState(pl.Callback):
    """Keeps the weights from the start of the epoch, to go back to when a loss is not finite."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        self.weights = noted(plan.module, self.weights)


class Together(pl.Callback):
    """Before several processes train, they must agree what they train."""

    def __init__(self, what: dict[str, Any]):
        self.what = what

    def on_fit_start(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        require_agreement(self.what)


class KeepBest(pl.Callback):
    """Keeps the weights of the best validation, and writes the model to a folder at each new best if asked."""

    def __init__(self, monitor: str, write: Callable[[Plan], None] | None):
        self.monitor, self.write = monitor, write
        self.best, self.epoch = float("inf"), 0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights, self.epoch = value, noted(plan.module, self.weights), plan.epoch
            if self.write is not None:
                self.write(plan)
