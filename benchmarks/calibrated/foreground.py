"""totalVI's probability that a cell has a protein, beside what is true: in cells of a known decoder, gated blood cells, isotype controls.

Of a cell that the decoder makes it is known which of the two parts of the mixture each count came from. Gates are drawn by the proteins
themselves, and say of lineage markers which cells have them. No cell has an isotype control: all of its counts are background.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData, read_h5ad
from proteins import by_scelbo, by_scvi_tools
from scipy import sparse
from sklearn.mixture import GaussianMixture

from calibrated import known as k
from calibrated.posteriors import say
from scelbo import TOTALVI, settings
from scelbo.data import simulate

KEY, BATCH = "protein_expression", "batch"
GATED = {
    "CD3": (("CD4 T", "CD8 T"), ("B", "CD14 Mono")),
    "CD4": (("CD4 T",), ("B", "CD8 T", "NK")),
    "CD8a": (("CD8 T",), ("B", "CD4 T", "CD14 Mono")),
    "CD14": (("CD14 Mono",), ("B", "CD4 T", "CD8 T", "NK")),
    "CD19": (("B",), ("CD4 T", "CD8 T", "CD14 Mono", "NK")),
    "CD56": (("NK",), ("B", "CD4 T", "CD14 Mono")),
}
"""Protein -> gates whose cells have it, and gates whose cells do not."""
MADE, GATES, ISOTYPES = "cells of a known decoder", "gated blood cells, lineage markers", "isotype controls"


@dataclass(frozen=True)
class Size:
    """How much is made and trained; epochs of None are each package's own."""

    cells: int = 2000
    genes: int = 500
    teacher_epochs: int = 60
    epochs: int | None = None


QUICK = Size(600, 300, 3, 3)


@dataclass(frozen=True)
class Asked:
    """Cells, whose proteins are asked about, and (cells, proteins) whether they have them; not a number where nobody knows."""

    adata: AnnData
    truth: pd.DataFrame
    right: dict[str, np.ndarray] = field(default_factory=dict)
    """What is known to be right, if anything: method -> probabilities (cells, proteins)."""


# ------------------------------------------------------------------ cells
def blood(size: Size) -> AnnData:
    """PBMC 10k, fewer cells and genes."""
    adata = read_h5ad(k.DATA / "pbmc15k_cite.h5ad")
    adata = adata[adata.obs[BATCH] == "PBMC10k"]
    return few(adata, size)


def few(adata: AnnData, size: Size) -> AnnData:
    """Some cells and the genes that vary most."""
    rows = np.random.default_rng(0).permutation(adata.n_obs)[: size.cells]
    adata = adata[np.sort(rows)].copy()
    sc.pp.highly_variable_genes(adata, n_top_genes=size.genes, flavor="seurat_v3")
    return adata[:, adata.var["highly_variable"]].copy()


@torch.no_grad()
def made(size: Size) -> Asked:
    """As the model says: z and the background from their priors, which part of the mixture each protein is in, then the counts."""
    source = blood(size) if (k.DATA / "pbmc15k_cite.h5ad").exists() else simulate.cite(size.cells, size.genes)
    with torch.enable_grad():
        TOTALVI.setup_anndata(source, protein_expression_obsm_key=KEY, batch_key=BATCH)
        teacher = TOTALVI(source)
        teacher.train(size.teacher_epochs, plan="elbo", seed=0, early_stopping=False, **k.QUIET)
    module: Any = teacher.module
    with settings.private_seed(1) as rng:
        like = teacher.read().take(rng.choice(source.n_obs, size.cells))
        q = module.inference(like)
        z = torch.randn(q.z.loc.shape)
        x = module.rna(z, q.log_l.mean, like, None).sample()
        x[x.sum(1) == 0, 0] = 1
        p = module.proteins.mixture(module.proteins.decode(z, like), torch.zeros(len(z), module.proteins.n), like)
        log_beta, there = module.proteins.prior(like).sample(), torch.bernoulli(p.probability)
        mu = (log_beta + there * p.log_alpha).exp()
        phi = p.log_phi.exp().expand_as(mu)
        y = torch.poisson(torch._standard_gamma(phi) * (mu / phi)).numpy()
    names = [f"cell{i}" for i in range(len(z))]
    adata = AnnData(sparse.csr_matrix(x.numpy().astype(np.float32)))
    adata.obs_names, adata.var_names = names, source.var_names
    adata.obs[BATCH] = "one"
    truth = pd.DataFrame(there.numpy(), names, source.obsm[KEY].columns)
    adata.obsm[KEY] = pd.DataFrame(y, names, truth.columns)
    return Asked(adata, truth, {"the decoder itself, z known": p.probability.numpy()})


