"""Does MultiVI bring RNA and open chromatin into one space, and impute either where it was not measured?

Cells of a line at 0, 1 and 3 hours of dexamethasone with both measured (sci-CAR; ``../shared/data/a549_multiome.h5ad``; skipped where it
is absent), with all genes and the regions that 5 % of the cells have. scelbo's MultiVI and scvi-tools' stand beside what needs no model.
First all cells have both: of how many do most of their 30 neighbours have the time, in the joint latent space, in that of each modality
alone, and in PCA (RNA), LSI (regions) and the two side by side? Then of 40 % of the cells the RNA is hidden, of other 40 % the open
chromatin; the programs learn from what is left, and what was hidden is held against what they impute:

- nats gained: how much more probable a cell's hidden counts are by the proportions that were imputed for it than by the mean of those that
  were imputed, a count, all cells alike (regions: each that was seen). 0 is what the same guess for all cells achieves; above is better.
- mean profile: the same of the mean imputed beside the mean measured in the other cells: below 0, the likelihood weighs cells otherwise.
- correlation: Spearman's over the hidden cells, mean over genes (regions: area under the ROC curve), of those that are not rare.
- mixing: of cells with both, one or the other (iLISI). FOSCTTM: how many cells lie nearer to a cell's place by one modality than its own
  by the other (0.5 by chance, 0 at best).

Nearest neighbours: the mean profile of the nearest cells with both, in the space of PCA (LSI) of what was measured, mixed with the mean of
all; of each score that of the number and share with which they do best. Ends with an error if scelbo's defaults are behind scvi-tools or
the neighbours in any score by more than 0.005. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from mudata import MuData
from output import quiet
from scipy import sparse
from scipy.stats import rankdata
from scores import behind, markdown, mixing
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "a549_multiome.h5ad"
HIDDEN = 0.4
GENES, PEAKS = "Gene Expression", "Peaks"
OURS, PEER, NEAR, TOLERANCE = "scelbo, defaults", "scvi-tools", "best of all neighbours", 0.005
PLACES = ("time by both", "time by RNA", "time by regions")
SAID = ["RNA, nats gained", "RNA, correlation", "ATAC, nats gained", "ATAC, AUC"]


class Task(NamedTuple):
    """The cells with what is hidden taken out, and the truth."""

    seen: AnnData
    truth: AnnData
    has: dict[str, np.ndarray]

    def of(self, kind: str, adata: AnnData) -> sparse.csr_matrix:
        return sparse.csr_matrix(adata.X[:, (adata.var["feature_types"] == kind).to_numpy()])


def task(least: int, seed: int, simulated: bool = False) -> Task:
    """Regions that ``least`` cells have; a part of the cells without each modality."""
    if simulated:
        from scelbo.data.simulate import multiome

        truth = multiome(1500, 500, 3000, n_types=6, seed=seed)
        truth.obs["time_h"] = truth.obs["cell_type"]
    else:
        truth = read_h5ad(DATA)
    often = np.asarray((truth.X > 0).sum(0)).ravel() >= least
    truth = truth[:, often | (truth.var["feature_types"] == GENES).to_numpy()].copy()
    of_genes = (truth.var["feature_types"] == GENES).to_numpy()
    whole = [np.asarray(truth.X[:, which].sum(1)).ravel() > 0 for which in (of_genes, ~of_genes)]
    truth = truth[whole[0] & whole[1]].copy()
    draw = np.random.default_rng(seed).random(truth.n_obs)
    has = {GENES: draw >= HIDDEN, PEAKS: draw < 1 - HIDDEN}
    seen = truth.copy()
    rna, atac = (sparse.csr_matrix(truth.X[:, which]).multiply(has[k][:, None]) for k, which in ((GENES, of_genes), (PEAKS, ~of_genes)))
    seen = AnnData(sparse.hstack([rna, atac], format="csr"), obs=truth.obs, var=truth.var[~of_genes | of_genes])
    seen.obs["measured"] = np.where(~has[GENES], "accessibility", np.where(~has[PEAKS], "expression", "both"))
    return Task(seen, truth, has)


# ------------------------------------------------------------------ what imputes
def by_scelbo(given: Task, epochs: int | None, seed: int, hyper: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    from scelbo import MULTIVI

    MULTIVI.setup_anndata(given.seen)
    model = MULTIVI(given.seen, **hyper)
    start = time.process_time()
    model.train(epochs, seed=seed, accelerator="cpu", progress=False, **train)
    y = model.get_normalized_accessibility(return_numpy=True) * model.get_region_factors()
    apart = [model.get_latent_representation(given.truth, modality=m) for m in ("expression", "accessibility")]
    return {
        GENES: model.get_normalized_expression(return_numpy=True), PEAKS: y, "z": model.get_latent_representation(), "apart": apart,
        "seconds": time.process_time() - start, "epochs": model.trained_epochs,
    }  # fmt: skip


def by_scvi_tools(given: Task, epochs: int | None, seed: int) -> dict[str, Any]:
    import scvi

    scvi.settings.seed = seed
    keys = {"rna_layer": "rna", "atac_layer": "atac"}

    def cells(adata: AnnData) -> MuData:
        parts = {name: AnnData(given.of(kind, adata), obs=adata.obs[[]]) for name, kind in (("rna", GENES), ("atac", PEAKS))}
        parts["atac"].var_names = "r" + parts["atac"].var_names
        mdata = MuData(parts)
        scvi.model.MULTIVI.setup_mudata(mdata, modalities=keys)
        return mdata

    mdata = cells(given.seen)
    model = scvi.model.MULTIVI(mdata, n_genes=mdata["rna"].n_vars, n_regions=mdata["atac"].n_vars)
    start = time.process_time()
    model.train(*([epochs] if epochs else []), accelerator="cpu", enable_progress_bar=False)
    y = np.asarray(model.get_normalized_accessibility(return_numpy=True)) * model.get_region_factors()
    truth = cells(given.truth)
    apart = [model.get_latent_representation(truth, modality=m) for m in ("expression", "accessibility")]
    return {
        GENES: np.asarray(model.get_normalized_expression(return_numpy=True)), PEAKS: y, "z": model.get_latent_representation(),
        "apart": apart, "seconds": time.process_time() - start, "epochs": len(model.history["elbo_train"]),
    }  # fmt: skip


def by_neighbours(given: Task, k: int, share: float) -> dict[str, Any]:
    """What the nearest cells with both have."""
    out: dict[str, Any] = {}
    both = given.has[GENES] & given.has[PEAKS]
    for kind, other in ((GENES, PEAKS), (PEAKS, GENES)):
        place = np.full((given.seen.n_obs, 20), np.nan)
        place[given.has[other]] = reduced(given.of(other, given.seen)[given.has[other]], other)
        near = NearestNeighbors(n_neighbors=k).fit(place[both])
        profiles = shares(counted(given.of(kind, given.seen), kind))
        values = np.tile(np.asarray(profiles[given.has[kind]].mean(0)), (given.seen.n_obs, 1))
        rows = np.flatnonzero(given.has[other])
        at = near.kneighbors(place[rows], return_distance=False)
        weights = sparse.csr_matrix((np.full(at.size, 1 / k), (np.repeat(np.arange(len(rows)), k), at.ravel())), (len(rows), both.sum()))
        values[rows] = share * values[rows] + (1 - share) * (weights @ profiles[both]).toarray()
        out[kind] = values
    return out


def counted(x: sparse.csr_matrix, kind: str) -> sparse.csr_matrix:
    """Counts of genes; whether a region was seen."""
    return x if kind == GENES else (x > 0).astype(float)


def reduced(x: sparse.csr_matrix, kind: str) -> np.ndarray:
    """PCA of log-normalised genes; LSI of regions, without its first part, which is depth."""
    if kind == GENES:
        y = (shares(x) * 1e4).log1p()
        y = y.toarray() - y.mean(0).A1 if hasattr(y.mean(0), "A1") else y.toarray() - np.asarray(y.mean(0))
        return TruncatedSVD(20, random_state=0).fit_transform(y)
    seen = (x > 0).astype(float)
    idf = np.log(1 + len(seen.indptr) / (1 + np.asarray(seen.sum(0)).ravel()))
    z = TruncatedSVD(21, random_state=0).fit_transform((shares(seen) @ sparse.diags(idf) * 1e4).log1p())
    return z[:, 1:]


def shares(x: Any) -> sparse.csr_matrix:
    """Every row's proportions."""
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(np.asarray(x.sum(1)).ravel(), 1e-12)) @ x)


