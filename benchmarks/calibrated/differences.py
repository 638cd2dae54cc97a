"""Differential expression and accessibility: what intervals and probabilities say, and what is called where nothing differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import differential as planted
import numpy as np
import pandas as pd

from calibrated import known as k
from calibrated.posteriors import Learnt, say
from calibrated.ranks import LEVELS, gap, reliability
from scelbo.analysis.differential import discoveries

FDRS = (0.05, 0.1, 0.2)
DELTA, EPS, APART = 0.25, 1e-6, 0.5
"""Least log2 fold change; added to proportions, the same everywhere; how far from 0 the groups' z lie."""
LEAST = 0.05
"""Least difference of openness."""
Ask = Callable[..., pd.DataFrame]
OURS, WEIGHTED, PEER = "scelbo", "scelbo, importance weights", "scvi-tools"
ONE_SIDED, PAIRS = "scelbo, two_sided=False", "scelbo, test_mode='two'"
TRUE_PAIRS = "of the known decoder itself: pairs that differ either way"


def askers(ours: Any, theirs: Any) -> dict[str, Ask]:
    """Both are asked alike."""
    same: dict[str, Any] = {"mode": "change", "delta": DELTA, "pseudocounts": EPS, "all_stats": False, "cred_interval_lvls": LEVELS}
    few: dict[str, Any] = {"weights": "importance", "importance_cells": 50, "n_samples_overall": 1000}
    return {
        OURS: lambda one, two: ours.differential_expression(idx1=one, idx2=two, seed=0, **same),
        WEIGHTED: lambda one, two: ours.differential_expression(idx1=one, idx2=two, seed=0, **same, **few),
        PEER: lambda one, two: theirs.differential_expression(idx1=one, idx2=two, silent=True, **same),
    }


def askers_of_regions(ours: Any, theirs: Any) -> dict[str, Ask]:
    """As users ask; scvi-tools tests the log2 ratio of openness, with the same least effect of 0.05, unless it is told what ours tests."""
    expected = {"prob_da": "proba_de"}
    told: dict[str, Any] = {"silent": True, "change_fn": lambda y1, y2, pseudocounts: y1 - y2}

    def mine(**more: Any) -> Ask:
        return lambda one, two: ours.differential_accessibility(idx1=one, idx2=two, seed=0, **more).rename(columns=expected)

    return {
        OURS: mine(),
        ONE_SIDED: mine(two_sided=False),
        PAIRS: mine(test_mode="two"),
        PEER: lambda one, two: theirs.differential_accessibility(idx1=one, idx2=two, silent=True).rename(columns=expected),
        f"{PEER}, y1 - y2": lambda one, two: theirs.differential_accessibility(idx1=one, idx2=two, **told).rename(columns=expected),
    }


def true_effects(known: k.Known, cells: k.Cells, one: np.ndarray, two: np.ndarray, n: int = 2000) -> np.ndarray:
    """Of random pairs of cells of two groups, (pairs, features), by the decoder that made them: log2 fold changes, or differences of y."""
    value = k.decoded(known.model, cells.z[None], cells.adata, np.arange(cells.adata.n_vars), cells.size)[0][0].numpy()
    value = value if known.family is k.PEAKS else np.log2(value + EPS)
    rng = np.random.default_rng(0)
    first, second = (value[rng.choice(rows, n)] for rows in (one, two))
    return first - second


def asked(found: Learnt) -> tuple[dict[str, Ask], float]:
    """What is asked of these models, and the least effect that counts."""
    of_regions = found.known.family is k.PEAKS
    return (askers_of_regions if of_regions else askers)(found.models["scelbo"], found.theirs), LEAST if of_regions else DELTA


