"""SOLO: the same scVI and the same classifier in both packages, ours as published (on latents and depth, cells for singlets)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import scvi
import torch
from scvi.train import ClassifierTrainingPlan
from torch import Tensor

from peer import scvi as scvi_twins
from peer import twins
from peer.compare import SINGLE, Topic, as_in_training, difference, worst
from scelbo import SOLO
from scelbo.data.doublets import Evidence
from scelbo.data.simulate import counts
from scelbo.nn import Classifier
from scelbo.scvi_tools import blocks

RATIOS = (1, 2, 3)


def pairs(ours: Classifier, theirs: Any) -> Iterator[blocks.Pair]:
    """Hidden layers, and a logit for each class."""
    hidden, logits = theirs.classifier
    yield from blocks.mlp("body", ours.body, hidden)
    yield from blocks.same("logits", ours.logits, logits)


def compared(ratio: int) -> dict[str, float]:
    """Quantity -> largest difference."""
    pair = twins.both(scvi_twins.TWINS, counts(120, 40, n_batches=1), {}, n_latent=4)
    pair.to(torch.float32)
    ours = SOLO.from_scvi_model(pair.ours, doublet_ratio=ratio, classifier_reads="latent")
    theirs = scvi.external.SOLO.from_scvi_model(pair.theirs, doublet_ratio=ratio)
    batch = next(iter(theirs._make_data_loader(theirs.adata, batch_size=theirs.adata.n_obs)))
    mine: Any = ours.module
    middle = torch.zeros(batch["X"].shape[1]).index_fill(0, torch.tensor([-1]), float(mine.lane_depth))  # ours is about its mean
    found = {"inputs of cells": difference(ours.read()["inputs"][:, 0] + middle, batch["X"][: ours.adata.n_obs], share=SINGLE)}

    x, labels = batch["X"].double(), batch["labels"]
    module = theirs.module.double().eval()
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.3, 0.8)
    copied = blocks.copy(pairs(mine.double().classifier, module))
    norm = next(part for part in mine.classifier.modules() if isinstance(part, torch.nn.BatchNorm1d))
    norm.running_mean -= module.classifier[0].fc_layers[0][0].weight.detach() @ middle.double()
    real = labels[:, 0] == labels[0, 0]  # cells come first
    table = torch.cat([x[real][:, None], x[~real].view(ratio, -1, x.shape[1]).transpose(0, 1)], 1) - middle
    cells = Evidence(index=torch.arange(len(table)), inputs=table, batch=torch.zeros(len(table), dtype=torch.int64))
    flat: Tensor = mine.classifier(table)
    mixed = torch.cat([flat[:, 0], flat[:, 1:].transpose(0, 1).reshape(-1, 2)])
    module.logits = True
    logits = module(x)
    found |= {"logits": difference(mixed, logits), "probabilities": difference(mixed.softmax(1), logits.softmax(1))}
    found["log-odds of a doublet"] = difference(mine.log_odds(cells)[:, 0], (logits[:, 0] - logits[:, 1])[real])
    plan = ClassifierTrainingPlan(module)
    plan.log = plan.log_dict = lambda *args, **kwargs: None
    theirs_says = lambda: plan.training_step({"X": x, "labels": labels}, 0)  # noqa: E731
    found["loss"] = difference(mine(cells).total(), theirs_says())
    module.zero_grad()
    with as_in_training(mine, module):
        mine(cells).total().backward()
        theirs_says().backward()
    slopes = [(p.ours.grad, p.view(p.theirs.grad)) for p in copied if p.ours.grad is not None]
    steepest = max(float(theirs.abs().max()) for _, theirs in slopes)
    found["gradients"] = max(difference(*both, share=0.1, floor=1e-6 * steepest) for both in slopes)

    ours.module.float()
    theirs.module.float()
    ours.is_trained = theirs.is_trained_ = True
    found["predict()"] = difference(ours.predict().to_numpy(), theirs.predict()[["doublet", "singlet"]].to_numpy(), share=SINGLE)
    return found


def topic() -> Topic:
    """All numbers of sums a cell."""
    title = "SOLO as published: the same weights, float64 (inputs and what predict() answers: float32)"
    return worst(title, "quantity", ((f"{r} sums a cell", compared(r)) for r in RATIOS))
