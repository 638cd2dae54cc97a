"""Which cells are doublets, and do the probabilities mean what they say?

Two truths, from ``../shared/data`` (skipped where absent): 500 PBMC of one lane whose hashing says which are doublets (``eccite_pbmc``),
and 500 sorted cells (``pbmc_facs``) among which sums of other sorted cells of two kinds were planted. Beside scelbo's SOLO on an scVI,
both at their defaults, stand: the same as published (the classifier reads latents and depth, cells are taken for singlets, scvi-tools'
plan, so that what is left between the two packages is the scVI); scvi-tools' SOLO on its scVI; the share of simulated doublets among
neighbours in principal components (Scrublet's idea); the total count. All read the same 3,000 variable genes. Hashed lanes are overloaded
and the planted share is known, so 8 % are expected. ``slope`` is that of the truth on the log-odds (1: neither too bold nor too timid).
Ends with an error if scelbo's median AUC or average precision falls short of any other's. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from anndata import AnnData, read_h5ad
from output import quiet
from scipy import sparse
from scores import log_normalised
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import scelbo
from scelbo import SCVI, SOLO
from scelbo.data.doublets import partners

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GENES, CELLS, RATE = 3_000, 500, 0.08
OURS, PUBLISHED, PEER = "scelbo", "scelbo, as published", "scvi-tools"


def hashed() -> AnnData:
    """Cells of which hashing says whether two samples met in a droplet."""
    adata = read_h5ad(DATA / "eccite_pbmc.h5ad")
    adata.obs["truth"] = (adata.obs["hto_class_gmm"] == "Doublet").to_numpy()
    return variable(adata)


def planted() -> AnnData:
    """Sorted cells, and sums of two others of different kinds."""
    whole, rng = read_h5ad(DATA / "pbmc_facs.h5ad"), np.random.default_rng(1)
    order, kind = rng.permutation(whole.n_obs), whole.obs["cell_type"].to_numpy()
    cells, others = order[:CELLS], order[CELLS:]
    drawn = (rng.choice(others, 2, replace=False) for _ in range(10 * CELLS))
    pairs = np.array(list(islice((p for p in drawn if kind[p[0]] != kind[p[1]]), int(CELLS * RATE / (1 - RATE)))))
    x = sparse.vstack([whole.X[cells], whole.X[pairs[:, 0]] + whole.X[pairs[:, 1]]]).tocsr()
    adata = AnnData(x, var=whole.var[[]], obs=pd.DataFrame(index=[f"cell{i}" for i in range(x.shape[0])]))
    adata.obs["truth"] = np.arange(adata.n_obs) >= CELLS
    return variable(adata)


def variable(adata: AnnData) -> AnnData:
    """The genes that vary most, of those seen in five cells."""
    adata = adata[:, np.asarray((adata.X > 0).sum(0)).ravel() >= 5].copy()
    normalised = log_normalised(adata)
    sc.pp.highly_variable_genes(normalised, n_top_genes=GENES)
    return adata[:, normalised.var["highly_variable"].to_numpy()].copy()


def ours(adata: AnnData, seed: int, plan: str | None = None, **how: Any) -> np.ndarray:
    scelbo.settings.seed = seed
    SCVI.setup_anndata(adata)
    model = SCVI(adata)
    model.train(seed=seed)
    solo = SOLO.from_scvi_model(model, seed=seed, **(how or {"expected_doublet_rate": RATE}))
    solo.train(seed=seed, plan=plan)
    return solo.predict()["doublet"].to_numpy()


def peer(adata: AnnData, seed: int) -> np.ndarray:
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    model.train(enable_progress_bar=False)
    solo = scvi.external.SOLO.from_scvi_model(model)
    solo.train(enable_progress_bar=False)
    return solo.predict(soft=True)["doublet"].to_numpy()


def neighbours(adata: AnnData, seed: int) -> np.ndarray:
    """Share of simulated doublets among the nearest in 30 principal components: Scrublet's idea, with its number of neighbours."""
    n, x = adata.n_obs, sparse.csr_matrix(adata.X)
    others = partners(np.zeros(n, np.int64), 2, np.random.default_rng(seed))
    dense = log_normalised(AnnData(sparse.vstack([x, *(x + x[other] for other in others.T)]).tocsr())).X.toarray()
    z = PCA(30, random_state=0).fit(dense[:n]).transform(dense)
    near = NearestNeighbors(n_neighbors=int(1.5 * n**0.5) + 1).fit(z).kneighbors(z[:n], return_distance=False)[:, 1:]
    return (near >= n).mean(1)