# ------------------------------------------------------------------ scores
def scored(given: Task, found: dict[str, Any]) -> dict[str, float]:
    out = {}
    for kind, name in ((GENES, "RNA"), (PEAKS, "ATAC")):
        hidden = ~given.has[kind]
        truth, imputed = counted(given.of(kind, given.truth)[hidden], kind), np.asarray(found[kind])[hidden].astype(float)
        p = np.maximum(imputed / imputed.sum(1, keepdims=True), 1e-12)
        known = np.asarray(shares(counted(given.of(kind, given.seen)[given.has[kind]], kind)).mean(0)).ravel() + 1e-7
        at, mean = shares(truth).tocoo(), p.mean(0)
        out[f"{name}, nats gained"] = float((at.data * np.log(p[at.row, at.col] / mean[at.col])).sum() / len(p))
        out[f"{name}, mean profile"] = float((at.data * np.log(mean / known * known.sum())[at.col]).sum() / len(p))
        often = np.asarray((truth > 0).mean(0)).ravel() > (0.1 if kind == GENES else 0.03)
        observed = shares(truth)[:, often].toarray() if kind == GENES else (truth[:, often] > 0).toarray()
        out[f"{name}, {'correlation' if kind == GENES else 'AUC'}"] = agreement(observed, p[:, often], kind)
    if "z" in found:
        out["time, kNN"] = label(found["z"], given.seen.obs["time_h"])
        out["mixing"] = mixing(found["z"], given.seen.obs["measured"].to_numpy().astype(str))
        unpaired = given.seen.obs["measured"] != "both"
        out["FOSCTTM"] = foscttm(*(z[unpaired.to_numpy()] for z in found["apart"]))
    return out | {name: found[name] for name in ("seconds", "epochs") if name in found}


