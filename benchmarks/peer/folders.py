"""Folders: a model of scvi-tools opens here and says the same; saved back, scvi-tools opens it, and it says the same again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import scelbo
from peer import condscvi, linear_scvi, multivi, peakvi, scanvi, stereoscope, totalvi
from peer import scvi as scvi_twins
from peer.compare import SINGLE, Topic, difference, worst
from peer.twins import MORE, Both, Case, Twins, losses

MOST = 8
"""Cases of a model that go there and back, beside the richest."""
MODELS = (
    scvi_twins.TWINS, scanvi.TWINS, linear_scvi.TWINS, peakvi.TWINS, totalvi.TWINS, multivi.TWINS, condscvi.TWINS, stereoscope.CELLS,
    stereoscope.SPOTS,
)  # fmt: skip
KEPT: dict[str, tuple[Twins, Case]] = {
    "scvi": (scvi_twins.TWINS, scvi_twins.TWINS.richest),
    "scvi_embedding": (
        scvi_twins.TWINS,
        (
            {**MORE, "size_factor_key": "size_factor"},
            {"batch_representation": "embedding", "dispersion": "gene-cell", "gene_likelihood": "nb"},
        ),
    ),
    "scanvi": (scanvi.TWINS, scanvi.TWINS.richest),
    "linear_scvi": (linear_scvi.TWINS, linear_scvi.TWINS.richest),
    "peakvi": (peakvi.TWINS, peakvi.TWINS.richest),
    "totalvi": (totalvi.TWINS, totalvi.TWINS.richest),
    "multivi": (multivi.TWINS, multivi.TWINS.richest),
    "multivi_without_proteins": (multivi.TWINS, ({"batch_key": "batch"}, multivi.SMALL)),
    "condscvi": (condscvi.TWINS, ({**condscvi.TYPED, "batch_key": "batch"}, {"encode_covariates": True})),
    "rna_stereoscope": (stereoscope.CELLS, stereoscope.CELLS.richest),
    "spatial_stereoscope": (stereoscope.SPOTS, stereoscope.SPOTS.richest),
}
"""What the tests keep, one of each kind (``benchmarks/folders.py`` writes them)."""


def made(twins: Twins, adata: Any, case: Case) -> Any:
    """A model of scvi-tools that passes for trained."""
    keys, hyper = case
    adata = adata.copy()
    torch.manual_seed(0)
    twins.theirs.setup_anndata(adata, **keys)
    theirs = twins.theirs(adata, **hyper)
    with torch.no_grad():
        twins.start(theirs, adata)
        if "_embeddings_dict" in dict(theirs.module.named_children()):
            theirs.module.get_embedding("batch").weight.normal_()
    theirs.is_trained_ = True
    theirs.module.eval()
    return theirs


def answer(model: Any) -> np.ndarray:
    """What a model says of each cell, without draws."""
    ours = isinstance(model, scelbo.Model)
    if hasattr(model, "get_proportions"):
        return (model.get_proportions(refine=False) if ours else model.get_proportions()).to_numpy()
    if not hasattr(model, "get_latent_representation") or type(model).__name__ == "RNAStereoscope":
        return (model.module.W.rows().T if ours else model.module.W).detach().numpy()
    if type(model).__name__ == "MULTIVI":
        return np.asarray(model.get_latent_representation())
    return np.asarray(model.get_latent_representation(return_dist=True)[0])


def there_and_back(twins: Twins, adata: Any, case: Case) -> dict[str, float]:
    """Quantity -> largest difference, of a model that was saved, opened, saved back and opened again."""
    theirs = made(twins, adata, case)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(folder, overwrite=True)
        ours = scelbo.load(folder, theirs.adata.copy())
        drawn = type(theirs).__name__ == "MULTIVI" and theirs.module.latent_distribution == "ln"  # its answers are, on the simplex
        found = {} if drawn else {"answers": difference(answer(ours), answer(theirs), share=SINGLE)}
        ours.save_as_scvi_tools(Path(folder) / "back")
        back = type(theirs).load(str(Path(folder) / "back"), theirs.adata.copy(), accelerator="cpu")
    if not drawn:
        found["answers of what went back"] = difference(answer(back), answer(theirs), share=SINGLE)
    pair = Both(twins, ours, theirs, list(twins.pairs(ours.module, theirs.module)), {})
    pair.to(torch.float64)
    numbers = losses(pair)
    return found | {name: difference(numbers[0][name], numbers[1][name]) for name in numbers[1] if name in numbers[0]}


def from_here(twins: Twins, adata: Any, case: Case) -> dict[str, float]:
    """The same, of a model that was made here."""
    keys, hyper = case
    theirs, adata = made(twins, adata, case), adata.copy()
    twins.ours.setup_anndata(adata, **keys)
    ours = twins.ours(adata, **(twins.only_ours | hyper))
    ours.is_trained = True
    with tempfile.TemporaryDirectory() as folder:
        ours.save_as_scvi_tools(folder)
        there = type(theirs).load(folder, theirs.adata.copy(), accelerator="cpu")
    return {"answers of what was made here": difference(answer(there), answer(ours), share=SINGLE)}


def topic() -> Topic:
    """All models, some cases of each."""

    def found() -> Iterator[tuple[str, dict[str, float]]]:
        for twins in MODELS:
            adata, every = twins.cells(), -(-len(twins.cases) // MOST)
            for case in [*twins.cases[::every], *(case for of, case in KEPT.values() if of is twins)]:
                yield f"{twins.name}, {case}", there_and_back(twins, adata, case)
        for twins, (keys, hyper) in KEPT.values():
            if twins is condscvi.TWINS:  # ours has batches in deeper layers, which theirs cannot have
                keys, hyper = condscvi.TYPED, {}  # noqa: PLW2901
            yield f"{twins.name} made here, {hyper}, {keys}", from_here(twins, twins.cells(), (keys, hyper))

    return worst("Folders of scvi-tools, opened here and saved back (answers: float32; else float64)", "quantity", found())