def between_groups(found: Learnt) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Cells on either side in the latent dimension that says most: a row a method, and the reliability of its probabilities."""
    z = found.cells.z[:, int(np.argmax(found.known.model.get_latent_kl()))].numpy()
    one, two = np.flatnonzero(z > APART), np.flatnonzero(z < -APART)
    effects = true_effects(found.known, found.cells, one, two)
    methods, delta = asked(found)
    rows, tables = {}, {}
    for method, ask in methods.items():
        say(f"two groups, {method}")
        table = ask(one, two).loc[found.cells.adata.var_names]
        directions = {ONE_SIDED: (effects >= delta).mean(0), PAIRS: (np.abs(effects) >= delta).mean(0)}
        came = directions.get(method, np.maximum((effects >= delta).mean(0), (effects < -delta).mean(0)))
        rows[method], tables[method] = judged(table, effects, came, delta)
    return pd.DataFrame(rows).T, tables


def judged(table: pd.DataFrame, e: np.ndarray, came: np.ndarray, delta: float) -> tuple[dict[str, float], pd.DataFrame]:
    """What intervals hold, of pairs of cells and of the means; how probabilities compare; and who is called, and rightly."""
    row: dict[str, float] = {}
    mean = e.mean(0)
    for level in LEVELS if "lfc_confidence_interval_0.9_min" in table else ():
        low, high = (table[f"lfc_confidence_interval_{level}_{end}"].to_numpy() for end in ("min", "max"))
        row[f"pairs in {level:.0%}"] = float(((low <= e) & (e <= high)).mean())
        row[f"means in {level:.0%}"] = float(((low <= mean) & (mean <= high)).mean())
    said = table["proba_de"].to_numpy(float)
    bins = reliability(said, came)
    row["gap"] = gap(bins)
    for fdr in FDRS:
        called = discoveries(said, fdr)
        row[f"called at {fdr}"] = int(called.sum())
        row[f"false at {fdr}"] = float(1 - came[called].mean()) if called.any() else 0.0
        row[f"small at {fdr}"] = float((np.abs(mean[called]) < delta).mean()) if called.any() else 0.0
    return row, bins


def nulls(ask: Ask, sides: Iterator[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Where nothing differs: comparisons, the highest probability, and false calls at each stated rate."""
    said = [ask(*pair)["proba_de"].to_numpy(float) for pair in sides]
    calls = {f"called at {fdr}": float(np.mean([discoveries(p, fdr).sum() for p in said])) for fdr in FDRS}
    return {"comparisons": len(said), "highest probability": float(max(p.max() for p in said)), **calls}


def random_halves(rows: np.ndarray, repeats: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        mixed = rng.permutation(rows)
        yield np.sort(mixed[::2]), np.sort(mixed[1::2])


def of_made_cells(found: Learnt, repeats: int) -> pd.DataFrame:
    """Random halves of cells of the model itself."""
    rows, (methods, delta) = np.arange(found.cells.adata.n_obs), asked(found)
    if found.known.family is k.PEAKS:
        true = lambda one, two: np.abs(true_effects(found.known, found.cells, one, two))  # noqa: E731
        methods[TRUE_PAIRS] = lambda one, two: pd.DataFrame({"proba_de": (true(one, two) >= delta).mean(0)})
    return pd.DataFrame({name: nulls(ask, random_halves(rows, repeats)) for name, ask in methods.items()}).T


def of_real_cells(n_genes: int, epochs: int, repeats: int) -> pd.DataFrame:
    """Random halves of each of four types of sorted cells (``differential.py`` plants changes in them)."""
    adata = planted.cells(n_genes)
    rng = np.random.default_rng(0)
    sides = [planted.halves(adata, kind, rng) for kind in planted.TYPES for _ in range(repeats)]
    ours, theirs = planted.fit_ours(adata, epochs), planted.fit_peer(adata, epochs)
    out = {}
    for name, ask in askers(ours, theirs).items():
        say(f"real halves, {name}")
        out[name] = nulls(ask, iter(sides[::3] if name == WEIGHTED else sides))
    return pd.DataFrame(out).T
