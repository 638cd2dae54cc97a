"""AutoZI in scvi-tools and in scelbo, with delta at its posterior mean (each draws it in its own way).

Two defects of scvi-tools are left out: with ``zero_inflation="gene"`` its prior's beta takes the value of alpha, and priors that are learnt
together with a delta for each category are an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import scvi
import torch
from torch import Tensor

from peer import scvi as of_scvi
from peer import twins
from peer.twins import BATCH, Both, Case, Noise, Numbers
from scelbo import AUTOZI
from scelbo.scvi_tools import blocks, maps
from scelbo.scvi_tools.blocks import Pair

PRIORS: dict[str, list[dict[str, Any]]] = {
    "gene": [{}, {"alpha_prior": 0.3, "beta_prior": 0.3}, {"alpha_prior": None, "beta_prior": None}],
    "gene-batch": [{}, {"alpha_prior": 0.3, "beta_prior": 0.6}],
    "gene-label": [{}, {"alpha_prior": 0.7, "beta_prior": 0.2}],
}
OTHERS: list[Case] = [
    (BATCH, {"latent_distribution": "ln"}),
    (BATCH, {"minimal_dropout": 0.2}),
    (BATCH, {"n_hidden": 32, "n_latent": 4, "n_layers": 3}),
    ({**BATCH, "layer": "capped"}, {}),
    ({"labels_key": "cell_type"}, {"zero_inflation": "gene-label"}),
]


def cases() -> Iterator[Case]:
    """What delta depends on x its prior x dispersion x library size, and what is varied alone."""
    for inflation, dispersion, observed in product(PRIORS, of_scvi.DISPERSIONS, (True, False)):
        for prior in PRIORS[inflation]:
            yield BATCH, {"zero_inflation": inflation, "dispersion": dispersion, "use_observed_lib_size": observed, **prior}
    yield from OTHERS


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Every learnt number of an AUTOZI module."""
    yield from maps.scvi(ours, theirs)
    for name, table in ours.posterior_logits.items():
        yield from blocks.dispersion(f"posterior {name}", table, theirs, f"{name}_posterior_logit")
    for name, logit in ours.prior_logits.items():
        yield Pair(f"prior {name}", logit, getattr(theirs, f"{name}_prior_logit"))


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    out = of_scvi.ours_says(module, cells, noise, kl_weight)
    return out | {"KL delta": module.kl_global(module.inference(cells), cells)["delta"]}


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    """Its logit of a structural zero is that of a gene with delta = 0."""
    seen: list[Tensor] = []
    module.sample_from_beta_distribution = lambda alpha, beta: alpha / (alpha + beta)
    reshape = type(module).reshape_bernoulli
    module.reshape_bernoulli = lambda *args, **kwargs: seen.append(reshape(module, *args, **kwargs)) or seen[-1]
    out = of_scvi.theirs_says(module, tensors, noise, kl_weight)
    zero = (1 - seen[0]) * out["dropout logits"].sigmoid()
    return out | {"dropout logits": torch.logit(zero), "KL delta": module.compute_global_kl_divergence()}


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    ours, theirs = pair.ours.get_alphas_betas(), pair.theirs.get_alphas_betas()
    assert ours.keys() == theirs.keys()
    return {f"get_alphas_betas: {name}": (ours[name], np.asarray(theirs[name])) for name in theirs}


def start(theirs: Any, adata: Any) -> None:
    """Priors that were learnt differ."""
    of_scvi.start(theirs, adata)
    for name in ("alpha", "beta"):
        logit = getattr(theirs.module, f"{name}_prior_logit")
        if isinstance(logit, torch.nn.Parameter) and logit.requires_grad:
            logit.fill_(0.4 if name == "alpha" else -0.7)


TWINS = twins.Twins(
    name="AutoZI",
    ours=AUTOZI,
    theirs=scvi.model.AUTOZI,
    pairs=pairs,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=(BATCH, {"zero_inflation": "gene-batch", "dispersion": "gene-batch", "use_observed_lib_size": False}),
    start=start,
    from_data=("l prior, means", "l prior, vars"),
    questions=questions,
)
