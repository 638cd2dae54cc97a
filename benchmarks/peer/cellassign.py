"""CellAssign in scvi-tools and in scelbo.

scvi-tools minimises minus the expected log p(x, c) under each cell's responsibilities and lets the gradient run through these, so that
the entropy of the responsibilities counts as a cost; ours is minus log p(x), whose gradient is the EM's. The one is the other with an
``entropy_weight`` of 1. Both losses are compared, with their gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pandas as pd
import scvi.external
import torch
from anndata import AnnData
from torch import Tensor

from peer import twins
from peer.twins import Both, Case, Noise, Numbers
from scelbo import CellAssign
from scelbo.scvi_tools import blocks
from scelbo.scvi_tools.blocks import Pair

N_VARS = 24
MORE = {"categorical_covariate_keys": ["donor", "site"], "continuous_covariate_keys": ["percent_mito", "score"]}


def table(n_types: int, every: int) -> dict[str, list[str]]:
    """Each gene marks one type, and each ``every``-th gene another one too."""
    marks = lambda g, c: g % n_types == c or (g % every == 0 and (g + 1) % n_types == c)  # noqa: E731
    return {f"type{c}": [f"gene{g}" for g in range(N_VARS) if marks(g, c)] for c in range(n_types)}


def peer(adata: AnnData, cell_type_markers: dict[str, list[str]]) -> Any:
    """scvi-tools' model of the same markers."""
    marks = {kind: adata.var_names.isin(genes).astype(int) for kind, genes in cell_type_markers.items()}
    return scvi.external.CellAssign(adata, pd.DataFrame(marks, index=adata.var_names))


peer.setup_anndata = scvi.external.CellAssign.setup_anndata  # type: ignore[attr-defined]


def cases() -> Iterator[Case]:
    """Covariates x tables."""
    sized = {"size_factor_key": "size_factor"}
    setups = ({}, {"batch_key": "batch"}, MORE, {**MORE, "batch_key": "batch"}, {"batch_key": "batch", "layer": "capped"})
    for keys, (n_types, every) in product(setups, ((3, 4), (7, 2), (2, N_VARS + 1))):
        yield {**sized, **keys}, {"cell_type_markers": table(n_types, every)}


def cells() -> AnnData:
    return twins.cells(n_vars=N_VARS)


def start(theirs: Any, adata: AnnData) -> None:
    """Effects that scvi-tools allows (it starts below, and clamps after each step), and weights of which each matters."""
    module = theirs.module
    module.delta_log.uniform_(0.7, 1.2)
    for name, spread in (("beta", 0.3), ("log_a", 0.5), ("delta_log_mean", 0.3), ("delta_log_log_scale", 0.3)):
        getattr(module, name).normal_(0, spread)
    if theirs.summary_stats.n_batch == 1:  # scvi-tools gives a lone batch a column of ones, which says what b says
        module.beta[:, 0] = 0


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Every learnt number that takes part: scvi-tools' design has the batch, continuous covariates, and the other categories in turn."""
    yield Pair("b", ours.b, theirs.b_g_0)
    yield Pair("theta", ours.theta, theirs.theta_logit)
    yield Pair("log_a", ours.log_a, theirs.log_a)
    yield Pair("log_delta", ours.log_delta, theirs.delta_log, lambda t: t[ours.gene, ours.kind])
    yield Pair("mean of log_delta", ours.delta_mean, theirs.delta_log_mean, lambda t: t[0])
    yield Pair("log variance of log_delta", ours.delta_log_variance, theirs.delta_log_log_scale, lambda t: t[0])
    at = 0
    for shift in ours.shifts:
        n = len(shift.rows())
        if n > 1:
            yield from blocks.rows(f"beta.{shift.covariate}", shift, theirs.beta, blocks.columns(at, n))
        at += n
        if shift.covariate == "batch" and ours.slope is not None:
            yield Pair("beta.numbers", ours.slope, theirs.beta, blocks.columns(at, len(ours.slope)))
            at += len(ours.slope)
    yield Pair("centre", ours.centre, theirs.basis_means)


def ours_says(module: Any, cells: Any, noise: Noise, kl_weight: float) -> Numbers:
    explained, loss = module.explained(cells), module(cells)
    joint, n = module.log_joint(explained), len(cells)
    return {
        "log p(x, c)": explained.nothing[:, None] + joint,
        "responsibilities": joint.softmax(1),
        "-log p(theta) - log p(delta)": sum(loss.kl_global.values()),  # type: ignore[dict-item]
        "loss": loss.total(n_cells=n, weights={"entropy": 0.0}),
        "loss of scvi-tools": loss.total(n_cells=n, weights={"entropy": 1.0}),
    }


def theirs_says(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    said, n = module.generative(**module._get_generative_input(tensors, {})), len(tensors["X"])
    loss = module.loss(tensors, {}, said, n_obs=n)
    prior = loss.kl_global["kl_global"]
    return {
        "log p(x, c)": said["p_x_c"],
        "responsibilities": said["gamma"],
        "-log p(theta) - log p(delta)": prior,
        "loss": -torch.logsumexp(said["p_x_c"], 1).mean() + prior / n,
        "loss of scvi-tools": loss.loss,
    }


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    """The most probable type (the probabilities were compared in float64: in float32 scvi-tools' sums have an error of some 1e-5)."""
    return {"predict": tuple(model.predict().to_numpy().argmax(1) for model in (pair.ours, pair.theirs))}  # type: ignore[dict-item]


TWINS = twins.Twins(
    name="CellAssign",
    ours=CellAssign,
    theirs=peer,  # type: ignore[arg-type]
    pairs=pairs,
    ours_says=ours_says,
    theirs_says=theirs_says,
    cases=list(cases()),
    richest=({"size_factor_key": "size_factor", "batch_key": "batch", **MORE}, {"cell_type_markers": table(4, 3)}),
    start=start,
    cells=cells,
    from_data=("centre",),
    questions=questions,
)
