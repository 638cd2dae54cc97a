"""SOLO: the same classifier on the same inputs in both packages. The losses are one where cells are taken for singlets (rate 0)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import scvi
import torch
from scvi.train import ClassifierTrainingPlan
from torch import Tensor, nn

from peer import blocks
from peer.compare import Topic, difference, worst
from scelbo.data.doublets import Evidence
from scelbo.data.simulate import counts
from scelbo.models.solo import SOLOModule
from scelbo.nn import Classifier

RATIOS = (1, 2, 3)


def pairs(ours: Classifier, theirs: Any) -> Iterator[blocks.Pair]:
    """Hidden layers, and a logit for each class."""
    hidden, logits = theirs.classifier
    yield from blocks.mlp("body", ours.body, hidden)
    yield from blocks.same("logits", ours.logits, logits)


class OnTheirInputs(SOLOModule):
    """Our loss and answers for a classifier of another width, without the encoder that makes the inputs."""

    def __init__(self, n_in: int, ratio: int):
        nn.Module.__init__(self)
        self.classifier, self.vae, self.ratio = Classifier(n_in, 2, 128, 1, dropout=0.1), nn.Identity(), ratio
        self.rate = torch.zeros(1)


def compared(ratio: int) -> dict[str, float]:
    """Quantity -> largest difference."""
    adata = counts(120, 40, n_batches=1)
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_latent=4)
    model.train(1, enable_progress_bar=False)
    theirs = scvi.external.SOLO.from_scvi_model(model, doublet_ratio=ratio)
    batch = next(iter(theirs._make_data_loader(theirs.adata, batch_size=theirs.adata.n_obs)))
    x, labels = batch["X"].double(), batch["labels"]
    module = theirs.module.double().eval()
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.3, 0.8)
    ours = OnTheirInputs(x.shape[1], ratio).double().eval()
    blocks.copy(pairs(ours.classifier, module))
    real = labels[:, 0] == labels[0, 0]  # cells come first
    table = torch.cat([x[real][:, None], x[~real].view(ratio, -1, x.shape[1]).transpose(0, 1)], 1)
    cells = Evidence(index=torch.arange(len(table)), odds=table, batch=torch.zeros(len(table), dtype=torch.int64))
    flat: Tensor = ours.classifier(table)
    mine = torch.cat([flat[:, 0], flat[:, 1:].transpose(0, 1).reshape(-1, 2)])
    module.logits = True
    logits = module(x)
    found = {"logits": difference(mine, logits), "probabilities": difference(mine.softmax(1), logits.softmax(1))}
    plan = ClassifierTrainingPlan(module)
    plan.log = plan.log_dict = lambda *args, **kwargs: None
    loss = plan.training_step({"X": x, "labels": labels}, 0)
    found["loss"] = difference(ours(cells).total(), loss)
    ours(cells).total().backward()
    module.zero_grad()
    loss.backward()
    found["gradients"] = max(
        difference(p.ours.grad, p.view(p.theirs.grad), share=0.1) for p in pairs(ours.classifier, module) if p.ours.grad is not None
    )
    return found


def topic() -> Topic:
    """All numbers of sums a cell."""
    return worst("SOLO: the same classifier on the same inputs, float64", "quantity", ((f"{r} sums a cell", compared(r)) for r in RATIOS))
