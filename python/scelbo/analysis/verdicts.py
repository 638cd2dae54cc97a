"""What the numbers of a report mean, whether they are as they should be, and what to do where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from scelbo.analysis.predictive_check import PredictiveCheck

if TYPE_CHECKING:
    from scelbo.model import Model

COLLAPSED = 0.01
"""Nats: a dimension with less KL than this says nothing about cells."""
OVERFIT, ROSE = 0.05, 0.01
"""Shares of the ELBO: between training and held-out cells, and since the best epoch."""
NARROW, WIDE = 0.03, 0.05
"""How far 90 % intervals may be off; draws are a little wide even of a right model, as z has seen the counts."""


class Verdict(NamedTuple):
    """A number: whether it is as it should be, what it means, and what to do where it is not."""

    name: str
    value: float
    shown: str
    good: bool
    means: str
    advice: str


def verdicts_of(model: Model, fit: pd.DataFrame, kl: np.ndarray, predictive: PredictiveCheck) -> list[Verdict]:
    """Every number of a report, in the order in which one asks."""
    return [*_training(model), *_held_out(fit), *_latent(kl), *_predictive(predictive)]


def _training(model: Model) -> Iterator[Verdict]:
    reason, kept = model.outcome.get("reason", "done"), model.outcome.get("kept_epoch")
    back = "" if kept is None else f", back at epoch {kept + 1}"
    yield Verdict(
        "Epochs", model.trained_epochs, f"{model.trained_epochs} ({reason}{back})", reason != "interrupted",
        "Passes over the training cells, and how training ended.", "If it was interrupted, train() goes on from there.",
    )  # fmt: skip
    weights = model.history.get("kl_weight", pd.DataFrame())
    if len(weights):
        weight = float(weights["kl_weight"].get(kept, weights["kl_weight"].iloc[-1]))
        yield Verdict(
            "KL weight", weight, f"{weight:.3g}", weight > 0.999 * model.plan.max_kl_weight,
            "At 1 what was minimised is minus the ELBO; below 1 the latent space is less regular, and its uncertainty too small.",
            "Train for more epochs, or let the weight rise faster: plan_kwargs={'n_epochs_kl_warmup': ...}.",
        )  # fmt: skip
    curve = model.history.get("elbo_validation", pd.DataFrame())
    if len(curve) > 1:
        values = curve["elbo_validation"]
        rose = float((values.iloc[-1] - values.min()) / abs(values.min()))
        yield Verdict(
            "Validation curve", rose, f"{rose:.1%} above its lowest, of epoch {values.idxmin() + 1}", rose <= ROSE or kept is not None,
            "A curve of the validation cells that rises again shows over-fitting, unless the best epoch was gone back to.",
            "Stop there: train(early_stopping=True).",
        )  # fmt: skip


def _held_out(fit: pd.DataFrame) -> Iterator[Verdict]:
    if len(fit) < 2:
        return
    training, other = fit.iloc[0], fit.iloc[1]
    gap, noise = training["elbo"] - other["elbo"], float(np.hypot(training["elbo_se"], other["elbo_se"]))
    share = float(gap / abs(training["elbo"]))
    good = share <= OVERFIT or gap < 2 * noise
    shown = f"{gap:.1f} nats a cell ({share:.1%}, standard error {noise:.1f}) worse than on training cells"
    yield Verdict(
        "Held-out ELBO", share, f"{'no over-fitting seen' if good else 'over-fitting'}: {shown}", good,
        "How much worse the model explains cells that it has not seen; what it learnt beyond that is noise of its training cells.",
        "train(early_stopping=True), fewer n_hidden or n_latent, a higher dropout_rate, or more cells.",
    )  # fmt: skip


def _latent(kl: np.ndarray) -> Iterator[Verdict]:
    gone = np.flatnonzero(kl < COLLAPSED)
    listed = f": {', '.join(map(str, gone))}" if len(gone) else ""
    few = "Nothing is left to see in the latent space: train longer, or lower the KL weight (plan_kwargs={'max_kl_weight': ...})."
    yield Verdict(
        "Collapsed latent dimensions", len(gone), f"{len(gone)} of {len(kl)}{listed}", len(gone) == 0,
        f"Dimensions (from 0) with a KL below {COLLAPSED} nats hold nothing about a cell: the model found no use for them.",
        few if len(gone) == len(kl) else f"It does no harm; n_latent={len(kl) - len(gone)} would say as much.",
    )  # fmt: skip


MEANS = {
    "mean": "The mean of a gene, drawn and counted.",
    "variance": "The variance of a gene over cells: a model without over-dispersion draws too little.",
    "zeros": "The share of cells without a count of a gene: zero inflation that is missing, or too much of it, shows here.",
    "cv": "Standard deviation / mean of a gene.",
}


def _predictive(check: PredictiveCheck) -> Iterator[Verdict]:
    cover = float(check.coverage[0.9])
    narrow = "The data vary more than the model: gene_likelihood='nb' or 'zinb', dispersion='gene-batch', or more training."
    yield Verdict(
        "Coverage of 90 % intervals", cover, f"{cover:.1%}", -NARROW <= cover - 0.9 <= WIDE,
        "Share of values inside the central 90 % of their draws; a right model has 90 %, and a little more as z has seen the counts.",
        narrow if cover < 0.9 else "The model draws more noise than there is: train longer, with more cells, or without zero inflation.",
    )  # fmt: skip
    yield Verdict(
        "Miscalibration", check.miscalibration, f"{check.miscalibration:.1%}", check.miscalibration <= 2 * WIDE,
        "The largest difference between an interval's level (50, 80, 90, 95 %) and its coverage.",
        "Look at the ranks: heaped at the ends, the model is too sure; in the middle, too unsure; at one side, it is biased.",
    )  # fmt: skip
    for name, share in check.outside.items():
        yield Verdict(
            f"Genes off in {name}", share, f"{share:.1%} (expected {check.expected_outside:.1%})", share <= 4 * check.expected_outside,
            f"{MEANS[name]} Off are genes whose observed value lies beyond all draws.",
            f"See which: .predictive.genes.query('{name}_outside'). Another gene_likelihood or dispersion may fit them.",
        )  # fmt: skip
