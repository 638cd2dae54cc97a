"""scANVI in scvi-tools and in scelbo."""

from __future__ import annotations

from typing import Any

import scvi as peer
import torch
from torch import Tensor

import scelbo
from peer import scvi, twins
from peer.twins import Case, Noise, Numbers
from scelbo.nn import classified
from scelbo.scvi_tools import maps

RATIO = 50.0
LABELS = {"labels_key": "cell_type", "unlabeled_category": "type3"}
BATCH, MORE = {**twins.BATCH, **LABELS}, {**twins.MORE, **LABELS}
CASES: list[Case] = [
    (BATCH, {}),
    (LABELS, {"gene_likelihood": "nb"}),
    (BATCH, {"linear_classifier": True, "gene_likelihood": "poisson"}),
    (BATCH, {"use_observed_lib_size": False, "dispersion": "gene-batch"}),
    (BATCH, {"n_layers": 2, "deeply_inject_covariates": False}),
    (BATCH, {"use_batch_norm": "none", "use_layer_norm": "both"}),
    ({**BATCH, "size_factor_key": "size_factor"}, {"gene_likelihood": "normal"}),
    (MORE, {"encode_covariates": True, "n_layers": 2}),
]


class SCANVI(scelbo.SCANVI):
    """As scvi-tools has it: labels teach the classifier only."""

    labels_in_elbo: bool = False


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    torch.manual_seed(0)  # u is drawn in the loss
    loss = module.loss(cells, q, z, p)
    some = torch.nonzero(cells.label >= 0)[:, 0]
    labelled = cells.take(some)
    entropy, figures = classified(module.classifier(module.inference(labelled).z.mean), labelled.label)
    kl = loss.kl["u"] + loss.kl["c"] + loss.kl_fixed.get("log_l", 0)
    parts = loss.nll["x"] + loss.kl_fixed["z"]
    return {
        "logits": module.classifier(q.z.mean),
        "reconstruction and z": parts,
        "KL": kl,
        "cross-entropy": entropy,
        "accuracy": figures["accuracy"].mean(),
        "loss": (parts + kl_weight * kl).mean() + RATIO * entropy,
    }


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    inferred["z"] = noise.draw("z", inferred["qz"])
    if inferred["ql"] is not None:
        inferred["library"] = noise.draw("log_l", inferred["ql"])
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    some = tensors["labels"][:, 0] < module.n_labels
    torch.manual_seed(0)
    loss = module.loss(
        tensors,
        inferred,
        generated,
        labelled_tensors={k: v[some] for k, v in tensors.items()},
        kl_weight=kl_weight,
        classification_ratio=RATIO,
    )
    right = loss.logits.argmax(-1) == loss.true_labels[:, 0]
    return {
        "logits": module.classifier(inferred["qz"].loc),
        "reconstruction and z": loss.reconstruction_loss["reconstruction_loss"],
        "KL": sum(loss.kl_local.values()),
        "cross-entropy": loss.classification_loss,
        "accuracy": right.double().mean(),
        "loss": loss.loss,
    }


def questions(pair: twins.Both) -> dict[str, tuple[Any, Any]]:
    """What the classifier says of the cells."""
    theirs = pair.theirs.predict(soft=True)
    return {"predict(soft=True)": (pair.ours.predict(soft=True)[theirs.columns].to_numpy(), theirs.to_numpy())}


TWINS = twins.Twins(
    name="scANVI",
    ours=SCANVI,
    theirs=peer.model.SCANVI,
    pairs=maps.scanvi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=CASES,
    richest=(MORE, {"encode_covariates": True, "n_layers": 2, "use_observed_lib_size": False, "dispersion": "gene-batch"}),
    start=scvi.start,
    from_data=("l prior, means", "l prior, vars"),
    questions=questions,
    query_keys=BATCH,
    queries=({}, {"encode_covariates": True, "n_layers": 2}),
)