def gated(size: Size) -> Asked:
    """Lineage markers of cells whose gate says."""
    adata = blood(size)
    gate = adata.obs["protein_gate"].astype(str).to_numpy()
    truth = pd.DataFrame(np.nan, adata.obs_names, adata.obsm[KEY].columns)
    for protein, (has, lacks) in GATED.items():
        truth.loc[np.isin(gate, has), protein] = 1.0
        truth.loc[np.isin(gate, lacks), protein] = 0.0
    return Asked(adata, truth)


def isotypes(size: Size) -> Asked:
    """A tumour's proteins with its isotype controls, which are asked about."""
    adata = read_h5ad(k.DATA / "malt_cite.h5ad")
    adata = few(adata[adata.obs["has_protein"].to_numpy(bool)], size)
    adata.obsm[KEY] = pd.concat([adata.obsm[KEY], adata.obsm["isotype_control"]], axis=1)
    truth = pd.DataFrame(np.nan, adata.obs_names, adata.obsm[KEY].columns)
    truth[adata.obsm["isotype_control"].columns] = 0.0
    return Asked(adata, truth)


# ------------------------------------------------------------------ what is said
def two_normals(adata: AnnData, seed: int) -> np.ndarray:
    """The higher of two normals of each protein's log counts, the usual simple way."""
    logs, out = np.log1p(adata.obsm[KEY].to_numpy(float)), []
    for y in logs.T:
        fit = GaussianMixture(2, n_init=3, random_state=seed).fit(y[:, None])
        out.append(fit.predict_proba(y[:, None])[:, fit.means_[:, 0].argmax()])
    return np.stack(out, 1)


def said(asked: Asked, size: Size, seed: int = 0) -> dict[str, np.ndarray]:
    """Probabilities (cells, proteins), by method."""
    out = dict(asked.right)
    methods: dict[str, Callable[[], np.ndarray]] = {
        "scelbo": lambda: stated(by_scelbo(asked.adata.copy(), BATCH, size.epochs, seed)),
        "scvi-tools": lambda: stated(by_scvi_tools(asked.adata.copy(), BATCH, size.epochs, seed)),
        "two normals of log counts": lambda: two_normals(asked.adata, seed),
    }
    for name, method in methods.items():
        say(f"foreground, {name}")
        out[name] = method()
    return out


def stated(model: Any) -> np.ndarray:
    return model.get_protein_foreground_probability().to_numpy()


def found(quick: bool) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Kind of cells -> method -> probabilities, and whether they came true."""
    size = QUICK if quick else Size()
    kinds: dict[str, Callable[[Size], Asked]] = {MADE: made}
    if (k.DATA / "pbmc15k_cite.h5ad").exists():
        kinds[GATES] = gated
    if (k.DATA / "malt_cite.h5ad").exists():
        kinds[ISOTYPES] = isotypes
    out = {}
    for kind, make in kinds.items():
        say(kind)
        asked = make(size)
        truth, by = asked.truth.to_numpy(), said(asked, size)
        known = ~np.isnan(truth)
        out[kind] = {method: (chance[known], truth[known] > 0) for method, chance in by.items()}
    return out
