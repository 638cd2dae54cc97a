"""Comparisons of groups of cells: draws of both sides, decoded tile by tile, through the differential engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis import differential as engine
from scelbo.analysis.contrast import contrast_design, shuffled
from scelbo.analysis.draws import Draws, RawSums, without_outliers
from scelbo.analysis.groups import Comparison, Design, design
from scelbo.errors import ArgumentError, one_of

if TYPE_CHECKING:
    from scelbo.model import Model

FEATURES_AT_ONCE = 256
"""Features whose draws are summarised together: they stay in the processor's cache."""


def compare(
    model: Model,
    test: engine.Test,
    adata: AnnData | None,
    groupby: str | None,
    group1: str | Sequence[str] | None,
    group2: str | None,
    idx1: Any,
    idx2: Any,
    *,
    contrast: str | Sequence[str] | None,
    replicates: str | None,
    n_permutations: int,
    all_stats: bool,
    batch_correction: bool,
    batchid1: Sequence[Any] | None,
    batchid2: Sequence[Any] | None,
    fdr_target: float,
    n_samples_overall: int,
    weights: Literal["uniform", "importance"],
    importance_cells: int,
    filter_outlier_cells: bool,
    use_permutation: bool,
    m_permutation: int,
    threshold_counts: float,
    seed: int | None,
    progress: bool | None,
    of: str = "x",
    read: Callable[[Any], torch.Tensor] | None = None,
) -> pd.DataFrame:
    """What ``test`` says of every feature, in every comparison asked for: the table that the adapters name the columns of.

    ``of``: the field whose features these are; ``read``: what is compared of their likelihood (None: its scale).
    The other arguments are those of :func:`~scelbo.analysis.differential_expression`, whose defaults are everybody's.
    """
    model.require_trained()
    one_of("mode", test.mode, ("vanilla", "change"))
    one_of("test_mode", test.test_mode, ("two", "three"))
    one_of("weights", weights, ("uniform", "importance"))
    if not 0 < fdr_target < 1:
        raise ArgumentError(f"fdr_target={fdr_target!r} is not allowed: it is a share between 0 and 1.")
    source = model.source(adata)
    if (replicates is not None or n_permutations) and (contrast is None or test.mode != "change"):
        raise ArgumentError("replicates and n_permutations belong to a contrast.", "Add contrast='<obs column>' and mode='change'.")
    batches = _batches(model, batch_correction, batchid1, batchid2)
    anchors = importance_cells if weights == "importance" else None
    pairs = m_permutation if use_permutation else None

    def tabulate(asked: Design, stream: int) -> tuple[list[dict[str, np.ndarray]], RawSums]:
        kept = without_outliers(model, adata, asked) if filter_outlier_cells else asked
        of_seed = settings.fresh_seed(seed) + stream
        draws = Draws(model, adata, kept, n_samples_overall, batches, of_seed, anchors, pairs, of, read, test.mode == "vanilla")
        raw = RawSums(model, adata, kept, of)
        return _tables(draws, asked.comparisons, raw, test, threshold_counts, progress), raw

    if contrast is None:
        asked = design(source, groupby, group1, group2, idx1, idx2)
    else:
        asked = contrast_design(source, groupby, group1, contrast, replicates)
    tables, raw = tabulate(asked, 0)
    out = []
    for comparison, table in zip(asked.comparisons, tables, strict=True):
        frame = pd.DataFrame(table, index=pd.Index(model.setup.features[of]))
        if all_stats:
            frame = frame.assign(**raw.columns(comparison))
        if test.mode == "change":
            frame[f"is_de_fdr_{fdr_target}"] = engine.discoveries(table["proba_de"], fdr_target)
        if comparison.within:
            frame[groupby or "group"] = comparison.within
        if asked.named:
            frame = frame.assign(comparison=f"{comparison.name1} vs {comparison.name2}", group1=comparison.name1, group2=comparison.name2)
        size = np.abs(table["lfc_mean"] if "lfc_mean" in table else table["scale1"] - table["scale2"])
        out.append(frame.iloc[np.lexsort((-size, -table["bayes_factor"]))])  # where all draws agree, the larger effect first
    result = pd.concat(out)
    if contrast is not None and n_permutations:
        rng = np.random.default_rng(settings.fresh_seed(seed))
        called = lambda tables: [int(engine.discoveries(t["proba_de"], fdr_target).sum()) for t in tables]  # noqa: E731
        null = [
            dict(zip((c.within for c in at_random.comparisons), called(tabulate(at_random, i + 1)[0]), strict=True))
            for i in range(n_permutations)
            for at_random in [contrast_design(shuffled(source, groupby, contrast, replicates, rng), groupby, group1, contrast, None)]
        ]
        result.attrs["permutations"] = [
            {"group": c.within, "called": n, "called_of_nothing": float(np.mean([run.get(c.within, 0) for run in null]))}
            for c, n in zip(asked.comparisons, called(tables), strict=True)
        ]
    return result


