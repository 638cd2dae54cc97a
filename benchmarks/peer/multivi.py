"""MultiVI in scvi-tools and in scelbo.

scvi-tools 1.4.2 mixes variances with the square roots of weights, compares modalities by the fourth roots of their variances, and reads
the RNA's library size with a network: ``mixing="scvi-tools"``, ``use_observed_lib_size=False``. Its MMD counts the sum over the minibatch
with every cell, where ours counts a cell's own distance: the sums are compared. Its loss has no term for the background of proteins: ours
is compared without. Its dispersions by batch and by cell fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import mudata
import numpy as np
import scvi
import torch
from anndata import AnnData
from mudata import MuData
from scipy import sparse
from torch import Tensor, nn

from peer import twins
from peer.twins import Both, Case, Noise, Numbers
from scelbo import MULTIVI
from scelbo.data.simulate import multiome
from scelbo.scvi_tools import maps

GENES, REGIONS = 40, 60
BATCH = {"batch_key": "batch"}
MORE = {**BATCH, "categorical_covariate_keys": ["donor", "site"], "continuous_covariate_keys": ["percent_mito", "score"]}
ALL_ENCODED = {"encode_covariates": True, "deeply_inject_covariates": True}
SMALL = {"n_hidden": 8}
PROTEIN = {"protein_expression_obsm_key": "protein_expression"}
OTHERS: list[Case] = [
    ({}, {}),
    ({**BATCH, **PROTEIN}, {}),
    ({**BATCH, **PROTEIN}, {"protein_dispersion": "protein-batch", "modality_weights": "universal"}),
    ({**MORE, **PROTEIN}, {"modality_penalty": "MMD", "gene_likelihood": "nb"}),
    (BATCH, {"modality_penalty": "MMD"}),
    (BATCH, {"gene_likelihood": "nb"}),
    (BATCH, {"gene_likelihood": "poisson"}),
    (BATCH, {"region_factors": False}),
    (BATCH, {"n_hidden": 12, "n_latent": 4, "n_layers_encoder": 3, "n_layers_decoder": 1}),
    (BATCH, {"latent_distribution": "ln"}),
    *((MORE, {"use_batch_norm": b, "use_layer_norm": n}) for b, n in product(("encoder", "decoder", "none", "both"), ("none", "both"))),
]
NAMES = {"x": "expression", "atac": "accessibility", "protein": "protein"}
SHORT = {"x": "expr", "atac": "acc", "protein": "pro"}
"""What scvi-tools calls a modality."""


class AsMuData:
    """scvi-tools' MULTIVI on our cells: genes and regions apart."""

    keys: dict[str, Any]

    @classmethod
    def setup_anndata(cls, adata: AnnData, **keys: Any) -> None:
        cls.keys = keys

    def __new__(cls, adata: AnnData, **hyper: Any) -> Any:  # type: ignore[misc]
        return scvi.model.MULTIVI(several(adata, cls.keys), **hyper)


def several(adata: AnnData, keys: dict[str, Any]) -> MuData:
    """The cells in scvi-tools' form, set up."""
    of_genes = (adata.var["feature_types"] == "Gene Expression").to_numpy()
    parts = {"rna": adata[:, of_genes].copy(), "atac": adata[:, ~of_genes].copy()}
    layers = {"rna_layer": "rna", "atac_layer": "atac"}
    keys, matrix = dict(keys), keys.get("protein_expression_obsm_key")
    if keys.pop("protein_expression_obsm_key", None):
        proteins = adata.obsm[matrix]
        parts["protein"], layers["protein_layer"] = AnnData(sparse.csr_matrix(proteins.to_numpy()), obs=adata.obs[[]]), "protein"
        parts["protein"].var_names = proteins.columns
    with mudata.set_options(pull_on_update=False):
        mdata = MuData(parts)
    scvi.model.MULTIVI.setup_mudata(mdata, modalities=layers | dict.fromkeys(keys, "rna"), **keys)
    return mdata


def cases() -> Iterator[Case]:
    """Weights x penalties x covariates, and what is varied alone."""
    covariates: list[Case] = [(BATCH, {}), (MORE, {}), (MORE, {"deeply_inject_covariates": True}), (MORE, ALL_ENCODED)]
    for weights, penalty, (keys, hyper) in product(("equal", "universal"), ("Jeffreys", "None"), covariates):
        yield keys, {**SMALL, **hyper, "modality_weights": weights, "modality_penalty": penalty}
    yield from ((keys, {**SMALL, **hyper}) for keys, hyper in OTHERS)


def cells() -> AnnData:
    """Cells of which a fifth have no RNA, a fifth no open chromatin, and a quarter no proteins."""
    adata, rng = multiome(120, GENES, REGIONS, 5, n_batches=3, stored=0.3, lacking=0.2), np.random.default_rng(0)
    adata.obsm["protein_expression"].iloc[::4] = 0
    adata.obs["site"] = rng.choice(["north", "south"], adata.n_obs)
    adata.obs["score"] = rng.normal(size=adata.n_obs)
    adata.obs["size_factor"] = rng.uniform(0.5, 2, adata.n_obs)
    return adata


