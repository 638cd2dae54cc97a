"""Does scVI mix the batches of real cells and keep their biology, as fitted by scelbo, by scvi-tools, and beside PCA and Harmony?

Three chemistries of 10x (``../shared/data/pbmc_3chem.h5ad``), labels mapped from sorted cells (``pbmc_facs.h5ad``); skipped where these
are absent. Every scVI sees the same 2,000 genes and the same 90 % of the cells, for each of several seeds; the held-out cells are judged by
one program, ours, into which scvi-tools' weights are copied. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import harmonypy
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from anndata import AnnData, read_h5ad
from peer import twins
from scores import label_agreement, mapped_labels, mixing, pca_of, structure

import scelbo
from scelbo import SCVI
from scelbo.scvi_tools import maps

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BATCH, LABEL = "batch", "cell_type_coarse"
PEER, AS_PEER = "scvi-tools, defaults", "scelbo, scvi-tools' KL warm-up"
HELD_OUT = 0.1


def cells(n_genes: int) -> tuple[AnnData, pd.Series]:
    """The cells with the most variable genes, and their mapped labels."""
    adata = read_h5ad(DATA / "pbmc_3chem.h5ad")
    reference = read_h5ad(DATA / "pbmc_facs.h5ad")
    labels = mapped_labels(adata, reference[reference.obs[LABEL] != "CD34+ progenitor"].copy(), LABEL)  # hardly any in blood
    sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, flavor="seurat_v3", batch_key=BATCH)
    return adata[:, adata.var["highly_variable"]].copy(), labels


# ------------------------------------------------------------------ scVI, fitted by either
def by_scelbo(train: AnnData, epochs: int, seed: int, plan: dict[str, Any]) -> SCVI:
    scelbo.settings.seed = seed
    SCVI.setup_anndata(train, batch_key=BATCH)
    model = SCVI(train)
    model.train(epochs, train_size=1.0, accelerator="cpu", progress=False, **plan)
    return model


def by_scvi_tools(train: AnnData, epochs: int, seed: int) -> SCVI:
    """Trained by scvi-tools with its defaults; its weights in our model."""
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(train, batch_key=BATCH)
    theirs = scvi.model.SCVI(train)
    theirs.train(epochs, train_size=1.0, accelerator="cpu", enable_progress_bar=False)
    SCVI.setup_anndata(train, batch_key=BATCH)
    model = SCVI(train)
    return twins.answering_for(theirs, model, maps.scvi(model.module, theirs.module))


def fits(epochs: int, warmups: list[int]) -> dict[str, Any]:
    """Name -> how to fit."""
    ours = {"scelbo, defaults": {}, AS_PEER: {"plan": "scvi-tools"}}
    ours |= {f"scelbo, KL warm-up over {n}": {"plan_kwargs": {"n_epochs_kl_warmup": n}} for n in warmups}
    make = lambda plan: lambda train, seed: by_scelbo(train, epochs, seed, plan)  # noqa: E731
    return {name: make(plan) for name, plan in ours.items()} | {PEER: lambda train, seed: by_scvi_tools(train, epochs, seed)}


# ------------------------------------------------------------------ scores
class Judge:
    """The scores of an embedding of these cells."""

    def __init__(self, adata: AnnData, labels: pd.Series):
        self.adata, self.labels, self.batch = adata, labels, adata.obs[BATCH].to_numpy().astype(str)
        self.own = {b: pca_of(adata[self.batch == b]) for b in np.unique(self.batch)}

    def embedding(self, x: np.ndarray) -> dict[str, float]:
        return {
            "iLISI": mixing(x, self.batch),
            "label kNN": label_agreement(x, self.labels),
            "label kNN, other batches": label_agreement(x, self.labels, self.batch),
            "structure within batches": structure(x, self.own, self.batch),
        }

    def fitted(self, model: SCVI, held_out: AnnData) -> dict[str, float]:
        reconstruction = [model.get_reconstruction_error(held_out, seed=i)["reconstruction_loss"] for i in range(10)]
        return self.embedding(model.get_latent_representation(self.adata)) | {
            "held-out reconstruction": np.mean(reconstruction),
            "held-out -ELBO": -np.mean([model.get_elbo(held_out, seed=i) for i in range(10)]),
            "held-out -log p(x)": -model.get_marginal_ll(held_out, n_mc_samples=200),
        }


def table(rows: dict[str, list[dict[str, float]]]) -> pd.DataFrame:
    """Medians over seeds."""
    order = list(rows[PEER][0])
    return pd.DataFrame({name: pd.DataFrame(seen).median() for name, seen in rows.items()}).T[order]


def worse(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """Where ours at the peer's settings falls behind the peer by more than its seeds differ among themselves."""
    ours, theirs = (pd.DataFrame(rows[name]) for name in (AS_PEER, PEER))
    out = []
    for score in theirs:
        margin = max(float(np.ptp(theirs[score])), 0.01 * abs(theirs[score].median()))
        behind = (theirs[score].median() - ours[score].median()) * (-1 if score.startswith("held-out") else 1)
        if behind > margin:
            out.append(f"{score}: {ours[score].median():.3f} beside {theirs[score].median():.3f} (seeds differ by {margin:.3f})")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=400, help="scvi-tools' and our default for so few cells is 400")
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--warmup", type=int, nargs="*", default=[], help="further KL warm-ups to try, in epochs")
    given = parser.parse_args()
    if not (DATA / "pbmc_3chem.h5ad").exists():
        print(f"SKIPPED: {DATA.name}/pbmc_3chem.h5ad and pbmc_facs.h5ad are not beside this repository, in ../shared/data")
        return 0

    warnings.simplefilter("ignore")
    logging.getLogger("harmonypy").setLevel(logging.ERROR)
    scvi.settings.verbosity = logging.ERROR
    torch.set_num_threads(1)
    adata, labels = cells(given.genes)
    judge = Judge(adata, labels)
    print(f"{adata.n_obs:,} cells of {adata.obs[BATCH].nunique()} chemistries x {adata.n_vars:,} genes;")
    print(f"labels mapped to {labels.notna().mean():.0%}:")
    print(pd.crosstab(labels.fillna("unsure"), adata.obs[BATCH]).to_string(), flush=True)

    pca = pca_of(adata)
    harmony = harmonypy.run_harmony(pca, adata.obs, BATCH, verbose=False).Z_corr
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    rows["PCA"], rows["Harmony"] = [judge.embedding(pca)], [judge.embedding(np.asarray(harmony))]
    for seed in range(given.seeds):
        held_out = np.random.default_rng(seed).random(adata.n_obs) < HELD_OUT
        for name, fit in fits(given.epochs, given.warmup).items():
            scores = judge.fitted(fit(adata[~held_out].copy(), seed), adata[held_out].copy())
            rows[name].append(scores)
            print(f"  seed {seed}, {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()), file=sys.stderr, flush=True)

    print(f"\nMedians of {given.seeds} seeds, {given.epochs} epochs, {1 - HELD_OUT:.0%} of the cells;")
    print("higher is better left of 'held-out', lower from there:\n")
    shown = table(rows)
    print("| | " + " | ".join(shown.columns) + " |\n|" + "---|" * (len(shown.columns) + 1))
    for name, row in shown.iterrows():
        print(f"| {name} | " + " | ".join("" if np.isnan(v) else f"{v:.4g}" for v in row) + " |")
    behind = worse(rows)
    verdict = ["FAILED, behind scvi-tools at its settings:", *behind] if behind else ["passed: at scvi-tools' settings nowhere behind it"]
    print("", *verdict, sep="\n")
    return int(bool(behind))


if __name__ == "__main__":
    sys.exit(main())
