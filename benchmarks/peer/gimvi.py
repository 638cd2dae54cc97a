"""gimVI in scvi-tools and in scelbo: both data sets in one minibatch of ours, one after the other in theirs.

The adversary is compared by what either player minimises, with scvi-tools' classifier. Of its decoder only a linear one is compared, with
and without batches: the hidden layers that it can have are of one data set, or see batches, as ours do, but share their running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import scvi
import torch
from anndata import AnnData
from scvi.external.gimvi._task import GIMVITrainingPlan
from torch import Tensor, nn
from torch.distributions import Normal

import scelbo
from peer import twins
from peer.twins import Case, Noise, Numbers
from scelbo.data.simulate import counts
from scelbo.models.gimvi import GIMVIModule
from scelbo.nn import Adversary
from scelbo.scvi_tools import blocks
from scelbo.scvi_tools.blocks import Pair

KAPPA = 5.0
BATCH = {"batch_key": "batch"}
CASES: list[Case] = [
    ({}, {}),
    (BATCH, {}),
    (BATCH, {"dispersion": "gene"}),
    (BATCH, {"n_latent": 4, "generative_distributions": ["nb", "poisson"]}),
    (BATCH, {"generative_distributions": ["zinb", "zinb"], "model_library_size": [True, True]}),
    (BATCH, {"generative_distributions": ["poisson", "nb"], "model_library_size": [False, False]}),
    ({**BATCH, "layer": "capped"}, {}),
]
RICHEST: Case = (BATCH, {"generative_distributions": ["zinb", "zinb"], "model_library_size": [True, True]})


def two(adata: AnnData) -> list[AnnData]:
    """The first cells with all genes, the others with some."""
    return [adata[:70].copy(), adata[70:, 1:60:2].copy()]


def cells() -> AnnData:
    """Simulated cells of two batches in either data set."""
    adata = counts(120, 80, stored=0.4)
    adata.layers["capped"] = adata.X.minimum(3)
    return adata


class Module(GIMVIModule):
    """With scvi-tools' adversary."""

    def __init__(self, model: Any, setup: Any):
        super().__init__(model, setup)
        self.adversary = Adversary(model.n_latent, 2, 32, 3, batch_norm=True, activation="relu", dropout=0.1)


class Paired(scelbo.GIMVI):
    """With that adversary."""

    def build(self, setup: Any) -> Module:
        return Module(self, setup)


class Ours:
    """A model of the two parts of one AnnData."""

    setup_anndata = Paired.setup_anndata

    def __new__(cls, adata: AnnData, **hyper: Any) -> Any:
        return Paired(*two(adata), **hyper)


class Theirs:
    """The same; the module holds the training plan's classifier."""

    keys: ClassVar[dict[str, Any]] = {}

    @classmethod
    def setup_anndata(cls, adata: AnnData, **keys: Any) -> None:
        cls.keys = keys

    def __new__(cls, adata: AnnData, **hyper: Any) -> Any:
        halves = two(adata)
        for half in halves:
            scvi.external.GIMVI.setup_anndata(half, **cls.keys)
        model = scvi.external.GIMVI(*halves, **hyper)
        plan = GIMVITrainingPlan(model.module, adversarial_classifier=True, scale_adversarial_loss=KAPPA)
        model.module.adversary = plan.adversarial_classifier
        model.module.accuse = plan.loss_adversarial_classifier
        return model


