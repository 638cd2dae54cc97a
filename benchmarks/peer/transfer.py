"""A query on a reference in scvi-tools and in scelbo: both grow by the same categories, and say the same of query and reference cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from peer.compare import Topic, difference, worst
from peer.twins import Both, Twins, both, losses
from scelbo.scvi_tools import blocks


def query(twins: Twins, adata: AnnData, **hyper: Any) -> tuple[Both, list[tuple[Tensor, Tensor]]]:
    """Half of the cells as the query, in a batch of its own, on a model of the other half; and all that came with the reference.

    Rows of the new batch start at random in scvi-tools: only these are copied. What came with the reference is returned in pairs.
    """
    asked = np.arange(adata.n_obs) % 2 == 0
    reference, new = adata[~asked].copy(), adata[asked].copy()
    new.obs["batch"] = "new"
    known = both(twins, reference, twins.query_keys, **hyper)
    known.to(torch.float32)  # both load a reference into float32
    ours = twins.ours.load_query_data(new, known.ours)
    theirs = twins.theirs.load_query_data(new, known.theirs, accelerator="cpu")
    Both(twins, ours, theirs, [], {}).to(torch.float64)
    found = list(twins.pairs(ours.module, theirs.module))
    grown = {p.name.removesuffix(".fixed") for p in found if p.name.endswith(".fixed")}
    came = [
        (p.ours.detach().clone(), p.view(p.theirs).detach().clone()) for p in found if p.name not in grown and p.ours.is_floating_point()
    ]
    assert grown, "nothing grew"
    return Both(twins, ours, theirs, blocks.copy(p for p in found if p.name in grown), {}), came


def topic(twins: Twins) -> Topic:
    """A model's queries, and the reference's cells in the query's model."""
    adata = twins.cells()
    reference = adata[np.arange(adata.n_obs) % 2 == 1].copy()

    def found() -> Iterator[tuple[str, dict[str, float]]]:
        for hyper in twins.queries:
            pair, came = query(twins, adata, **hyper)
            differences = {"came with the reference": max(difference(*values) for values in came)}
            for cells, of in (("query", None), ("reference", reference)):
                ours, theirs = losses(pair, adata=of)
                differences |= {f"{name}, {cells} cells": difference(ours[name], theirs[name]) for name in {**ours, **theirs}}
            yield f"{twins.name}, a query, {hyper}", differences

    how = "(float32 while they are loaded), with a new batch whose weights are copied"
    return worst(f"{twins.name}: {len(twins.queries)} queries on a reference {how}", "quantity", found())
