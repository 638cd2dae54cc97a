"""scVI in scvi-tools and in scelbo."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import scvi
import torch
from anndata import AnnData
from torch import Tensor

from peer import twins
from peer.twins import BATCH, MORE, Case, Noise, Numbers
from scelbo import SCVI
from scelbo.scvi_tools import maps

LIKELIHOODS = ("zinb", "nb", "poisson", "normal")
DISPERSIONS = ("gene", "gene-batch", "gene-label", "gene-cell")
LIBRARIES: dict[str, Case] = {
    "observed": ({}, {}),
    "latent": ({}, {"use_observed_lib_size": False}),
    "size factor": ({"size_factor_key": "size_factor"}, {}),
}
COVARIATES: dict[str, Case] = {
    "batch": (BATCH, {}),
    "batch, encoded, 2 layers": (BATCH, {"encode_covariates": True, "n_layers": 2}),
    "all, encoded, 2 layers": (MORE, {"encode_covariates": True, "n_layers": 2}),
    "all, encoded, first layer only": (MORE, {"encode_covariates": True, "n_layers": 2, "deeply_inject_covariates": False}),
}
OTHERS: list[Case] = [
    ({"labels_key": "cell_type"}, {}),  # one batch only
    ({"labels_key": "cell_type"}, {"dispersion": "gene-batch", "use_observed_lib_size": False}),
    (BATCH, {"latent_distribution": "ln"}),
    (MORE, {"latent_distribution": "ln", "encode_covariates": True, "n_layers": 2, "n_latent": 3}),
    ({**BATCH, "layer": "capped"}, {"log_variational": False}),
    (BATCH, {"n_hidden": 32, "n_latent": 4, "n_layers": 3}),
    (BATCH, {"batch_representation": "embedding"}),
    (MORE, {"batch_representation": "embedding", "encode_covariates": True, "n_layers": 2}),
    (MORE, {"batch_representation": "embedding", "deeply_inject_covariates": False, "n_layers": 2, "dispersion": "gene-batch"}),
    *(
        (MORE, {"use_batch_norm": b, "use_layer_norm": n, "n_layers": 2})
        for b, n in product(("encoder", "decoder", "none", "both"), repeat=2)
    ),
]


def cases() -> Iterator[Case]:
    """Every likelihood x dispersion x library size x covariates, and what is varied alone."""
    for likelihood, dispersion, library, covariates in product(LIKELIHOODS, DISPERSIONS, LIBRARIES, COVARIATES):
        (keys, hyper), (more_keys, more_hyper) = LIBRARIES[library], COVARIATES[covariates]
        yield {**keys, **more_keys}, {**hyper, **more_hyper, "gene_likelihood": likelihood, "dispersion": dispersion}
    yield from OTHERS


def start(theirs: Any, adata: AnnData) -> None:
    """Libraries of a sensible size and spread, as after training: scvi-tools adds 1e-8 to each mean, which the tiniest show."""
    twins.start(theirs, adata)
    if not theirs.module.use_observed_lib_size:
        theirs.module.l_encoder.mean_encoder.bias.fill_(np.log(adata.X.sum(1).mean()))
        theirs.module.l_encoder.mean_encoder.weight.mul_(0.2)
        theirs.module.l_encoder.var_encoder.bias.fill_(-2)


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss = module.loss(cells, q, z, p)
    out = {"z mean": q.z.mean, "z variance": q.z.variance, "rho": p.x.scale, "mean": p.x.mean}
    if isinstance(q.log_l, torch.distributions.Normal):
        out |= {"l mean": q.log_l.mean, "l variance": q.log_l.variance, "KL l": loss.kl_fixed["log_l"]}
    if hasattr(p.x, "log_theta"):
        out["theta"] = p.x.log_theta.exp().expand_as(p.x.mean)
    elif hasattr(p.x, "log_sigma"):
        out["sigma"] = p.x.log_sigma.exp().expand_as(p.x.mean)
    if hasattr(p.x, "zi_logits"):
        out["dropout logits"] = p.x.zi_logits
    return out | {"reconstruction": loss.nll["x"], "KL z": loss.kl["z"], "loss": loss.total(kl_weight)}


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    qz, ql = inferred["qz"], inferred["ql"]
    inferred["z"] = module.z_encoder.z_transformation(noise.draw("z", qz))
    if ql is not None:
        inferred["library"] = noise.draw("log_l", ql)
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    loss = module.loss(tensors, inferred, generated, kl_weight=kl_weight)
    px = generated["px"]
    out = {"z mean": qz.loc, "z variance": qz.scale**2, "rho": px.get_normalized("scale"), "mean": px.mean}
    if ql is not None:
        out |= {"l mean": ql.loc, "l variance": ql.scale**2, "KL l": loss.kl_local["kl_divergence_l"]}
    if isinstance(px, scvi.distributions.Normal):
        out["sigma"] = px.stddev.expand_as(px.mean)
    elif hasattr(px, "theta"):
        out["theta"] = px.theta.expand_as(px.mean)
    if hasattr(px, "zi_logits"):
        out["mean"], out["dropout logits"] = px.mu, px.zi_logits  # scvi-tools' mean counts the structural zeros in
    return out | {
        "reconstruction": loss.reconstruction_loss["reconstruction_loss"],
        "KL z": loss.kl_local["kl_divergence_z"],
        "loss": loss.loss,
    }


TWINS = twins.Twins(
    name="scVI",
    ours=SCVI,
    theirs=scvi.model.SCVI,
    pairs=maps.scvi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=(MORE, {"encode_covariates": True, "n_layers": 2, "use_observed_lib_size": False, "dispersion": "gene-batch"}),
    start=start,
    from_data=("l prior, means", "l prior, vars"),
    queries=(
        {},
        {"encode_covariates": True, "n_layers": 2},
        {"dispersion": "gene-batch", "gene_likelihood": "nb"},
        {"encode_covariates": True, "deeply_inject_covariates": False, "n_layers": 2},
    ),
)