def agreement(observed: np.ndarray, imputed: np.ndarray, kind: str) -> float:
    """Mean over features of the rank correlation, or of the area under the curve."""
    ranks = rankdata(imputed, axis=0)
    if kind == GENES:
        a, b = (v - v.mean(0) for v in (rankdata(observed, axis=0), ranks))
        return float(np.nanmean((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0) + 1e-12)))
    n = observed.sum(0)
    return float(((np.where(observed, ranks, 0).sum(0) - n * (n + 1) / 2) / (n * (len(observed) - n))).mean())


def label(z: np.ndarray, labels: pd.Series) -> float:
    """Share of cells that their neighbours' labels get right."""
    near = KNeighborsClassifier(30).fit(z, labels.astype(str))
    at = near.kneighbors(z, 31, return_distance=False)[:, 1:]
    codes = pd.Categorical(labels.astype(str)).codes
    votes = np.stack([(codes[at] == c).sum(1) for c in range(codes.max() + 1)], 1)
    return float((votes.argmax(1) == codes).mean())


def foscttm(one: np.ndarray, other: np.ndarray) -> float:
    """Share of cells that lie nearer to a cell's position by one modality than its own by the other; 0.5 is chance."""
    distance = ((one[:, None] - other[None]) ** 2).sum(-1)
    own = np.diag(distance)
    return float(((distance < own[:, None]).mean() + (distance < own[None]).mean()) / 2)


