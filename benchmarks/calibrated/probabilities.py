"""Probabilities of labels, types and doublets beside what is true, of real cells that no training has seen a label of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import doublets
import labels
import markers
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from calibrated.posteriors import say
from calibrated.ranks import gap, reliability
from scelbo import CellAssign

Said = tuple[np.ndarray, np.ndarray]
"""A probability of each cell, and whether it came true."""


def of_labels(seed: int, epochs: int) -> dict[str, Said]:
    """scANVI's probability of the label that it gives: a third of the sorted cells is new."""
    task = labels.new_cells(seed)
    chosen = {"scelbo": labels.OURS, "scvi-tools": labels.PEER, "logistic regression": "logistic regression"}
    out = {}
    for name, method in chosen.items():
        say(f"labels, {name}")
        chance = labels.METHODS[method](task, seed, epochs=epochs).chance
        out[name] = chance.max(axis=1).to_numpy(), chance.idxmax(axis=1).to_numpy() == task.truth
    return out


def of_types(seed: int, epochs: int | None) -> dict[str, Said]:
    """CellAssign's probability of the type that it gives, by markers alone; logistic regression on them learns from half of the labels."""
    import scvi

    adata, table = markers.sorted_cells()
    truth = adata.obs[markers.TRUTH].astype(str).to_numpy()
    say("types, scelbo")
    CellAssign.setup_anndata(adata)
    ours = CellAssign(adata, table)
    ours.train(epochs, seed=seed, accelerator="cpu", progress=False)
    size = np.asarray(adata.X.sum(1)).ravel()
    part = adata[:, table.index].copy()
    part.obs["size"] = size / size.mean()
    say("types, scvi-tools")
    scvi.settings.seed = seed
    scvi.external.CellAssign.setup_anndata(part, size_factor_key="size")
    theirs = scvi.external.CellAssign(part, table)
    theirs.train(**({"max_epochs": epochs} if epochs else {}), accelerator="cpu", enable_progress_bar=False)
    x = np.log1p(part.X.toarray() / size[:, None] * 1e4)
    half = np.random.default_rng(seed).random(len(x)) < 0.5
    fit = LogisticRegression(max_iter=2000).fit(x[half], truth[half])
    simple = pd.DataFrame(fit.predict_proba(x[~half]), columns=fit.classes_)
    return {
        "scelbo": named(ours.predict(soft=True), truth),
        "scvi-tools": named(theirs.predict(), truth),
        "logistic regression, half of the labels": named(simple, truth[~half]),
    }


def named(chance: pd.DataFrame, truth: np.ndarray) -> Said:
    return chance.max(axis=1).to_numpy(), chance.idxmax(axis=1).astype(str).to_numpy() == truth


def of_doublets(seeds: int) -> dict[str, Said]:
    """SOLO's probability of a doublet: sums of sorted cells planted among others; a simple one from the share of simulated neighbours."""
    adata = doublets.planted()
    truth = adata.obs["truth"].to_numpy()
    methods: dict[str, Callable[..., np.ndarray]] = {
        "scelbo": doublets.ours,
        "scvi-tools": doublets.peer,
        "simulated neighbours": doublets.neighbours,
    }
    out = {}
    for name, find in methods.items():
        say(f"doublets, {name}")
        out[name] = np.concatenate([find(adata.copy(), seed) for seed in range(seeds)]), np.tile(truth, seeds)
    return out


def tables(said: dict[str, Said], bins: int = 10) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """A row a method, and its reliability."""
    by = {name: reliability(*pair, bins) for name, pair in said.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, (chance, true) in said.items():
        sure = chance > 0.95
        rows[name] = {
            "cells": len(chance),
            "stated": chance.mean(),
            "came": true.mean(),
            "calibration error": gap(by[name]),
            "Brier": float(((chance - true) ** 2).mean()),
            "above 0.95": sure.mean(),
            "of them true": true[sure].mean() if sure.any() else np.nan,
        }
    return pd.DataFrame(rows).T, by