def total(adata: AnnData, seed: int) -> np.ndarray:
    return np.asarray(adata.X.sum(1)).ravel()


METHODS: dict[str, Callable[[AnnData, int], np.ndarray]] = {
    OURS: ours,
    PUBLISHED: partial(ours, plan="scvi-tools", classifier_reads="latent"),
    PEER: peer,
    "simulated neighbours": neighbours,
    "total count": total,
}


def scored(adata: AnnData, p: np.ndarray, probability: bool) -> dict[str, float]:
    """How well doublets are ranked first; of probabilities also what they promise and what came."""
    truth = adata.obs["truth"].to_numpy()
    row = {"AUC": roc_auc_score(truth, p), "average precision": average_precision_score(truth, p)}
    if not probability:
        return row
    odds = np.log(p.clip(1e-6, 1 - 1e-6) / (1 - p.clip(1e-6, 1 - 1e-6)))
    slope = LogisticRegression(C=1e6).fit(odds[:, None], truth).coef_[0, 0]
    called = p > 0.5
    return row | {
        "Brier": float(np.mean((p - truth) ** 2)),
        "slope": slope,
        "expected": p.sum(),
        "called": called.sum(),
        "right": (called & truth).sum(),
    }


def compare(name: str, adata: AnnData, seeds: int, methods: list[str]) -> list[str]:
    """Print the table of one data set; what falls short."""
    rows: dict[str, pd.DataFrame] = {}
    for method, find in ((m, METHODS[m]) for m in [OURS, *methods]):
        found = []
        for seed in range(seeds if method != "total count" else 1):
            print(f"  {name}, {method}, seed {seed}", file=sys.stderr, flush=True)
            start = time.process_time()
            p = find(adata.copy(), seed)
            found.append(scored(adata, p, method in (OURS, PUBLISHED, PEER)) | {"CPU s": time.process_time() - start})
        rows[method] = pd.DataFrame(found)
    print(f"\n{name}: {adata.n_obs} cells, {int(adata.obs['truth'].sum())} doublets; medians of {seeds} seeds (least, most)\n")
    columns = list(rows[OURS])
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for method, table in rows.items():
        print(f"| {method} | {' | '.join(shown(table[c]) if c in table else '' for c in columns)} |")
    best = rows[OURS].median()
    return [
        f"{name}: {score} {best[score]:.3f}, {method} has {table[score].median():.3f}"
        for method, table in rows.items()
        for score in ("AUC", "average precision")
        if best[score] < table[score].median()
    ]


def shown(values: pd.Series) -> str:
    digits = 3 if values.abs().max() < 10 else 0
    spread = f" ({values.min():.{digits}f}, {values.max():.{digits}f})" if len(values) > 1 else ""
    return f"{values.median():.{digits}f}{spread}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", choices=["hashed", "planted"], nargs="*", default=["hashed", "planted"])
    others = [method for method in METHODS if method != OURS]
    parser.add_argument("--beside", choices=others, nargs="*", default=others, help="what scelbo is held against")
    given = parser.parse_args()
    if not DATA.exists():
        print("skipped: no data")
        return 0
    quiet()
    failed = [
        short for name in given.data for short in compare(name, {"hashed": hashed, "planted": planted}[name](), given.seeds, given.beside)
    ]
    print("", *failed, "FAILED" if failed else "passed", sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
