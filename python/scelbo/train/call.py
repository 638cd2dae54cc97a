"""``Model.train``: what it takes, and how that becomes options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scelbo.arguments import named
from scelbo.errors import ArgumentError, one_of

if TYPE_CHECKING:
    from scelbo.model import Model


@named
def train(
    self: Model,
    max_epochs: int | None = None,
    *,
    accelerator: str = "auto",
    devices: int | str | list[int] = "auto",
    strategy: Any = "auto",
    num_nodes: int = 1,
    train_size: float | None = None,
    validation_size: float | None = None,
    shuffle_set_split: bool = True,
    batch_size: int | None = None,
    early_stopping: bool | None = None,
    early_stopping_patience: int | None = None,
    early_stopping_monitor: str | None = None,
    early_stopping_min_delta: float = 0.0,
    check_val_every_n_epoch: int | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    plan: str | None = None,
    plan_kwargs: dict[str, Any] | None = None,
    trainer_kwargs: dict[str, Any] | None = None,
    seed: int | None = None,
    progress: bool | None = None,
) -> None:
    """Fit the model; a second call goes on from where the first stopped, with the optimiser's state.

    Parameters
    ----------
    max_epochs
        Passes over the training cells; by default ``min(400, round(400 * 20000 / cells))``.
    accelerator, devices
        As in Lightning; ``"auto"`` is the first CUDA device, else the CPU. Several devices share each minibatch, a process each.
    strategy, num_nodes
        How they are joined: ``"ddp"``, in workers of Ray Train ``"ray"``, or one of Lightning's strategies; and how many
        machines they stand in (docs/many_machines.md).
    train_size, validation_size
        Shares of the cells (0.9 and the rest); what neither claims is held out.
    shuffle_set_split
        Whether the split is random.
    batch_size
        Cells in a minibatch (128), by all processes together; of each of a model's :meth:`streams`.
    early_stopping, early_stopping_patience, early_stopping_monitor, early_stopping_min_delta
        Stop when ``early_stopping_monitor`` (``"elbo_validation"``) has not fallen by ``min_delta`` for ``patience``
        validations (45), and go back to the best state.
    check_val_every_n_epoch
        How often the validation cells are looked at (each epoch with early stopping, else some 20 times).
    checkpoint
        A folder where the model is saved whenever the monitored value is the best so far. Like ``resume`` it is tried before training
        begins; where it cannot be written later (a full disk), the model keeps the epochs trained so far, and the error says so.
    resume
        A file where it is noted how far the training is, after each look at the validation cells. If it was cut short, the same call
        goes on from there, to the very weights that it would have reached; if it ended, it is not done again.
    plan
        Instead of the model's own optimiser and KL schedule one of its ``plans``: ``"scvi-tools"`` trains as scvi-tools does.
    plan_kwargs
        Fields of :class:`~scelbo.train.options.PlanOptions`, which win over either: ``lr, weight_decay, n_epochs_kl_warmup, ...``.
        (A query's model has no weight decay unless it is given.)
    trainer_kwargs
        Further arguments of ``lightning.Trainer``. With any but callbacks of epochs each minibatch goes through Lightning's loop: up to a
        tenth slower.
    seed
        Of the split, the shuffling and the draws; the caller's random state is untouched.
    progress
        Whether to show a bar.
    """
    given = {k: v for k, v in locals().items() if k not in ("self", "plan", "plan_kwargs") and v is not None}
    if plan is not None:
        one_of("plan", plan, self.plans)
    if plan_kwargs is not None and not isinstance(plan_kwargs, dict):
        raise ArgumentError(f"plan_kwargs={plan_kwargs!r} is not allowed: it must be a dict.", "Such as plan_kwargs={'lr': 5e-4}.")
    options = self.plans[plan] if plan else self.plan
    if self.freeze is not None:
        options = dataclasses.replace(options, weight_decay=0.0)  # a query's few new weights start from the reference's, not from 0
    if train_size == 1:
        given.setdefault("early_stopping", False)  # a model's defaults give way where no cells are left to look at
        options = dataclasses.replace(options, reduce_lr_on_plateau=False)
    from scelbo.train.fit import fit  # Lightning takes seconds to import, so only training does

    fit(self, dataclasses.replace(self.training, **given), options.with_(plan_kwargs or {}))
