"""LDVAE in scvi-tools and in scelbo.

In scvi-tools its decoder takes the batch alone, and ``dispersion="gene-label"`` has room for no label. Our map of all covariates is
compared with a plain linear layer and batch norm in ``tests/python/test_linear_scvi.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import scvi

from peer import scvi as of_scvi
from peer import twins
from peer.twins import BATCH, Both, Case
from scelbo import LinearSCVI
from scelbo.scvi_tools import maps

LIKELIHOODS = ("zinb", "nb", "poisson", "normal")
DISPERSIONS = ("gene", "gene-batch")
OTHERS: list[Case] = [
    (BATCH, {"latent_distribution": "ln"}),
    ({**BATCH, "layer": "capped"}, {"log_variational": False}),
    (BATCH, {"n_hidden": 32, "n_latent": 4, "n_layers": 3}),
]


def cases() -> Iterator[Case]:
    """Likelihood x dispersion x library size x bias x batches or none, and what is varied alone."""
    for likelihood, dispersion, observed, bias in product(LIKELIHOODS, DISPERSIONS, (False, True), (False, True)):
        hyper = {"gene_likelihood": likelihood, "dispersion": dispersion, "use_observed_lib_size": observed, "bias": bias}
        for keys in (BATCH, {"labels_key": "cell_type"}):
            yield keys, hyper
    yield from OTHERS


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    ours, theirs = pair.ours.get_loadings(), pair.theirs.get_loadings()
    assert list(ours) == list(theirs)
    assert list(ours.index) == list(theirs.index)
    return {"get_loadings": (ours.to_numpy(), theirs.to_numpy())}


TWINS = twins.Twins(
    name="LDVAE",
    ours=LinearSCVI,
    theirs=scvi.model.LinearSCVI,
    pairs=maps.linear_scvi,
    ours_says=of_scvi.ours_says,
    theirs_says=of_scvi.theirs_says,
    cases=list(cases()),
    richest=(BATCH, {"gene_likelihood": "zinb", "dispersion": "gene-batch"}),  # a bias has no effect, but in answers
    start=of_scvi.start,
    from_data=("l prior, means", "l prior, vars"),
    questions=questions,
)
