"""A query on a reference in scvi-tools and in scelbo: both grow by the same categories, and say the same of query and reference cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import scvi
from anndata import AnnData
from torch import Tensor

from peer import blocks
from peer.scvi import Both, both, pairs
from scelbo import SCVI

KEYS = {"batch_key": "batch"}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"encode_covariates": True, "n_layers": 2},
    {"dispersion": "gene-batch", "gene_likelihood": "nb"},
    {"encode_covariates": True, "deeply_inject_covariates": False, "n_layers": 2},
)


def query(adata: AnnData, **hyper: Any) -> tuple[Both, list[tuple[Tensor, Tensor]]]:
    """Half of the cells as the query, in a batch of its own, on a model of the other half; and all that came with the reference.

    Rows of the new batch start at random in scvi-tools: only these are copied. What came with the reference is returned in pairs.
    """
    asked = np.arange(adata.n_obs) % 2 == 0
    reference, new = adata[~asked].copy(), adata[asked].copy()
    new.obs["batch"] = "new"
    known = both(reference, KEYS, **hyper)
    known.ours.module.float()  # both load a reference into float32
    known.theirs.module.float()
    known.ours.is_trained = known.theirs.is_trained_ = True
    ours = SCVI.load_query_data(new, known.ours)
    theirs = scvi.model.SCVI.load_query_data(new, known.theirs, accelerator="cpu")
    ours.module.double().eval()
    theirs.module.double().eval()
    found = list(pairs(ours.module, theirs.module))
    grown = {p.name.removesuffix(".fixed") for p in found if p.name.endswith(".fixed")}
    came = [
        (p.ours.detach().clone(), p.view(p.theirs).detach().clone()) for p in found if p.name not in grown and p.ours.is_floating_point()
    ]
    assert grown, "nothing grew"
    return Both(ours, theirs, blocks.copy(p for p in found if p.name in grown), None), came
