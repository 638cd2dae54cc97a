"""What happens around the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
from torch import Tensor, nn

from scelbo.train.plan import NonFinite, Plan


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
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, plan: Plan) -> None:  # type: ignore[override]
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights, self.epoch = value, noted(plan.module, self.weights), plan.epoch
            if self.write is not None:
                self.write(plan)
