"""Latent Dirichlet allocation in scvi-tools and in scelbo.

scvi-tools' model is a pair of Pyro programs, of which the traces are read at given draws. While it trains, its guide takes the encoder's
variance for a standard deviation, and its answers take yet another: "loss" has the standard deviation that the encoder means in both, and
"loss of scvi-tools" is theirs to the letter (KL divergences estimated at the draw, the KL weight on cells and topics alike), which ours
gives when told the same. Proportions and topics as users ask for them are averages over draws there, so their parameters are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
import scvi
from anndata import AnnData
from pyro import poutine
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from peer import twins
from peer.twins import Case, Noise, Numbers
from scelbo import AmortizedLDA
from scelbo.scvi_tools import blocks
from scelbo.scvi_tools.blocks import Pair

CASES: list[Case] = [
    ({}, {}),
    ({"layer": "capped"}, {"n_topics": 5}),
    ({}, {"n_topics": 10, "n_hidden": 32}),
    ({}, {"n_topics": 2, "cell_topic_prior": 0.3, "topic_feature_prior": 2.0}),
    ({}, {"n_topics": 3, "cell_topic_prior": [0.1, 0.5, 2.0], "topic_feature_prior": [0.1 + 0.02 * g for g in range(80)]}),
]


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Every learnt number of the module."""
    guide = theirs.guide
    yield from blocks.encoder("z", ours.z, guide.encoder)
    yield Pair("topic_mean", ours.topic_mean, guide.topic_feature_posterior_mu)
    yield Pair("topic_sd", ours.topic_sd, guide.unconstrained_topic_feature_posterior_sigma)


def start(theirs: Any, adata: AnnData) -> None:
    """Standard deviations of topics that differ."""
    twins.start(theirs, adata)
    theirs.module.guide.unconstrained_topic_feature_posterior_sigma.normal_()


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss = module.loss(cells, q, z, p)
    as_theirs = q._replace(z=Normal(q.z.loc, q.z.variance))
    drawn = noise.latents(as_theirs)
    prior = module.prior(q, cells)
    ratio = sum((d.log_prob(v) - p.log_prob(v)).sum() for d, v, p in zip(as_theirs, drawn, prior, strict=True))
    return {
        "sd of proportions a priori": module.cell_topic_prior[1],
        "sd of topics a priori": module.topic_feature_prior[1],
        "z mean": q.z.mean,
        "z variance": q.z.variance,
        "topics mean": q.phi.mean,
        "topics variance": q.phi.variance,
        "p(x)": p.x.scale,
        "reconstruction": loss.nll["x"],
        "KL z": loss.kl["z"],
        "KL topics": loss.kl_global["phi"],
        "loss": loss.total(kl_weight, len(cells)),
        "loss of scvi-tools": kl_weight * ratio - module.generative(drawn, cells).x.log_prob(cells.x).sum(),
    }


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    pyro.clear_param_store()  # it keeps parameters by name: those of the model before this one
    x, library = module._get_fn_args_from_batch(tensors)[0]
    told: dict[str, Any] = {"n_obs": len(x), "kl_weight": kl_weight}
    sites = poutine.trace(module.guide).get_trace(x, library, **told).nodes
    q_z, _ = module.guide.encoder(x)
    q_phi = sites["log_topic_feature_dist"]["fn"].base_dist
    trace = traced(module.model, (x, library), told, noise, q_z, q_phi)
    trace.compute_log_prob()
    prior_z, prior_phi = (trace.nodes[name]["fn"].base_dist for name in ("log_cell_topic_dist", "log_topic_feature_dist"))
    reconstruction = -trace.nodes["feature_counts"]["log_prob"]
    theta, phi = (trace.nodes[name]["value"].softmax(-1) for name in ("log_cell_topic_dist", "log_topic_feature_dist"))
    kl_z, kl_phi = (kl_divergence(Normal(q.loc, q.scale), Normal(p.loc, p.scale)) for q, p in ((q_z, prior_z), (q_phi, prior_phi)))
    guided = sites["log_cell_topic_dist"]["fn"].base_dist
    guide, model = (traced(f, (x, library), told, noise, guided, q_phi) for f in (module.guide, module.model))
    return {
        "sd of proportions a priori": prior_z.scale[0],
        "sd of topics a priori": prior_phi.scale[0],
        "z mean": q_z.loc,
        "z variance": q_z.scale**2,
        "topics mean": q_phi.loc,
        "topics variance": q_phi.scale**2,
        "p(x)": theta @ phi,
        "reconstruction": reconstruction,
        "KL z": kl_z.sum(-1),
        "KL topics": kl_phi.sum(),
        "loss": reconstruction.mean() + kl_weight * kl_z.sum(-1).mean() + kl_phi.sum() / len(x),
        "loss of scvi-tools": guide.log_prob_sum() - model.log_prob_sum(),
    }


def traced(program: Any, arguments: tuple[Tensor, ...], told: dict[str, Any], noise: Noise, q_z: Any, q_phi: Any) -> Any:
    """What a program says of these draws."""
    draw = lambda name, q: noise.draw(name, Normal(q.loc, q.scale))  # noqa: E731
    given = {"log_cell_topic_dist": draw("z", q_z), "log_topic_feature_dist": draw("phi", q_phi)}
    return poutine.trace(poutine.condition(program, data=given)).get_trace(*arguments, **told)


TWINS = twins.Twins(
    name="AmortizedLDA",
    ours=AmortizedLDA,
    theirs=scvi.model.AmortizedLDA,
    pairs=pairs,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=CASES,
    richest=({}, {"n_topics": 5}),
    start=start,
    only_ours={"encoder_reads": "counts", "n_layers": 1, "dropout_rate": 0.1},
)
