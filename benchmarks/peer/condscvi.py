"""CondSCVI in scvi-tools and in scelbo, with the likelihood that scvi-tools has (``gene_likelihood="nb"``).

The batch is embedded there and has a table here: the same function, other parameters, so the embedding is 0. Its DestVI is another model
than the published one (shares by softmax, several states a type, counts that do not add up), and is compared by what it finds
(``deconvolution.py``).
"""

from __future__ import annotations

from typing import Any

import scvi
from anndata import AnnData
from torch import Tensor

from peer import twins
from peer.twins import Both, Case, Noise, Numbers
from scelbo import CondSCVI
from scelbo.scvi_tools import maps

TYPED = {"labels_key": "cell_type"}
CASES: list[Case] = [
    (TYPED, {}),
    ({**TYPED, "layer": "capped"}, {}),
    (TYPED, {"n_hidden": 32, "n_latent": 3, "n_layers": 1}),
    (TYPED, {"log_variational": False, "n_layers": 3}),
]


def start(theirs: Any, adata: AnnData) -> None:
    twins.start(theirs, adata)
    theirs.module.get_embedding("batch").weight.zero_()
    theirs.module.per_ct_bias.normal_(0, 0.1)


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    q = module.inference(cells)
    z = noise.latents(q)
    p = module.generative(z, cells)
    whole = module.loss(cells, q, z, p)
    return {"z mean": q.z.mean, "z variance": q.z.variance, "mean": p.x.mean, "loss": whole.total(kl_weight)}


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    inferred = module.inference(**module._get_inference_input(tensors))
    inferred["z"] = noise.draw("z", inferred["qz"])
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    loss = module.loss(tensors, inferred, generated, kl_weight=kl_weight)
    qz = inferred["qz"]
    return {"z mean": qz.loc, "z variance": qz.scale**2, "mean": generated["px"].mean, "loss": loss.loss}


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    return {
        "get_latent_representation": (pair.ours.get_latent_representation(), pair.theirs.get_latent_representation()),
    }


def peer(adata: AnnData, **arguments: Any) -> Any:
    return scvi.model.CondSCVI(adata, **arguments, prior="normal")


peer.setup_anndata = scvi.model.CondSCVI.setup_anndata  # type: ignore[attr-defined]

TWINS = twins.Twins(
    name="CondSCVI",
    ours=CondSCVI,
    theirs=peer,  # type: ignore[arg-type]
    pairs=maps.condscvi,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=CASES,
    richest=(TYPED, {}),
    start=start,
    only_ours={"gene_likelihood": "nb"},
    questions=questions,
)
