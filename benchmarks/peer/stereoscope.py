"""Stereoscope in scvi-tools and in scelbo: both models, the spots' as published (amounts as training left them)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scvi.external
import torch
from anndata import AnnData
from torch import Tensor

from peer import twins
from peer.twins import Both, Noise, Numbers
from scelbo import RNAStereoscope, SpatialStereoscope
from scelbo.scvi_tools import maps

TYPED = {"labels_key": "cell_type"}


def cells() -> AnnData:
    """Every gene has counts."""
    adata = twins.cells(n_vars=40)
    adata.X[0, :] = np.maximum(adata.X[0].toarray(), 1)
    return adata


# ------------------------------------------------------------------ cells
def cells_say(module: Any, batch: Any, noise: Noise, kl_weight: float) -> Numbers:
    loss = module(batch)
    return {"-log p(cell)": loss.nll["x"], "loss": loss.total()}


def their_cells_say(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    loss = module(tensors)[2]
    return {"-log p(cell)": loss.reconstruction_loss["reconstruction_loss"], "loss": loss.loss / len(tensors["X"])}


def weights(theirs: Any, adata: AnnData) -> None:
    """As they start."""


CELLS = twins.Twins(
    name="Stereoscope, cells",
    ours=RNAStereoscope,
    theirs=scvi.external.RNAStereoscope,
    pairs=maps.rna_stereoscope,
    ours_says=cells_say,
    theirs_says=their_cells_say,
    cases=[(TYPED, {}), ({**TYPED, "layer": "capped"}, {})],
    richest=(TYPED, {}),
    start=weights,
    cells=cells,
    only_ours={"start": "random"},
)


# ------------------------------------------------------------------ spots
def reference(model: Any, adata: AnnData) -> Any:
    """A model of the cells, taken for trained."""
    own = adata.copy()
    model.setup_anndata(own, **TYPED)
    known = model(own)
    known.is_trained = known.is_trained_ = True
    return known


def ours(adata: AnnData, **arguments: Any) -> Any:
    return SpatialStereoscope.from_rna_model(adata, reference(RNAStereoscope, adata), augmentation=False, **arguments)


def theirs(adata: AnnData, **arguments: Any) -> Any:
    return scvi.external.SpatialStereoscope.from_rna_model(adata, reference(scvi.external.RNAStereoscope, adata), **arguments)


ours.setup_anndata = SpatialStereoscope.setup_anndata  # type: ignore[attr-defined]
theirs.setup_anndata = scvi.external.SpatialStereoscope.setup_anndata  # type: ignore[attr-defined]


def spots_say(module: Any, batch: Any, noise: Noise, kl_weight: float) -> Numbers:
    v, n = module.learnt(batch), len(batch)  # one minibatch of all spots: either weight of the prior is the same
    p = module.explained(v, batch, module.profiles(batch))
    nll = -p.log_prob(batch.x)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(module.noise["eta"]).sum()
    return {"-log p(spot)": nll, "loss": nll.mean() - prior / n}


def their_spots_say(module: Any, tensors: dict[str, Tensor], noise: Noise, kl_weight: float) -> Numbers:
    loss = module(tensors, loss_kwargs={"n_obs": len(tensors["X"])})[2]
    return {"-log p(spot)": loss.reconstruction_loss["reconstruction_loss"], "loss": loss.loss / len(tensors["X"])}


def questions(pair: Both) -> dict[str, tuple[Any, Any]]:
    y = ["type2", "type0"]
    return {
        "get_proportions": (pair.ours.get_proportions(refine=False).to_numpy(), pair.theirs.get_proportions().to_numpy()),
        "get_scale_for_ct": (pair.ours.get_scale_for_ct(y).to_numpy(), pair.theirs.get_scale_for_ct(np.array(y))),
    }


SPOTS = twins.Twins(
    name="Stereoscope, spots",
    ours=ours,  # type: ignore[arg-type]
    theirs=theirs,  # type: ignore[arg-type]
    pairs=maps.spatial_stereoscope,
    ours_says=spots_say,
    theirs_says=their_spots_say,
    cases=[({}, {}), ({}, {"prior_weight": "minibatch"}), ({"layer": "capped"}, {})],
    richest=({}, {}),
    start=weights,
    cells=cells,
    only_ours={"start": "random"},
    questions=questions,
)
