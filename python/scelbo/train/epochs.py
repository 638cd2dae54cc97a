"""Epochs that Lightning takes for one step of its loop, which may cost a tenth of a training."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scelbo.data import Batch, Loader
from scelbo.train.plan import Plan


class Epochs:
    """A loader's minibatches as one."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Iterator[Batch]]:
        yield iter(self.loader)


class EpochPlan(Plan):
    """The plan, with steps of its own: for one process that asks nothing else of Lightning's loop."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.automatic_optimization, self.taken = False, 0

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one optimiser."""
        return self.trainer.optimizers[0]

    @cached_property
    def learnt(self) -> list[Tensor]:
        """What it moves."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    @property
    def steps(self) -> int:
        return self.steps_done + self.taken

    def grouped(self, loader: Loader) -> Epochs:
        return Epochs(loader)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if isinstance(batch, Batch) else batch

    def training_step(self, epoch: Iterator[Batch], i: int) -> None:  # type: ignore[override]
        for cells in epoch:
            if self.stop.requested:
                self.trainer.should_stop = True
                break
            self.step(self.transfer_batch_to_device(cells, self.device, 0))
            self.taken += 1

    def step(self, cells: Batch) -> None:
        """From the loss to the optimiser's step."""
        loss = self.loss_of(cells)
        for weight in self.learnt:  # what zero_grad() does, less what it says to profilers
            weight.grad = None
        loss.backward()
        self.optimizer.step()

    def tell(self, figures: dict[str, float]) -> None:
        """Without a logger's ways, which cost as much as a minibatch."""
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in figures.items()})

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        metric = self.rows.get(self.epoch, {}).get(self.options.lr_scheduler_metric)
        for config in self.trainer.lr_scheduler_configs if metric is not None else ():
            config.scheduler.step(metric)  # type: ignore[arg-type]