def tensors(theirs: Any, adata: AnnData | None, n: int) -> list[dict[str, Tensor]]:
    """All cells of either data set."""
    loaders = theirs._make_scvi_dls(adata, batch_size=n)
    return [{k: v.double() if v.is_floating_point() else v for k, v in next(iter(loader)).items()} for loader in loaders]


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Every learnt number of a GIMVI module; our rows of running statistics are all its one."""
    for d, (head, mirror) in enumerate(zip(ours.encoder.heads, theirs.z_encoder.encoders, strict=True)):
        yield from blocks.mlp(f"head {d}", head, mirror)
    yield from blocks.mlp("shared layers", ours.encoder.body, theirs.z_encoder.encoder_shared)
    yield from blocks.same("z mean", ours.encoder.mean, theirs.z_encoder.mean_encoder)
    yield from blocks.same("z var", ours.encoder.var, theirs.z_encoder.var_encoder)
    for d, encoder in ours.l.items():
        yield from blocks.encoder(f"l {d}", encoder, theirs.l_encoders[int(d)])
        own = ours.origin == int(d)
        first, last = int(own.nonzero()[0]), int(own.nonzero()[-1]) + 1
        prior = torch.cat([getattr(theirs, f"library_log_{what}_{d}") for what in ("means", "vars")]).T
        yield Pair(f"l prior {d}", ours.l_prior.table[first:last], prior[first:last])
    yield from blocks.same("rho", ours.rho, theirs.decoder.px_scale_decoder[0])
    if ours.pi is not None:
        yield from blocks.same("pi", ours.pi, theirs.decoder.px_dropout_decoder)
    if isinstance(ours.log_theta, nn.ParameterDict):
        yield Pair("log_theta", ours.log_theta["all"], theirs.px_r)
    else:
        yield from blocks.table("log_theta", ours.log_theta, theirs, "px_r", transposed=True)
    *hidden, last = theirs.adversary.classifier
    yield from blocks.mlp("adversary", ours.adversary.body, hidden[0])
    yield from blocks.same("adversary.logits", ours.adversary.logits, last)


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss = module.loss(cells, q, z, p)
    kl = sum(loss.kl.values()) + sum(loss.kl_fixed.values())
    return {
        "z mean": q.z.mean,
        "z variance": q.z.variance,
        "l mean": q.log_l.mean,
        "rho": p.x.scale,
        "mean": p.x.mean,
        "reconstruction": loss.nll["x"],
        "KL": kl,
        "fooling": loss.penalty["fooling"],
        "adversary": loss.penalty["adversary"],
        "loss": (loss.nll["x"] + kl_weight * kl).mean() + KAPPA * (loss.penalty["fooling"] + loss.penalty["adversary"]),
    }


def theirs_says(module: Any, tensors: list[dict[str, Tensor]], noise: Noise, kl_weight: float) -> Numbers:
    inferred = [module.inference(**module._get_inference_input(t), mode=d) for d, t in enumerate(tensors)]
    sizes = [len(t["X"]) for t in tensors]
    both = lambda part: Normal(*(torch.cat([getattr(i["qz"], p) for i in inferred]) for p in part))  # noqa: E731
    qz = both(("loc", "scale"))
    z = noise.draw("z", qz)
    known = [i["ql"] or Normal(i["library"], torch.full_like(i["library"], 1e-8)) for i in inferred]
    log_l = noise.draw("log_l", Normal(torch.cat([q.loc for q in known]), torch.cat([q.scale for q in known])))
    losses, generated = [], []
    for d, (i, t, own, size) in enumerate(zip(inferred, tensors, z.split(sizes), log_l.split(sizes), strict=True)):
        i["z"], i["library"] = own, i["library"] if i["ql"] is None else size
        generated.append(module.generative(**module._get_generative_input(t, i), mode=d))
        losses.append(module.loss(t, i, generated[-1], mode=d, kl_weight=kl_weight))
    origin = torch.repeat_interleave(torch.tensor(sizes))[:, None]
    module.adversary.requires_grad_(False)
    fooling = module.accuse(z, origin, False)
    module.adversary.requires_grad_(True)
    adversary = module.accuse(z.detach(), origin, True)
    together = lambda values: torch.cat(list(values))  # noqa: E731
    return {
        "z mean": qz.loc,
        "z variance": qz.scale**2,
        "l mean": together(q.loc for q in known),
        "rho": together(g["px_scale"] for g in generated),
        "mean": together(g["px_rate"] for g in generated),
        "reconstruction": together(x.reconstruction_loss["reconstruction_loss"] for x in losses),
        "KL": together(x.kl_local["kl_local"] for x in losses),
        "fooling": fooling,
        "adversary": adversary,
        "loss": sum(x.loss for x in losses) / sum(sizes) + KAPPA * (fooling + adversary),
    }


def questions(pair: twins.Both) -> dict[str, tuple[Any, Any]]:
    asked = {"get_latent_representation": {}, "get_imputed_values": {}, "get_imputed_values(normalized=False)": {"normalized": False}}
    asked["get_imputed_values(decode_mode=0)"] = {"decode_mode": 0}
    return {
        name: tuple(np.concatenate(getattr(model, name.split("(")[0])(**how)) for model in (pair.ours, pair.theirs))
        for name, how in asked.items()
    }


def start(theirs: Any, adata: AnnData) -> None:
    """Libraries of a sensible size and spread, as after training."""
    twins.start(theirs, adata)
    for encoder in theirs.module.l_encoders:
        if encoder is not None:
            encoder.mean_encoder.bias.fill_(4)
            encoder.mean_encoder.weight.mul_(0.2)
            encoder.var_encoder.bias.fill_(-2)


TWINS = twins.Twins(
    name="gimVI",
    ours=Ours,
    theirs=Theirs,
    pairs=pairs,
    ours_says=ours_says,
    theirs_says=theirs_says,
    tensors=tensors,
    cases=CASES,
    richest=RICHEST,
    start=start,
    cells=cells,
    from_data=("l prior 0", "l prior 1"),
    only_ours={"batch_factors": False, "panel_view": False, "encoder_reads": "counts"},
    questions=questions,
)