# ------------------------------------------------------------------ the two questions
def together(given: Task, seed: int, peer: int | None, epochs: int | None) -> pd.DataFrame:
    """All cells have both: where do they lie?"""
    whole = Task(given.truth.copy(), given.truth, {kind: np.ones(given.truth.n_obs, bool) for kind in given.has})
    time_of = given.truth.obs["time_h"]
    linear = {kind: reduced(given.of(kind, given.truth), kind) for kind in (GENES, PEAKS)}
    unit = [z / z.std() for z in linear.values()]
    rows = {"PCA, LSI": dict(zip(PLACES, (label(z, time_of) for z in (np.hstack(unit), *linear.values())), strict=True))}
    for name, fit in fits(seed, peer, epochs).items():
        found = fit(whole)
        places = dict(zip(PLACES, (label(z, time_of) for z in (found["z"], *found["apart"])), strict=True))
        rows[name] = {**places, "seconds": found["seconds"], "epochs": found["epochs"]}
    return pd.DataFrame(rows).T


def imputed(given: Task, seed: int, peer: int | None, epochs: int | None) -> pd.DataFrame:
    """Parts are hidden: what is said of them?"""
    near = [scored(given, by_neighbours(given, k, share)) for k in (15, 50, 150) for share in (0.1, 0.5, 0.9)]
    rows = {NEAR: {name: max(found[name] for found in near) for name in near[0]}}
    rows |= {name: scored(given, fit(given)) for name, fit in fits(seed, peer, epochs).items()}
    return pd.DataFrame(rows).T


def fits(seed: int, peer: int | None, epochs: int | None) -> dict[str, Callable[[Task], dict[str, Any]]]:
    return {
        OURS: lambda given: by_scelbo(given, epochs, seed, {}, {}),
        'scelbo, plan="elbo"': lambda given: by_scelbo(given, epochs, seed, {"hide_modalities": 0.0}, {"plan": "elbo"}),
        PEER: lambda given: by_scvi_tools(given, peer or epochs, seed),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=int, default=132, help="cells that a region is seen in")
    parser.add_argument("--epochs", type=int, help="of both; by default each program's own")
    parser.add_argument("--peer-epochs", type=int, help="of scvi-tools alone")
    parser.add_argument("--seeds", type=int, default=1, help="means of so many runs, other cells hidden in each")
    parser.add_argument("--simulated", action="store_true", help="simulated cells of six types instead")
    given = parser.parse_args()
    if not given.simulated and not DATA.exists():
        print(f"SKIPPED: {DATA.name} is not beside this repository, in ../shared/data")
        return 0
    quiet()
    whole, part = [], []
    for seed in range(given.seeds):
        cells, how = task(given.least, seed, given.simulated), (seed, given.peer_epochs, given.epochs)
        parts = ", ".join(f"{n:,} {name}" for name, n in cells.seen.obs["measured"].value_counts().items())
        print(f"{cells.seen.n_obs:,} cells, {cells.seen.n_vars:,} features; all with both, then {parts}\n", flush=True)
        for tables, of in ((whole, together), (part, imputed)):
            tables.append(of(cells, *how))
            print(f"{markdown(tables[-1], 4)}\n", flush=True)
    whole, part = (sum(tables) / given.seeds for tables in (whole, part))
    print(f"means of {given.seeds} seeds\n\n{markdown(whole, 4)}\n\n{markdown(part[[*dict.fromkeys([*SAID, *part.columns])]], 4)}\n")
    failed = behind(whole, OURS, [PEER, "PCA, LSI"], PLACES[:1], TOLERANCE)
    failed += behind(part, OURS, [PEER], [*SAID, "time, kNN", "FOSCTTM"], TOLERANCE, lower=["FOSCTTM"])
    failed += behind(part, OURS, [NEAR], SAID, TOLERANCE)
    print("FAILED, behind in:\n" + "\n".join(failed) if failed else "passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
