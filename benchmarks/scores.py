"""How well an embedding mixes batches and keeps what is biology."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scanpy as sc
import scib_metrics
from anndata import AnnData
from scib_metrics.nearest_neighbors import NeighborsResults
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

SURE = 0.8
"""Labels that were mapped with less probability are left out."""


def log_normalised(adata: AnnData) -> AnnData:
    """A copy as log(1 + counts per 10,000)."""
    out = adata.copy()
    sc.pp.normalize_total(out, target_sum=1e4)
    sc.pp.log1p(out)
    return out


def mapped_labels(adata: AnnData, reference: AnnData, label: str, n_markers: int = 50) -> pd.Series:
    """Labels from sorted cells by logistic regression on the markers of their types; NaN where unsure.

    No method that is scored has a part in this: the genes come from the reference, and each cell is labelled by itself. Cells are
    brought to unit length, as chemistries differ in how deep they look.
    """
    genes = reference.var_names.intersection(adata.var_names)
    known, new = log_normalised(reference[:, genes]), log_normalised(adata[:, genes])
    sc.tl.rank_genes_groups(known, label, method="t-test")
    ranked = known.uns["rank_genes_groups"]["names"]
    markers = sorted({name for types in ranked[:n_markers] for name in types})
    fit = LogisticRegression(C=10, class_weight="balanced", max_iter=3000).fit(normalize(known[:, markers].X), known.obs[label])
    chance = pd.DataFrame(fit.predict_proba(normalize(new[:, markers].X)), index=adata.obs_names, columns=fit.classes_)
    return chance.idxmax(axis=1).where(chance.max(axis=1) >= SURE)


def neighbours(x: np.ndarray, k: int, among: np.ndarray | None = None, of: np.ndarray | None = None) -> np.ndarray:
    """The k nearest rows ``among`` for each row ``of`` (masks; default all), itself left out, as row numbers of x."""
    everyone = np.ones(len(x), bool)
    among, of = np.flatnonzero(everyone if among is None else among), np.flatnonzero(everyone if of is None else of)
    found = among[NearestNeighbors(n_neighbors=k + 1).fit(x[among]).kneighbors(x[of], return_distance=False)]
    others = np.argsort(found == of[:, None], axis=1, kind="stable")  # itself, where it is found, goes last
    return np.take_along_axis(found, others, 1)[:, :k]


def mixing(x: np.ndarray, batch: np.ndarray, k: int = 90) -> float:
    """iLISI of scib-metrics, scaled: 0 no mixing, 1 as good as can be."""
    distances, indices = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(x)
    return float(scib_metrics.ilisi_knn(NeighborsResults(indices=indices, distances=distances), batch))


def accuracy(x: np.ndarray, labels: pd.Series, k: int = 15) -> float:
    """Share of labelled cells whose k nearest labelled cells vote for their label."""
    right, _ = _voted(x, labels, None, k)
    return float(right.mean())


def label_agreement(x: np.ndarray, labels: pd.Series, batch: np.ndarray | None = None, k: int = 15) -> float:
    """The same, averaged over labels.

    With ``batch``, only cells of other batches vote: how well labels carry over from one to the other.
    """
    right, codes = _voted(x, labels, batch, k)
    return float(pd.Series(right).groupby(codes).mean().mean())


def _voted(x: np.ndarray, labels: pd.Series, batch: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every labelled cell: whether its neighbours vote for its label, and the label's code."""
    known, values = labels.notna().to_numpy(), pd.Categorical(labels)
    right = np.zeros(len(x), bool)
    groups = [(known, known)] if batch is None else [(known & (batch == b), known & (batch != b)) for b in np.unique(batch)]
    for of, among in groups:
        votes = values.codes[neighbours(x, k, among, of)]
        counted = np.stack([(votes == c).sum(1) for c in range(len(values.categories))], 1)
        right[of] = counted.argmax(1) == values.codes[of]
    return right[known], values.codes[known]


def structure(x: np.ndarray, own: dict[str, np.ndarray], batch: np.ndarray, k: int = 30) -> float:
    """Within each batch: the share of a cell's k neighbours that are also its neighbours in that batch's own PCA."""
    shares = []
    for b, pca in own.items():
        here, there = neighbours(x[batch == b], k), neighbours(pca, k)
        shares += [len(np.intersect1d(p, q)) / k for p, q in zip(here, there, strict=True)]
    return float(np.mean(shares))


def pca_of(adata: AnnData, n_comps: int = 30) -> np.ndarray:
    """Log-normalised, centred, principal components."""
    out = log_normalised(adata)
    sc.pp.pca(out, n_comps=n_comps, random_state=0)
    return out.obsm["X_pca"]


def behind(
    table: pd.DataFrame, ours: str, others: Sequence[str], scores: Sequence[str], slack: float = 0.005, lower: Sequence[str] = ()
) -> list[str]:
    """Where one row is behind others by more than the slack, in words; of the ``lower`` scores less is better."""
    out = []
    for other in (name for name in others if name in table.index and ours in table.index):
        for score in scores:
            have, theirs = table.loc[ours, score], table.loc[other, score]
            if (theirs - have) * (-1 if score in lower else 1) > slack:
                out.append(f"{score}: {have:.3f} beside {theirs:.3f} ({other})")
    return out


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """Numbers as a table in Markdown."""
    rows = [" | ".join(["" if np.isnan(v) else f"{v:.{digits}f}" for v in row]) for row in table.to_numpy(float)]
    head = f"| | {' | '.join(table.columns)} |\n{'|---' * (table.shape[1] + 1)}|"
    return "\n".join([head, *(f"| {name} | {row} |" for name, row in zip(table.index, rows, strict=True))])
