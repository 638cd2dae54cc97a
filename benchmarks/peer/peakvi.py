"""PeakVI in scvi-tools and in scelbo.

For a minibatch of n cells scvi-tools minimises n times the sum of all reconstructions plus the weighted sum of all KL divergences; ours
is the mean over cells of both, as the paper has it. So scvi-tools' loss is n^2 times ours with the KL weight divided by n: what the
plan "scvi-tools" has for minibatches of 128 cells. Both losses are compared, with their gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import scvi
from anndata import AnnData
from torch import Tensor

from peer import twins
from peer.twins import BATCH, MORE, Both, Case, Noise, Numbers
from scelbo import PEAKVI
from scelbo.scvi_tools import maps

ALL_ENCODED = {"encode_covariates": True, "deeply_inject_covariates": True}
COVARIATES: dict[str, Case] = {
    "none": ({}, {}),
    "batch": (BATCH, {}),
    "all": (MORE, {}),
    "all, every layer of the decoder": (MORE, {"deeply_inject_covariates": True}),
    "all, encoded, every layer": (MORE, ALL_ENCODED),
    "all, encoded, first layer only": (MORE, {"encode_covariates": True}),
}
OTHERS: list[Case] = [
    ({**BATCH, "layer": "counts"}, {}),
    (BATCH, {"use_batch_norm": "both", "use_layer_norm": "none", "n_hidden": 12, "n_latent": 4}),
    (MORE, {**ALL_ENCODED, "n_hidden": 16, "n_latent": 5, "n_layers_encoder": 3, "n_layers_decoder": 1}),
    *((MORE, {"use_batch_norm": b, "use_layer_norm": n}) for b, n in product(("encoder", "decoder", "none", "both"), repeat=2)),
]


def cases() -> Iterator[Case]:
    """Cell factors x region factors x latent space x covariates, and what is varied alone."""
    for depth, factors, latent, (keys, hyper) in product((True, False), (True, False), ("normal", "ln"), COVARIATES.values()):
        yield keys, {**hyper, "model_depth": depth, "region_factors": factors, "latent_distribution": latent}
    yield from OTHERS


def cells() -> AnnData:
    """Regions with few fragments in each cell; more of them in the layer ``counts``."""
    adata = twins.cells()
    adata.layers["counts"], adata.X = adata.X, adata.layers["capped"]
    return adata


def start(theirs: Any, adata: AnnData) -> None:
    """Region factors that differ."""
    twins.start(theirs, adata)
    if theirs.module.region_factors is not None:
        theirs.module.region_factors.normal_()


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    loss, n = module.loss(cells, q, z, p), len(cells)
    return {
        "z mean": q.z.mean,
        "z variance": q.z.variance,
        "cell factor l": q.depth.mean.sigmoid(),
        "region factor r": module.region_factors(),
        "y": p.x.scale,
        "y l r": p.x.mean,
        "reconstruction": loss.nll["x"],
        "KL z": loss.kl["z"],
        "loss": loss.total(kl_weight),
        "loss of scvi-tools": n**2 * loss.total(kl_weight / n),
    }


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    qz, x = inferred["qz"], tensors["X"]
    inferred["z"] = module.z_encoder.z_transformation(noise.draw("z", qz))
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    loss = module.loss(tensors, inferred, generated, kl_weight=kl_weight)
    l_n = x.new_ones(len(x), 1) * inferred["d"]
    r = x.new_ones(x.shape[1]) if module.region_factors is None else module.region_factors.sigmoid()
    reconstruction, kl = loss.reconstruction_loss["reconstruction_loss"], loss.kl_local["kl_local"]
    return {
        "z mean": qz.loc,
        "z variance": qz.scale**2,
        "cell factor l": l_n,
        "region factor r": r,
        "y": generated["px"],
        "y l r": generated["px"] * l_n * r,
        "reconstruction": reconstruction,
        "KL z": kl,
        "loss": (reconstruction + kl_weight * kl).mean(),
        "loss of scvi-tools": loss.loss,
    }


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    """Factors and accessibility as users ask for them.

    Accessibility on the simplex is left out: at the mean of q(z | x), which is asked for by default, scvi-tools decodes z itself, not the
    point on the simplex that it decodes while training.
    """
    ours, theirs = pair.ours, pair.theirs
    out = {}
    if ours.model_depth:
        out["get_library_size_factors"] = ours.get_library_size_factors()[:, 0], theirs.get_library_size_factors()
    if ours.region_factors:
        out["get_region_factors"] = ours.get_region_factors(), theirs.get_region_factors()
    if ours.latent_distribution == "ln":
        return out
    asked: list[dict[str, Any]] = [{}, {"region_list": list(ours.adata.var_names[5:20])}, {"threshold": 0.5}]
    asked += [{"normalize_cells": True}] * ours.model_depth + [{"normalize_regions": True}] * ours.region_factors
    asked += [{"normalize_cells": True, "normalize_regions": True}] * (ours.model_depth and ours.region_factors)
    asked += [{"transform_batch": name} for name in ours.setup.categories["batch"]] * ("batch_key" in ours.setup.keys)
    for kwargs in asked:
        answers = (model.get_normalized_accessibility(**kwargs, return_numpy=True) for model in (ours, theirs))
        name = f"get_normalized_accessibility({', '.join(f'{key}=...' for key in kwargs)})"
        out[name] = tuple(a.toarray() if "threshold" in kwargs else a for a in answers)
    return out


TWINS = twins.Twins(
    name="PeakVI",
    ours=PEAKVI,
    theirs=scvi.model.PEAKVI,
    pairs=maps.peakvi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=(MORE, ALL_ENCODED),
    start=start,
    cells=cells,
    questions=questions,
    queries=({}, ALL_ENCODED, {"use_batch_norm": "both"}),
)
