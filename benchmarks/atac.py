"""Does PeakVI keep cell types and mix batches of real scATAC-seq, and does it know what B cells and monocytes have open?

Bone marrow of two donors (``../shared/data/hemato_scatac.h5ad``; skipped where absent): 6,000 cells, regions seen in 0.5 % of them. Beside
scvi-tools' PeakVI at its defaults stand TF-IDF + SVD (LSI), the same through Harmony, and scelbo's PeakVI by each of its plans. Models hold
out a tenth of the cells for early stopping, and another tenth is kept from all models for the held-out columns. Ends with an error if
scelbo's defaults keep types worse than scvi-tools or LSI, if the markers' direction is wrong, or if regions are called of random halves.
Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harmonypy
import numpy as np
import pandas as pd
import scvi
from anndata import AnnData, read_h5ad
from output import quiet
from peer import twins
from scipy import sparse
from scores import accuracy, label_agreement, mixing
from sklearn.decomposition import TruncatedSVD

import scelbo
from scelbo import PEAKVI
from scelbo.scvi_tools import maps

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hemato_scatac.h5ad"
TYPE, BATCH = "cell_type", "batch"
OURS, PEER, LSI = "scelbo, defaults", "scvi-tools, defaults", "LSI"
SEEN, HELD_OUT = 0.005, 0.1
ALIKE = "called of random halves, at 0.2"
B, MONOCYTE = "17_B", "11_CD14.Mono.1"
MARKERS = {
    "chr5:158383548-158384048": ("EBF1", B),
    "chr6:90789249-90789749": ("BACH2", B),
    "chr19:33790991-33791491": ("CEBPA", MONOCYTE),
    "chr5:82823904-82824404": ("VCAN", MONOCYTE),
    "chr1:36952809-36953309": ("CSF3R", MONOCYTE),
    "chr6:41253304-41253804": ("TREM1", MONOCYTE),
}
"""Regions (hg19) in genes of B cells and of monocytes."""


def cells(n: int) -> tuple[AnnData, np.ndarray]:
    """Some of the cells with the regions seen often enough, and which of them no model trains on."""
    adata, rng = read_h5ad(DATA), np.random.default_rng(0)
    adata = adata[np.sort(rng.choice(adata.n_obs, min(n, adata.n_obs), replace=False))].copy()
    seen = np.asarray((adata.X > 0).mean(0)).ravel() >= SEEN
    adata = adata[:, seen | adata.var_names.isin(list(MARKERS))].copy()
    return adata, rng.random(adata.n_obs) < HELD_OUT


# ------------------------------------------------------------------ embeddings
def lsi(adata: AnnData, n: int = 30) -> np.ndarray:
    """TF-IDF of what was seen, and its singular vectors."""
    x = (adata.X > 0).astype(np.float64)
    frequency = sparse.diags(1 / np.asarray(x.sum(1)).ravel()) @ x
    return TruncatedSVD(n, random_state=0).fit_transform(frequency @ sparse.diags(np.log1p(adata.n_obs / np.asarray(x.sum(0)).ravel())))


def harmony(x: np.ndarray, adata: AnnData) -> np.ndarray:
    fixed = np.asarray(harmonypy.run_harmony(x, adata.obs, BATCH, verbose=False).Z_corr)
    return fixed if len(fixed) == adata.n_obs else fixed.T


def by_scelbo(train: AnnData, seed: int, **how: Any) -> PEAKVI:
    scelbo.settings.seed = seed
    PEAKVI.setup_anndata(train, batch_key=BATCH)
    model = PEAKVI(train)
    model.train(accelerator="cpu", progress=False, **how)
    return model


def by_scvi_tools(train: AnnData, seed: int) -> PEAKVI:
    """Trained by scvi-tools with its defaults; its weights in our model, which then answers for it."""
    scvi.settings.seed = seed
    scvi.model.PEAKVI.setup_anndata(train, batch_key=BATCH)
    theirs = scvi.model.PEAKVI(train)
    theirs.train(accelerator="cpu", enable_progress_bar=False)
    PEAKVI.setup_anndata(train, batch_key=BATCH)
    model = PEAKVI(train)
    return twins.answering_for(theirs, model, maps.peakvi(model.module, theirs.module))


FITS: dict[str, Callable[[AnnData, int], PEAKVI]] = {
    OURS: by_scelbo,
    "scelbo, plan 'elbo'": lambda train, seed: by_scelbo(train, seed, plan="elbo"),
    "scelbo, plan 'scvi-tools'": lambda train, seed: by_scelbo(train, seed, plan="scvi-tools", max_epochs=500, early_stopping_patience=50),
    PEER: by_scvi_tools,
}


# ------------------------------------------------------------------ scores
def kept(z: np.ndarray, adata: AnnData) -> dict[str, float]:
    labels, batch = adata.obs[TYPE].astype(str), adata.obs[BATCH].to_numpy().astype(str)
    return {
        "cells with their type": accuracy(z, labels),
        "label kNN": label_agreement(z, labels),
        "label kNN, other batch": label_agreement(z, labels, batch),
        "iLISI": mixing(z, batch),
    }


def explained(model: PEAKVI, held_out: AnnData) -> dict[str, float]:
    reconstruction = [model.get_reconstruction_error(held_out, seed=i)["reconstruction_loss"] for i in range(5)]
    return {
        "held-out reconstruction": np.mean(reconstruction),
        "held-out -ELBO": -np.mean([model.get_elbo(held_out, seed=i) for i in range(5)]),
        "epochs": len(model.history.get("train_loss", [])) or np.nan,
    }


def markers(model: PEAKVI) -> tuple[pd.DataFrame, dict[str, float]]:
    """B cells against monocytes: each marker, and how estimated differences fit those that were seen; and random halves of all."""
    halves = np.random.default_rng(0).random(model.adata.n_obs) < 0.5
    table = model.differential_accessibility(groupby=TYPE, group1=B, group2=MONOCYTE, seed=0)
    known = pd.DataFrame({"gene": {r: g for r, (g, _) in MARKERS.items()}, "open in": {r: kind for r, (_, kind) in MARKERS.items()}})
    known = known.join(table[["prob_da", "effect_size", "emp_prob1", "emp_prob2"]])
    known["right"] = np.sign(known["effect_size"]) == np.where(known["open in"] == B, 1, -1)
    called = table[table["is_da_fdr"]]
    return known, {
        "regions called": len(called),
        "called, sign as seen": float((np.sign(called["effect_size"]) == np.sign(called["emp_effect"])).mean()),
        "rank correlation with what was seen": float(table["effect_size"].corr(table["emp_effect"], method="spearman")),
        "markers, right": float(known["right"].mean()),
        ALIKE: int(model.differential_accessibility(idx1=halves, fdr_target=0.2, seed=0)["is_da_fdr"].sum()),
    }


def show(rows: pd.DataFrame) -> None:
    """A table in Markdown."""
    print("| | " + " | ".join(rows.columns) + " |\n|" + "---|" * (len(rows.columns) + 1))
    for name, row in rows.iterrows():
        print(f"| {name} | " + " | ".join(v if isinstance(v, str) else "" if pd.isna(v) else f"{v:.3f}" for v in row) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    if not DATA.exists():
        print(f"skipped: no {DATA.name}")
        return 0
    quiet()
    logging.getLogger("harmonypy").setLevel(logging.ERROR)
    adata, aside = cells(given.cells)
    train, held_out = adata[~aside].copy(), adata[aside].copy()
    linear = lsi(adata)
    rows: dict[str, list[dict[str, float]]] = {LSI: [kept(linear, adata)], "LSI + Harmony": [kept(harmony(linear, adata), adata)]}
    differences: dict[str, list[dict[str, float]]] = {}
    for name, fit in FITS.items():
        for seed in range(given.seeds):
            print(f"  {name}, seed {seed}", file=sys.stderr, flush=True)
            model = fit(train, seed)
            rows.setdefault(name, []).append(kept(model.get_latent_representation(adata), adata) | explained(model, held_out))
            known, how = markers(model)
            differences.setdefault(name, []).append(how)
            if name == OURS and seed == 0:
                ours = known
    table = pd.DataFrame({name: pd.DataFrame(seen).median() for name, seen in rows.items()}).T[list(rows[OURS][0])]
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} regions, {adata.obs[TYPE].nunique()} types; medians of {given.seeds} seeds\n")
    show(table)
    print("\nB cells against monocytes:\n")
    show(pd.DataFrame({name: pd.DataFrame(seen).median() for name, seen in differences.items()}).T)
    print("\nMarkers, scelbo's defaults:\n")
    show(ours.astype({"right": str}))
    failed = [
        f"{score}: {table.loc[OURS, score]:.3f}, {name} has {table.loc[name, score]:.3f}"
        for name in (PEER, LSI, "LSI + Harmony")
        for score in ("cells with their type", "label kNN", "label kNN, other batch")
        if table.loc[OURS, score] < table.loc[name, score]
    ]
    failed += [f"regions {ALIKE}" for found in differences[OURS] if found[ALIKE]]
    failed += [f"{gene} has the wrong direction" for gene in ours.loc[~ours["right"], "gene"]]
    print("", *failed, "FAILED" if failed else "passed", sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
