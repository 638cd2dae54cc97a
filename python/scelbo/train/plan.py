"""One training plan for all models: what a minibatch costs, how the weights move, what an epoch is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from scelbo.data import Batch, Loader
from scelbo.module import Loss, Module
from scelbo.train.interrupt import Stop
from scelbo.train.options import PlanOptions
from scelbo.train.processes import gathered, several

VALIDATION_SEED = 1234
"""Validation draws the same latents at every epoch, so that its curve shows the model and not the draws."""


class NonFinite(Exception):
    """The loss of a minibatch is NaN or infinite: that of these cells (none, where it was another process's)."""

    def __init__(self, index: np.ndarray):
        super().__init__()
        self.index = index


class Sums:
    """Per-cell parts of the loss, summed over the minibatches of an epoch without waiting for the device.

    ``n_cells`` share what counts once for all of them.
    """

    def __init__(self, n_cells: int) -> None:
        self.n_cells, self.cells = n_cells, 0
        self.parts: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}  # how many values of a figure are known
        self.losses: list[tuple[Tensor, Tensor]] = []  # of each minibatch, and its cells

    def add(self, loss: Loss, total: Tensor, cells: Batch) -> None:
        n = len(cells)
        kl = [*loss.kl.values(), *loss.kl_fixed.values()]
        parts = {"loss": total.detach() * n, "reconstruction_loss": sum(v.detach().sum() for v in loss.nll.values())}
        parts["kl_local"] = sum((v.detach().sum() for v in kl), torch.zeros((), device=total.device))
        if loss.kl_global:
            parts["kl_global"] = torch.stack([v.detach() for v in loss.kl_global.values()]).sum() * n / self.n_cells
        parts.update({name: value.detach() * n for name, value in loss.penalty.items() if name not in loss.figures})
        for name, values in loss.figures.items():
            parts[name] = values.detach().nansum()
            self.seen[name] = self.seen.get(name, 0) + values.isfinite().sum()
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0) + value
        self.cells += n

    def first_odd(self) -> np.ndarray:
        """The cells of the first minibatch whose loss is not finite."""
        return next((index.cpu().numpy() for total, index in self.losses if not torch.isfinite(total)), np.empty(0, np.int64))

    def whole(self) -> Sums:
        """Those of all processes that share the minibatches; each must ask."""
        out = Sums(self.n_cells)
        own, known = ({name: float(value) for name, value in found.items()} for found in (self.parts, self.seen))
        for parts, seen, cells in gathered((own, known, self.cells)):
            out.cells += cells
            out.parts = {name: out.parts.get(name, 0) + parts.get(name, 0) for name in {**out.parts, **parts}}
            out.seen = {name: out.seen.get(name, 0) + seen.get(name, 0) for name in {**out.seen, **seen}}
        return out

    def means(self) -> dict[str, float]:
        """Each part a cell, with the (minus) ELBO."""
        out = {name: float(value) / n for name, value in self.parts.items() if (n := self.seen.get(name, self.cells))}
        return out | {"elbo": out["reconstruction_loss"] + out["kl_local"] + out.get("kl_global", 0)}


