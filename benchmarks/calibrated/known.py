"""Decoders that are taken for the truth, cells that they make, and models that learn from such cells, here and in scvi-tools.

A decoder is trained on real cells (simulated ones where these are absent). A cell is made as the model says: z from its prior, counts
from the decoder at a real cell's library size (PeakVI: at its factor). What the model takes as known of a cell, its second latent, is
called its *size* here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scanpy as sc
import scvi
import torch
from anndata import AnnData, read_h5ad
from scipy import sparse
from torch import Tensor
from torch.distributions import Normal

from calibrated.exact import LogJoint
from scelbo import PEAKVI, SCVI, settings
from scelbo.data import simulate
from scelbo.likelihoods import Accessibility
from scelbo.scvi_tools import blocks, maps

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
QUIET: dict[str, Any] = {"accelerator": "cpu", "progress": False}
PEER_QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


def blood(n_genes: int) -> AnnData:
    """Sorted PBMC on the genes that vary most, of cells that have enough counts there."""
    if not (DATA / "pbmc_facs.h5ad").exists():
        return simulate.counts(3000, n_genes, n_batches=1)
    adata = read_h5ad(DATA / "pbmc_facs.h5ad")
    sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, flavor="seurat_v3")
    adata = adata[:, adata.var["highly_variable"]].copy()
    return adata[np.asarray(adata.X.sum(1)).ravel() >= 50].copy()


def marrow(n_regions: int) -> AnnData:
    """Bone marrow of one donor on the regions that are seen most."""
    if not (DATA / "hemato_scatac.h5ad").exists():
        adata = simulate.multiome(3000, 20, n_regions, n_batches=1)
        return adata[:, adata.var["feature_types"] == "Peaks"].copy()
    adata = read_h5ad(DATA / "hemato_scatac.h5ad")
    adata = adata[adata.obs["batch"] == adata.obs["batch"].cat.categories[0]].copy()
    seen = np.asarray((adata.X > 0).sum(0)).ravel()
    adata = adata[:, np.sort(np.argsort(-seen)[:n_regions])].copy()
    return adata[np.asarray((adata.X > 0).sum(1)).ravel() >= 20].copy()


@dataclass(frozen=True)
class Family:
    """A model here and in scvi-tools: which parts are the decoder, which latent is the size, how the teacher is made."""

    name: str
    ours: Any
    theirs: Any
    pairs: Callable[[Any, Any], Any]
    encoders: tuple[str, ...]
    their_decoder: tuple[str, ...]
    cells: Callable[[int], AnnData]
    hyper: dict[str, Any] = field(default_factory=dict)
    plan: str | None = None
    """With which the KL weight reaches 1 here."""
    their_train: dict[str, Any] = field(default_factory=lambda: {"plan_kwargs": {"n_epochs_kl_warmup": 1}})
    """With which scvi-tools minimises the ELBO: its PEAKVI counts the reconstruction as often as there are cells in a minibatch, 128."""


SCVI_NB = Family(
    "scVI", SCVI, scvi.model.SCVI, maps.scvi, ("z", "input_mean"), ("decoder", "px_r"), blood, {"gene_likelihood": "nb"},
)  # fmt: skip
SCVI_ZINB = Family(
    "scVI, ZINB", SCVI, scvi.model.SCVI, maps.scvi, ("z", "input_mean"), ("decoder", "px_r"), blood, {"gene_likelihood": "zinb"},
)  # fmt: skip
PEAKS = Family(
    "PeakVI", PEAKVI, scvi.model.PEAKVI, maps.peakvi, ("z", "depth", "input_mean"), ("z_decoder", "region_factors"), marrow,
    plan="elbo", their_train={"n_epochs_kl_warmup": 1, "lr": 2e-3, "plan_kwargs": {"max_kl_weight": 128.0}},
)  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """Made cells: their data, and what made them."""

    adata: AnnData
    z: Tensor
    size: Tensor  # (cells, 1): log library, or logit of PeakVI's factor

    def part(self, rows: np.ndarray) -> Cells:
        """Some of them."""
        return Cells(self.adata[rows].copy(), self.z[rows], self.size[rows])


@dataclass(frozen=True)
class Known:
    """A decoder that is taken for the truth."""

    family: Family
    model: Any

    @classmethod
    def trained(cls, family: Family, n_features: int, epochs: int) -> Known:
        """On real cells, by defaults: with a KL weight of 1 all but one of PeakVI's dimensions collapse, and little is left to ask."""
        adata = family.cells(n_features)
        family.ours.setup_anndata(adata)
        model = family.ours(adata, **family.hyper)
        model.train(epochs, seed=0, early_stopping=False, **QUIET)
        return cls(family, model)

    @torch.no_grad()
    def make(self, n: int, seed: int, z: Tensor | None = None) -> Cells:
        """Cells of the model itself; of the prior's z, unless these are given."""
        module = self.model.module
        with settings.private_seed(seed) as rng:
            like = self.model.read().take(rng.choice(self.model.adata.n_obs, n))
            q = module.inference(like)
            size = q[1].mean
            z = torch.randn(n, q.z.loc.shape[1]) if z is None else z
            x = module.generative(type(q)(z, size), like).x.sample().numpy()
        x[x.sum(1) == 0, 0] = 1
        adata = AnnData(sparse.csr_matrix(x.astype(np.float32)))
        adata.var_names = self.model.adata.var_names
        adata.obs_names = [f"cell{i}" for i in range(n)]
        return Cells(adata, z, size)