def start(theirs: Any, adata: AnnData) -> None:
    """Region factors and weights that differ, libraries of a sensible size."""
    twins.start(theirs, adata)
    if theirs.module.region_factors is not None:
        theirs.module.region_factors.normal_()
    if isinstance(theirs.module.mod_weights, nn.Parameter):
        theirs.module.mod_weights.copy_(torch.tensor([1.3, 0.6, 1.0]))
    theirs.module.l_encoder_expression.output[0].bias.fill_(3.0)
    theirs.module.z_decoder_pro.py_back_mean_log_beta.fc_layers[0][0].bias.fill_(-1.0)  # exp of it is a background's standard deviation


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss, has = module.loss(cells, q, z, p), module.measured(cells)
    apart = module.joint.apart(q.own, has) if module.joint.penalty != "None" else torch.zeros_like(loss.kl["z"])
    if module.joint.penalty == "MMD":
        apart = apart.sum().expand(len(apart))
    out = {"z mean": q.z.mean, "z variance": q.z.variance, "rho": p.x.scale, "y": p.atac.scale}
    for i, field in enumerate(module.fields):
        name = NAMES[field]
        out |= {f"{name} mean": q.own.mean[has[:, i], i], f"{name} variance": q.own.variance[has[:, i], i]}
        out[f"reconstruction, {name}"] = loss.nll[field]
    if p.protein is not None:
        y = p.protein
        out |= {"background": y.background, "foreground": y.foreground, "mixing": y.mixing, "phi": y.log_phi.exp().expand_as(y.mixing)}
    return out | {
        "mean": p.x.mean[has[:, 0]], "y l r": p.atac.mean[has[:, 1]], "KL z": loss.kl["z"], "penalty": apart,
        "loss": (sum(loss.nll.values()) + kl_weight * loss.kl["z"] + apart).mean(),
    }  # fmt: skip


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    torch.set_default_dtype(torch.float64)  # it makes zeros where there are no proteins
    try:
        return _theirs_says(module, tensors, noise, kl_weight)
    finally:
        torch.set_default_dtype(torch.float32)


def _theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    q = torch.distributions.Normal(inferred["qz_m"], inferred["qz_v"].sqrt())
    z = noise.draw("z", q)
    inferred["z"] = z.softmax(-1) if module.latent_distribution == "ln" else z
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    py = generated["py_"]
    fields = list(NAMES) if "proteins" in tensors else list(NAMES)[:2]
    if "proteins" in tensors:
        still = torch.distributions.Normal(torch.zeros_like(py["back_alpha"]), torch.ones_like(py["back_alpha"]))
        py["rate_back"] = (py["back_alpha"] + py["back_beta"] * noise.draw("noise", still)).exp()
        py["rate_fore"] = py["rate_back"] * py["fore_scale"]
    loss = module.loss(tensors, inferred, generated, kl_weight=kl_weight)
    rna, atac = (tensors[name].sum(1) > 0 for name in ("X", "atac"))
    seen = generated["p"] * inferred["libsize_acc"]
    if module.region_factors is not None:
        seen = seen * module.region_factors.sigmoid()
    out = {"z mean": q.loc, "z variance": q.variance, "rho": generated["px_scale"], "y": generated["p"]}
    for field in fields:
        key, name, short = {"x": "X", "atac": "atac", "protein": "proteins"}[field], NAMES[field], SHORT[field]
        has = tensors[key].sum(1) > 0
        out |= {f"{name} mean": inferred[f"qzm_{short}"][has], f"{name} variance": inferred[f"qzv_{short}"][has]}
        out[f"reconstruction, {name}"] = loss.reconstruction_loss[f"reconstruction_loss_{name}"]
    if "proteins" in tensors:
        out |= {
            "background": py["rate_back"],
            "foreground": py["rate_fore"],
            "mixing": py["mixing"],
            "phi": py["r"].expand_as(py["mixing"]),
        }
    kl = loss.kl_local
    return out | {
        "mean": generated["px_rate"][rna], "y l r": seen[atac], "KL z": kl["kl_divergence_z"],
        "penalty": kl["kl_divergence_paired"] + 0 * q.loc[:, 0], "loss": loss.loss,
    }  # fmt: skip


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    """What users ask, of cells that have what is asked."""
    ours, theirs = pair.ours, pair.theirs
    out = {}
    if ours.region_factors:
        out["get_region_factors"] = ours.get_region_factors(), theirs.get_region_factors()
    factors = ours.get_library_size_factors()["accessibility"]
    has = factors.notna().to_numpy()
    out["get_library_size_factors"] = factors[has].to_numpy(), np.ravel(theirs.get_library_size_factors()["accessibility"])[has]
    if ours.latent_distribution == "ln":
        return out
    for name in ("joint", "expression", "accessibility"):
        mine = ours.get_latent_representation(modality=name)
        there = np.isfinite(mine).all(1)
        out[f"get_latent_representation({name})"] = mine[there], theirs.get_latent_representation(modality=name)[there]
    asked: list[dict[str, Any]] = [{}]
    asked += [{"transform_batch": name} for name in ours.setup.categories["batch"]] * (  # scvi-tools' encoders also see the other batch
        "batch_key" in ours.setup.keys and not ours.encode_covariates
    )
    for kwargs in asked:
        for question in ("get_normalized_expression", "get_normalized_accessibility"):
            answers = (np.asarray(getattr(model, question)(**kwargs, return_numpy=True)) for model in (ours, theirs))
            out[f"{question}({', '.join(f'{key}=...' for key in kwargs)})"] = tuple(answers)
    return out


TWINS = twins.Twins(
    name="MultiVI",
    ours=MULTIVI,
    theirs=AsMuData,
    pairs=maps.multivi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=({**MORE, **PROTEIN}, {**SMALL, "modality_weights": "universal"}),
    start=start,
    cells=cells,
    questions=questions,
    only_ours={
        "mixing": "scvi-tools",
        "background_activation": "exp",
        "use_observed_lib_size": False,
        "log_variational": False,
        "adversarial_mixing": False,
        "hide_modalities": 0.0,
    },
)