class Plan(pl.LightningModule):
    """Adam with fused kernels, an annealed KL, epoch-level figures.

    A model that trains otherwise names a subclass in its class body: ``Plan = MyPlan``.

    Parameters
    ----------
    module
        What trains.
    options
        Optimiser, schedule, KL warm-up.
    max_epochs
        Epochs of this training.
    n_cells
        Cells that train.
    start
        Epochs trained before.
    optimizer_state
        Where an earlier training left the optimiser, or None.
    report
        Called with the figures of every epoch.
    stop
        Looked at before every minibatch: the user may ask to stop.
    """

    capturable = False
    """Whether a GPU is to record the optimiser's step."""

    def __init__(
        self,
        module: Module,
        options: PlanOptions,
        max_epochs: int,
        n_cells: int,
        start: int,
        optimizer_state: dict[str, Any] | None,
        report: Callable[[dict[str, float]], None],
        stop: Stop,
    ):
        super().__init__()
        self.module, self.options, self.max_epochs, self.n_cells, self.start = module, options, max_epochs, n_cells, start
        self.optimizer_state, self.report, self.stop = optimizer_state, report, stop
        self.rows: dict[int, dict[str, float]] = {}
        self.done = self.steps_done = 0  # of this training, before it was cut short (State.restore)
        self.schedule_state: dict[str, Any] | None = None
        self.sums = self.seen = Sums(n_cells)

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes which hook it is in some 40 times a step, for which torch's way to set what a module has takes long."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def epoch(self) -> int:
        """Epochs trained before this one, earlier trainings counted."""
        return self.start + self.done + self.current_epoch

    @property
    def steps(self) -> int:
        """Minibatches of this training so far."""
        return self.steps_done + self.global_step

    @property
    def kl_weight(self) -> float:
        return self.options.kl_weight(self.epoch, self.steps, self.max_epochs)

    def grouped(self, loader: Loader) -> Any:
        """A loader as Lightning goes through it."""
        return loader

    def configure_optimizers(self) -> Any:
        o = self.options
        optimizer = o.optimizer_of(self.module)
        if self.optimizer_state is not None and self.done:
            optimizer.load_state_dict(self.optimizer_state)  # a schedule may have moved the learning rate
        elif self.optimizer_state is not None:
            groups = optimizer.state_dict()["param_groups"]  # what was learnt goes on; what was asked for now counts
            optimizer.load_state_dict({"state": self.optimizer_state["state"], "param_groups": groups})
        for group in optimizer.param_groups:
            group["capturable"] = self.capturable
        if not o.reduce_lr_on_plateau:
            return optimizer
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=o.lr_factor, patience=o.lr_patience, threshold=o.lr_threshold, threshold_mode="abs", min_lr=o.lr_min
        )
        if self.schedule_state is not None:
            schedule.load_state_dict(self.schedule_state)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": o.lr_scheduler_metric}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch if batch.index.device == device else batch.to(device)

    def total(self, loss: Loss) -> Tensor:
        """What a minibatch costs."""
        return loss.total(self.weight, self.n_cells, self.options.weights(self.weight))

    # ------------------------------------------------------------------ training
    def on_train_epoch_start(self) -> None:
        self.sums, self.weight = Sums(self.n_cells), self.kl_weight

    def on_train_batch_start(self, cells: Batch, i: int) -> int | None:
        if not self.stop.requested or several():  # several stop together, at the end of the epoch
            return None
        self.trainer.should_stop = True
        return -1  # Lightning skips the rest of the epoch

    def training_step(self, cells: Batch, i: int) -> Tensor:
        return self.loss_of(cells) * cells.share

    def loss_of(self, cells: Batch) -> Tensor:
        """What a minibatch costs, which the epoch's sums note."""
        if self.options.n_steps_kl_warmup:
            self.weight = self.kl_weight
        loss = self.module(cells)
        total = self.total(loss)
        if total.device.type == "cpu" and not several() and not torch.isfinite(total):
            raise NonFinite(cells.index.numpy())
        self.sums.add(loss, total, cells)
        self.sums.losses.append((total.detach(), cells.index))
        return total

    def note_training(self) -> dict[str, float]:
        """The epoch's figures of the training cells, in its row."""
        figures = self.sums.whole().means()
        if not math.isfinite(figures["loss"]):  # found late where nobody waits for a GPU, or for other processes, at every step
            raise NonFinite(self.sums.first_odd())
        learnt = [p.detach() for p in self.module.parameters() if p.requires_grad and p.numel()]
        if not torch.stack([end.isfinite() for p in learnt for end in torch.aminmax(p)]).all():  # of NaN and others, both ends are NaN
            raise NonFinite(self.sums.losses[-1][1].cpu().numpy())  # the last gradient, of which no loss tells any more
        named = {"train_loss": figures.pop("loss"), **{f"{name}_train": value for name, value in figures.items()}}
        weight = {"kl_weight": self.weight, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        self.rows.setdefault(self.epoch, {}).update(named | weight)
        return named

    def tell(self, figures: dict[str, float]) -> None:
        """Let callbacks and schedules know."""
        self.log_dict(figures, batch_size=1)

    def on_train_epoch_end(self) -> None:
        if self.sums.cells:  # else interrupted before the first minibatch
            self.tell(self.note_training())
            self.report(self.rows[self.epoch])
        if several() and any(gathered(self.stop.requested)):
            self.stop.requested = self.trainer.should_stop = True

    # ------------------------------------------------------------------ validation
    def on_validation_epoch_start(self) -> None:
        self.seen, self.random_state = Sums(self.n_cells), (torch.get_rng_state(), self._noise_of_gpu())
        torch.manual_seed(VALIDATION_SEED)

    def validation_step(self, cells: Batch, i: int) -> None:
        loss = self.module(cells)
        self.seen.add(loss, self.total(loss), cells)

    def on_validation_epoch_end(self) -> None:
        on_cpu, on_gpu = self.random_state
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.device)
        self.note_training()  # validation ends inside the training epoch, and a checkpoint is written then
        figures = {("validation_loss" if k == "loss" else f"{k}_validation"): v for k, v in self.seen.whole().means().items()}
        self.rows[self.epoch].update(figures)
        self.tell(figures)

    def _noise_of_gpu(self) -> Tensor | None:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