def _tables(
    draws: Draws, comparisons: list[Comparison], raw: RawSums, test: engine.Test, threshold: float, progress: bool | None
) -> list[dict[str, np.ndarray]]:
    """What the engine says of every comparison, one table each."""
    features, sides = np.arange(draws.n_features), [draws.sides(c.pools1, c.pools2) for c in comparisons]
    if test.mode == "vanilla":
        return _vanilla(draws, features, sides, progress)
    tables = _change(draws, features, sides, comparisons, raw, test, threshold, progress)
    of = [k for k, c in enumerate(comparisons) for _ in c.replicates]
    pairs = [draws.sides(*pair) for c in comparisons for pair in c.replicates]
    eps = [table["pseudocounts"][0] for table in tables]
    each = _tabulate(draws, features, pairs, progress, lambda h1, h2, r: {"lfc": test.effect(h1, h2, eps[of[r]]).mean(1)})
    for k, table in enumerate(tables):
        if comparisons[k].replicates:
            lfc = np.stack([e["lfc"] for e, owner in zip(each, of, strict=True) if owner == k])
            table.update(engine.spread(lfc, table["lfc_mean"]))
    return tables


def _tabulate(draws: Draws, features: np.ndarray, sides: Any, progress: bool | None, summarise: Any) -> list[dict[str, np.ndarray]]:
    """``summarise(h1, h2, comparison number)`` over all features."""
    tables: list[dict[str, np.ndarray]] = [{} for _ in sides]
    if not sides:
        return tables
    for tile, decoded in draws.tiles(features, progress):
        for i in range(0, len(tile), FEATURES_AT_ONCE):
            block, here = decoded[i : i + FEATURES_AT_ONCE], tile[i : i + FEATURES_AT_ONCE]
            for k, (columns1, columns2) in enumerate(sides):
                h1, h2 = block[:, columns1], block[:, columns2]
                for name, values in summarise(h1, h2, k).items():
                    tables[k].setdefault(name, np.empty(len(features), values.dtype))[here] = values
    return tables


def _vanilla(draws: Draws, features: np.ndarray, sides: Any, progress: bool | None) -> list[dict[str, np.ndarray]]:
    """Vanilla mode, a pass over the draws as they were decoded."""
    rows, parts = [[np.arange(len(draws.cells))[columns] for columns in pair] for pair in sides], []
    for _, decoded in draws.tiles(features, progress):
        parts.append([engine.vanilla(decoded.T, *pair) for pair in rows])
    return [{name: np.concatenate([part[k][name] for part in parts]) for name in parts[0][k]} for k in range(len(rows))]


def _change(
    draws: Draws,
    features: np.ndarray,
    sides: Any,
    comparisons: list[Comparison],
    raw: RawSums,
    test: engine.Test,
    threshold: float,
    progress: bool | None,
) -> list[dict[str, np.ndarray]]:
    """Change mode: the pseudocount, then delta where it is to be estimated, then the probabilities."""
    eps = [0.0 if test.pseudocounts is None else test.pseudocounts] * len(sides)
    if test.pseudocounts is None and test.change_fn is None:
        peaks = _tabulate(draws, features, sides, progress, lambda h1, h2, k: {"peak1": h1.max(1), "peak2": h2.max(1)})
        eps = [
            engine.pseudocount(p["peak1"], p["peak2"], raw.mean(c.pools1) < threshold, raw.mean(c.pools2) < threshold)
            for p, c in zip(peaks, comparisons, strict=True)
        ]
    if test.delta is not None:
        delta = [test.delta] * len(sides)
    else:
        means = _tabulate(draws, features, sides, progress, lambda h1, h2, k: {"mean": test.effect(h1, h2, eps[k]).mean(1)})
        delta = [engine.estimated_delta(m["mean"]) for m in means]

    tables = _tabulate(draws, features, sides, progress, lambda h1, h2, k: engine.change(h1, h2, eps[k], delta[k], test))
    first = ["proba_de", "proba_not_de", "bayes_factor", "scale1", "scale2"]
    out = []
    for k, table in enumerate(tables):
        head = {name: table.pop(name) for name in first}
        constant = {"pseudocounts": np.full(len(features), eps[k]), "delta": np.full(len(features), delta[k])}
        out.append(head | constant | table)
    return out


def _batches(model: Model, correct: bool, batchid1: Sequence[Any] | None, batchid2: Sequence[Any] | None) -> np.ndarray | None:
    """Codes of the batches that both sides are decoded in."""
    given = {
        i: None if ids is None else sorted({model.setup.code("batch", b) for b in ids}) for i, ids in (("1", batchid1), ("2", batchid2))
    }
    if not correct:
        if given["1"] or given["2"]:
            raise ArgumentError("batchid1 and batchid2 say in which batches to decode.", "Add batch_correction=True.")
        return None
    if given["1"] and given["2"] and given["1"] != given["2"]:
        raise ArgumentError(
            "batchid1 and batchid2 differ: a difference between batches would count as one between groups.",
            "Give the same batches on both sides.",
        )
    return np.array(given["1"] or given["2"] or range(len(model.setup.categories["batch"])))
