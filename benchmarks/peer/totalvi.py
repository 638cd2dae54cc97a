"""totalVI in scvi-tools and in scelbo.

scvi-tools 1.4.2 has two terms beside the published ELBO: log-normal priors of its efficiencies, counted with every cell, and a
thousandth of minus the log probability of background, which is a penalty here. The published terms are compared, with the gradients of
their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import scvi
import torch
from anndata import AnnData
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from peer import twins
from peer.twins import Case, Noise, Numbers
from scelbo import TOTALVI
from scelbo.scvi_tools import maps

PROTEIN = {"protein_expression_obsm_key": "protein"}
BATCH = {**PROTEIN, "batch_key": "batch"}
MORE = {**BATCH, "categorical_covariate_keys": ["donor", "site"], "continuous_covariate_keys": ["percent_mito", "score"]}
OTHERS: list[Case] = [
    (PROTEIN, {}),
    ({**BATCH, "size_factor_key": "size_factor"}, {}),
    ({**BATCH, "panel_key": "site"}, {}),
    (BATCH, {"n_layers_encoder": 1, "n_layers_decoder": 2, "n_hidden": 16, "n_latent": 4}),
    (BATCH, {"override_missing_proteins": True}),
    (BATCH, {"log_variational": False}),
    (MORE, {"encode_covariates": False}),
    *((BATCH, {"use_batch_norm": b, "use_layer_norm": n}) for b, n in product(("encoder", "decoder", "none", "both"), ("none", "both"))),
]


def cases() -> Iterator[Case]:
    """Likelihoods x dispersions x latent library sizes x covariates, and what is varied alone."""
    for likelihood, genes, proteins, (keys, hyper) in product(
        ("nb", "zinb"),
        ("gene", "gene-batch"),
        ("protein", "protein-batch"),
        ((BATCH, {}), (MORE, {}), (BATCH, {"use_observed_lib_size": False})),
    ):
        yield keys, {**hyper, "gene_likelihood": likelihood, "gene_dispersion": genes, "protein_dispersion": proteins}
    for keys in (BATCH, MORE):
        yield keys, {"latent_distribution": "ln"}
    yield from OTHERS


def cells() -> AnnData:
    """Cells with twelve proteins, two of which one batch lacks."""
    adata, rng = twins.cells(), np.random.default_rng(1)
    y = rng.poisson(rng.gamma(1, 20, (adata.n_obs, 12))).astype(np.float32)
    y[(adata.obs["batch"] == "batch1").to_numpy(), :2] = 0
    adata.obsm["protein"] = pd.DataFrame(y, adata.obs_names, [f"protein{p}" for p in range(12)])
    return adata


def start(theirs: Any, adata: AnnData) -> None:
    """Libraries of a sensible size, and a background's prior that differs by protein."""
    twins.start(theirs, adata)
    module = theirs.module
    for part in (module.background_pro_alpha, module.background_pro_log_beta):
        part.add_(torch.randn_like(part) * 0.3)
    if not module.use_observed_lib_size:
        module.encoder.l_gene_mean_encoder.bias.fill_(np.log(adata.X.sum(1).mean()))
        module.encoder.l_gene_mean_encoder.weight.mul_(0.2)
        module.encoder.l_gene_var_encoder.bias.fill_(-2)


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss, y = module.loss(cells, q, z, p), p.protein
    out = {
        "z mean": q.z.mean,
        "z variance": q.z.variance,
        "rho": p.x.scale,
        "mean": p.x.mean,
        "theta": p.x.log_theta.exp().expand_as(p.x.mean),
    }
    if isinstance(q.log_l, Normal):
        out |= {"l mean": q.log_l.mean, "l variance": q.log_l.variance, "KL l": loss.kl_fixed["log_l"]}
    if hasattr(p.x, "zi_logits"):
        out["dropout logits"] = p.x.zi_logits
    return out | {
        "background": y.background, "foreground": y.foreground, "mixing": y.mixing, "phi": y.log_phi.exp().expand_as(y.mixing),
        "reconstruction": loss.nll["x"], "reconstruction, proteins": loss.nll["protein"], "KL z": loss.kl["z"],
        "KL background": loss.kl["background"], "loss": loss.per_cell(kl_weight).mean(),
    }  # fmt: skip


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    qz, ql = inferred["qz"], inferred["ql"]
    inferred["z"] = module.encoder.z_transformation(noise.draw("z", qz))
    if ql is not None and not module.use_observed_lib_size:
        inferred["library_gene"] = noise.draw("log_l", ql).exp()
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    px, py = generated["px_"], generated["py_"]
    still = Normal(torch.zeros_like(py["back_alpha"]), torch.ones_like(py["back_alpha"]))
    py["rate_back"] = (py["back_alpha"] + py["back_beta"] * noise.draw("noise", still)).exp()
    py["rate_fore"] = py["rate_back"] * py["fore_scale"]
    back, mask = kl_divergence(Normal(py["back_alpha"], py["back_beta"]), inferred["back_mean_prior"]), None
    if module.protein_batch_mask is not None:  # its own loss makes this mask in float32
        mask = torch.tensor(np.stack([module.protein_batch_mask[str(int(b))] for b in tensors["batch"][:, 0]]))
        back = back * mask
    genes, antibodies = module.get_reconstruction_loss(tensors["X"], tensors["proteins"], px, py, mask, generated["per_batch_efficiency"])
    kl_z, kl_back = kl_divergence(qz, Normal(0, 1)).sum(1), back.sum(1)
    out = {"z mean": qz.loc, "z variance": qz.scale**2, "rho": px["scale"], "mean": px["rate"], "theta": px["r"].expand_as(px["rate"])}
    total = genes + antibodies + kl_weight * (kl_z + kl_back)
    if not module.use_observed_lib_size:
        batch = tensors["batch"][:, 0].long()
        prior = Normal(module.library_log_means[0, batch][:, None], module.library_log_vars[0, batch].sqrt()[:, None])
        kl_l = kl_divergence(ql, prior).sum(1)
        out |= {"l mean": ql.loc, "l variance": ql.scale**2, "KL l": kl_l}
        total = total + kl_l
    if module.gene_likelihood == "zinb":
        out["dropout logits"] = px["dropout"]
    return out | {
        "background": py["rate_back"], "foreground": py["rate_fore"], "mixing": py["mixing"], "phi": py["r"].expand_as(py["mixing"]),
        "reconstruction": genes, "reconstruction, proteins": antibodies, "KL z": kl_z, "KL background": kl_back, "loss": total.mean(),
    }  # fmt: skip


TWINS = twins.Twins(
    name="totalVI",
    ours=TOTALVI,
    theirs=scvi.model.TOTALVI,
    pairs=maps.totalvi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=(MORE, {"gene_likelihood": "zinb", "gene_dispersion": "gene-batch", "protein_dispersion": "protein-batch"}),
    start=start,
    cells=cells,
    only_ours={"empirical_protein_background_prior": False, "adversarial_classifier": False, "n_hidden": 256},
    from_data=("l prior, means", "l prior, vars"),
)