def joint_of(model: Any, cells: Cells, size: Tensor | None = None) -> LogJoint:
    """log p(x, z) of a model, with the size that it reads off the counts unless the true one is given."""
    data, module = model.read(cells.adata), model.module
    rows = np.arange(cells.adata.n_obs)
    with torch.no_grad():
        q = module.inference(data.take(rows))
    size = q[1].mean if size is None else size
    repeated = lru_cache(lambda n: data.take(np.tile(rows, n)))

    def log_joint(z: Tensor) -> Tensor:
        flat, batch = z.flatten(0, 1), repeated(len(z))
        log_p = module.generative(type(q)(flat, size.repeat(len(z), 1)), batch).x.log_prob(batch.x)
        return (log_p + Normal(0.0, 1.0).log_prob(flat).sum(-1)).view(len(z), -1)

    return log_joint


@torch.no_grad()
def decoded(model: Any, z: Tensor, adata: AnnData, features: np.ndarray, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What features are expected to be at draws of z, (draws, cells, dimensions): as they compare with other cells, and within the cell.

    Either does not depend on how a model names things: PeakVI's openness is known up to a factor of the cell and one of the region.
    """
    batch, module = model.read(adata).take(np.arange(adata.n_obs)), model.module
    q = module.inference(batch)
    explained = (module.generative(type(q)(part, q[1].mean if size is None else size), batch).x for part in z)
    both = [(p.scale[:, features], within(p, features)) for p in explained]
    return torch.stack([scale for scale, _ in both]), torch.stack([inside for _, inside in both])


def within(p: Any, features: np.ndarray) -> Tensor:
    """Proportions; of openness, how likely each region is seen beside the geometric mean of these regions."""
    if not isinstance(p, Accessibility):
        return p.scale[:, features]
    seen = (p.scale * p.region.sigmoid())[:, features]
    return seen / seen.log().mean(1, keepdim=True).exp()


@torch.no_grad()
def posterior(model: Any, adata: AnnData) -> Normal:
    """q(z | x)."""
    q = model.module.inference(model.read(adata).take(np.arange(adata.n_obs))).z
    return Normal(q.loc, q.scale)


# ------------------------------------------------------------------ encoders of a decoder that does not learn
def hold(part: Any) -> None:
    """Keep this part as it is, also where it counts minibatches."""
    if isinstance(part, torch.nn.Parameter):
        part.requires_grad_(False)
        return
    part.requires_grad_(False).eval()
    part.train = lambda mode=True: part


def fresh(known: Known, adata: AnnData) -> Any:
    """A model with the known decoder and an encoder that knows nothing."""
    known.family.ours.setup_anndata(adata)
    model = known.family.ours(adata, **known.family.hyper)
    state = {k: v for k, v in known.model.module.state_dict().items() if k.split(".")[0] not in known.family.encoders}
    model.module.load_state_dict(state, strict=False)
    return model


def encoder_here(known: Known, adata: AnnData, epochs: int, seed: int = 0) -> Any:
    """Trained here, the decoder held."""
    model = fresh(known, adata)
    for name, part in model.module.named_children():
        if name not in known.family.encoders:
            hold(part)
    model.train(epochs, plan=known.family.plan, plan_kwargs={"n_epochs_kl_warmup": 1}, seed=seed, early_stopping=False, **QUIET)
    return model


def encoder_there(known: Known, adata: AnnData, epochs: int, seed: int = 0) -> Any:
    """Trained in scvi-tools, the decoder held; its weights in a model of ours, which answers for it."""
    model = fresh(known, adata)
    scvi.settings.seed = seed
    known.family.theirs.setup_anndata(adata)
    theirs = known.family.theirs(adata, **known.family.hyper)
    blocks.copy_back(known.family.pairs(model.module, theirs.module))
    for name in known.family.their_decoder:
        hold(getattr(theirs.module, name))
    theirs.train(epochs, early_stopping=False, **known.family.their_train, **PEER_QUIET)
    return answering(known.family, theirs, model)


def unmoved(known: Known, model: Any) -> bool:
    """Whether the decoder is still the known one."""
    mine, theirs = model.module.state_dict(), known.model.module.state_dict()
    return all(torch.allclose(mine[k], v) for k, v in theirs.items() if k.split(".")[0] not in known.family.encoders)


# ------------------------------------------------------------------ models as users train them
def trained_here(family: Family, adata: AnnData, epochs: int, seed: int = 0, plan: str | None = None) -> Any:
    """All of it learns from these cells."""
    family.ours.setup_anndata(adata)
    model = family.ours(adata, **family.hyper)
    model.train(epochs, plan=plan, seed=seed, early_stopping=False, **QUIET)
    return model


def trained_there(family: Family, adata: AnnData, epochs: int, seed: int = 0) -> tuple[Any, Any]:
    """In scvi-tools: the model itself, and one of ours that answers for it."""
    scvi.settings.seed = seed
    family.theirs.setup_anndata(adata)
    theirs = family.theirs(adata, **family.hyper)
    theirs.train(epochs, early_stopping=False, **PEER_QUIET)
    family.ours.setup_anndata(adata)
    return theirs, answering(family, theirs, family.ours(adata, **family.hyper))


def answering(family: Family, theirs: Any, model: Any) -> Any:
    """Ours with the weights that scvi-tools' was trained to."""
    blocks.copy(family.pairs(model.module, theirs.module))
    theirs.module.eval()
    model.module.eval()
    model.is_trained = True
    mine, others = model.get_latent_representation(), theirs.get_latent_representation()
    worst = np.abs(mine - others).max() / np.abs(mine).max()
    assert worst < 1e-3, f"the copy is not the original: latents differ by {worst:.1e}"
    return model
