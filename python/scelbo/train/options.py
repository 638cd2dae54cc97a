"""What training can be told, as plain data: each default stands here once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

import torch
from torch import Tensor, nn

from scelbo.errors import ArgumentError, of_kind, unknown


@dataclass(frozen=True)
class PlanOptions:
    """How a minibatch moves the weights.

    Parameters
    ----------
    optimizer, lr, weight_decay, eps
        Adam's arguments.
    decay
        What weight decay is for: ``"all"`` that learns, or ``"matrices"``, which spares biases and factors, whose natural value is not 0.
    parts
        Child of the module -> arguments of Adam that it has for itself. What stands for one gene has gradients far below ``eps``.
    n_epochs_kl_warmup
        The KL weight rises linearly over so many epochs; by default half of those trained (at most 200), so that it does
        reach ``max_kl_weight``. scvi-tools takes 400, so that short trainings never do (``train(plan="scvi-tools")``).
    n_steps_kl_warmup
        The same in minibatches; wins over epochs.
    min_kl_weight, max_kl_weight
        Where the KL weight starts and ends.
    classification_ratio
        What the cross-entropy of known labels counts beside minus the ELBO, in models that learn labels.
    entropy_weight
        What the entropy of a cell's probable types counts beside minus the log likelihood, in models that have it.
    scale_adversarial_loss
        What the adversary counts, in models that have one (:class:`~scelbo.nn.Adversary`); ``"auto"``: 1 less the KL weight, so that it
        forms the latent space early on.
    scale_modality_penalty
        What it counts that the modalities of a cell are apart, in models that have several.
    reduce_lr_on_plateau, lr_factor, lr_patience, lr_threshold, lr_min, lr_scheduler_metric
        Multiply the learning rate by ``lr_factor`` when the metric has not fallen for ``lr_patience`` validations.
    """

    optimizer: Literal["Adam", "AdamW"] = "Adam"
    lr: float = 1e-3
    weight_decay: float = 1e-6
    eps: float = 0.01
    decay: Literal["all", "matrices"] = "all"
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    n_epochs_kl_warmup: int | None = None
    n_steps_kl_warmup: int | None = None
    min_kl_weight: float = 0.0
    max_kl_weight: float = 1.0
    classification_ratio: float = 50.0
    entropy_weight: float = 0.0
    scale_adversarial_loss: float | Literal["auto"] = "auto"
    scale_modality_penalty: float = 1.0
    reduce_lr_on_plateau: bool = False
    lr_factor: float = 0.6
    lr_patience: int = 30
    lr_threshold: float = 0.0
    lr_min: float = 0.0
    lr_scheduler_metric: str = "elbo_validation"

    def with_(self, given: dict[str, Any]) -> Self:
        """These options with some replaced; a typo is an error that names the nearest."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in given:
            if name not in known:
                raise ArgumentError(unknown("plan_kwargs entry", name, known))
        kinds = get_type_hints(type(self))
        for name, value in given.items():
            if name != "parts" and value != getattr(self, name):
                of_kind(name, value, kinds[name])
        new = dataclasses.replace(self, **given)
        if not new.lr > 0:
            raise ArgumentError(f"lr={new.lr!r} is not allowed: it must be above zero.")
        return new

    def optimizer_of(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of what may learn. Groups keep the parameters' order, so that any options can go on from the state of others."""
        learning = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        groups = [{"params": [p for _, p in run], **own} for own, run in groupby(learning, lambda named: self._own(*named))]
        return getattr(torch.optim, self.optimizer)(groups, lr=self.lr, eps=self.eps, fused=True)

    def _own(self, name: str, p: Tensor) -> dict[str, float]:
        """What this parameter has for itself."""
        decays = self.decay == "all" or p.dim() > 1
        return {"weight_decay": self.weight_decay if decays else 0.0, **self.parts.get(name.partition(".")[0], {})}

    def weights(self, kl_weight: float | Tensor) -> dict[str, float | Tensor]:
        """Penalty -> its weight beside a KL of this weight."""
        adversarial = 1 - kl_weight if self.scale_adversarial_loss == "auto" else self.scale_adversarial_loss
        named = {
            "classification_loss": self.classification_ratio,
            "entropy": self.entropy_weight,
            "modalities": self.scale_modality_penalty,
        }
        return {**named, "fooling": adversarial, "adversary": adversarial}

    def kl_weight(self, epoch: int, step: int, max_epochs: int) -> float:
        """The KL weight at an epoch (from 0) and step (from 0) of a training of ``max_epochs``."""
        if self.n_steps_kl_warmup:
            share = step / self.n_steps_kl_warmup
        else:
            share = epoch / (self.n_epochs_kl_warmup or min(200, max(1, max_epochs // 2)))
        return self.min_kl_weight + min(1.0, share) * (self.max_kl_weight - self.min_kl_weight)


@dataclass(frozen=True)
class TrainOptions:
    """The arguments of ``Model.train`` (documented there) and their defaults."""

    max_epochs: int | None = None
    accelerator: str = "auto"
    devices: int | str | list[int] = "auto"
    strategy: Any = "auto"
    num_nodes: int = 1
    train_size: float | None = None
    validation_size: float | None = None
    shuffle_set_split: bool = True
    batch_size: int = 128
    early_stopping: bool = False
    early_stopping_patience: int = 45
    early_stopping_monitor: str = "elbo_validation"
    early_stopping_min_delta: float = 0.0
    check_val_every_n_epoch: int | None = None
    checkpoint: str | Path | None = None
    resume: str | Path | None = None
    trainer_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    progress: bool | None = None

    @property
    def several(self) -> bool:
        """Whether more than one process is asked for."""
        devices = len(self.devices) if isinstance(self.devices, list) else self.devices
        return self.num_nodes > 1 or devices not in ("auto", 1, "1") or self.strategy not in ("auto", "ddp")

    def epochs(self, n_obs: int) -> int:
        """``max_epochs``, else the rule: 400 up to 20,000 cells, then as many passes as keep the steps constant."""
        if self.max_epochs is None:
            return max(1, min(400, round(400 * 20_000 / n_obs)))
        if int(self.max_epochs) != self.max_epochs or self.max_epochs < 1:
            raise ArgumentError(f"max_epochs={self.max_epochs!r} is not allowed: it must be a whole number above zero.")
        return int(self.max_epochs)
