"""Differential expression: the differential engine on expected proportions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
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


def differential_expression(
    self: Model,
    adata: AnnData | None = None,
    groupby: str | None = None,
    group1: str | Sequence[str] | None = None,
    group2: str | None = None,
    idx1: Any = None,
    idx2: Any = None,
    *,
    contrast: str | Sequence[str] | None = None,
    replicates: str | None = None,
    n_permutations: int = 0,
    mode: Literal["vanilla", "change"] = "vanilla",
    delta: float | None = 0.25,
    all_stats: bool = True,
    batch_correction: bool = False,
    batchid1: Sequence[Any] | None = None,
    batchid2: Sequence[Any] | None = None,
    fdr_target: float = 0.05,
    n_samples_overall: int = 5000,
    weights: Literal["uniform", "importance"] = "uniform",
    importance_cells: int = 200,
    filter_outlier_cells: bool = False,
    use_permutation: bool = False,
    m_permutation: int = 10_000,
    test_mode: Literal["two", "three"] = "three",
    pseudocounts: float | None = None,
    threshold_counts: float = 0.01,
    change_fn: engine.Effect | None = None,
    m1_domain_fn: Callable[[np.ndarray], np.ndarray] | None = None,
    cred_interval_lvls: Sequence[float] = (),
    seed: int | None = None,
    progress: bool | None = False,
) -> pd.DataFrame:
    r"""Genes that differ between groups of cells, with the posterior probability that they do. Group 1 against group 2: up is up in 1.

    Parameters
    ----------
    adata
        Other data than the model's.
    groupby, group1, group2
        A column of ``obs`` and the groups to compare. Without ``group1`` every group, without ``group2`` against the rest;
        all comparisons come from one decoding of draws.
    idx1, idx2
        Instead: row numbers, masks, or queries on ``obs`` (``"cell_type == 'B' and donor == 'd1'"``); without ``idx2`` the rest.
    contrast
        Inside every group of ``groupby`` (or of those in ``group1``), case against control: a column of ``obs`` with two levels,
        the second of which is the case, or ``(column, case, control)``.
    replicates
        Column of what was sampled (donors): adds the fold changes' spread over replicates, each against its own control cells
        where it has any, ``lfc_replicates_mean lfc_replicates_std replicates_agree n_replicates`` (change mode).
    n_permutations
        With a contrast in change mode: repeat it so often with case and control exchanged at random inside groups and
        replicates. ``table.attrs["permutations"]`` then says for each group what was called, and what is called of nothing.
    mode
        ``"vanilla"``: which side is higher. ``"change"``: is the log2 fold change beyond ``delta``.
    delta
        Smallest log2 fold change that counts; None estimates it.
    all_stats
        Add means of the raw counts.
    batch_correction
        Decode both sides in the same batches (those of ``batchid1`` and ``batchid2``, by default all).
    batchid1, batchid2
        Batches to decode in.
    fdr_target
        Expected share of false discoveries among ``is_de_fdr_<target>`` (change mode).
    n_samples_overall
        Posterior draws a group.
    weights, importance_cells
        ``"importance"`` corrects for how far :math:`q(z \mid x)` is from the true posterior, judged on at most so many cells a
        group (:func:`~scelbo.analysis.mixture.importance_weights`), tempered until a tenth of the draws count; slower, minutes for
        thousands of genes.
    filter_outlier_cells
        Leave out of each group the tenth of its cells that lies farthest from its robust centre in latent space
        (``sklearn.covariance.EllipticEnvelope``).
    use_permutation, m_permutation
        Compare ``m_permutation`` random pairs of draws rather than each draw with one other.
    test_mode
        ``"three"``: up, down or neither; ``"two"``: changed or not.
    pseudocounts, threshold_counts
        Added to proportions before the ratio; None estimates it from genes with a mean count below ``threshold_counts``.
    change_fn
        Own effect of two arrays (genes, draws) instead of the log2 ratio.
    m1_domain_fn
        Own say of which effects (genes, draws) count as a change, instead of ``delta`` and ``test_mode``.
    cred_interval_lvls
        Levels of credible intervals (highest density) of the fold change.
    seed
        The same seed gives the same table.
    progress
        Whether to show a bar.

    Returns
    -------
    One row a gene (and comparison), best first. vanilla: ``proba_m1 proba_m2 bayes_factor scale1 scale2``; change:
    ``proba_de proba_not_de bayes_factor scale1 scale2 pseudocounts delta lfc_mean lfc_median lfc_std lfc_min lfc_max``; both with
    ``raw_mean1 raw_mean2 non_zeros_proportion1 ... raw_normalized_mean1 ...`` (counts in 10,000), and with ``groupby``
    ``comparison group1 group2``. ``scale`` is the mean expected proportion.

    Raises
    ------
    ArgumentError
        A group, column or batch is unknown (the nearest is named), or a side has no cells.
    """
    self.require_trained()
    one_of("mode", mode, ("vanilla", "change"))
    one_of("test_mode", test_mode, ("two", "three"))
    one_of("weights", weights, ("uniform", "importance"))
    if not 0 < fdr_target < 1:
        raise ArgumentError(f"fdr_target={fdr_target!r} is not allowed: it is a share between 0 and 1.")
    source = self.source(adata)
    if (replicates is not None or n_permutations) and (contrast is None or mode != "change"):
        raise ArgumentError("replicates and n_permutations belong to a contrast.", "Add contrast='<obs column>' and mode='change'.")
    batches = _batches(self, batch_correction, batchid1, batchid2)
    test = engine.Test(mode, delta, test_mode, pseudocounts, change_fn, cred_interval_lvls, m1_domain_fn)
    anchors = importance_cells if weights == "importance" else None
    pairs = m_permutation if use_permutation else None

    def compare(asked: Design, stream: int) -> tuple[list[dict[str, np.ndarray]], RawSums]:
        kept = without_outliers(self, adata, asked) if filter_outlier_cells else asked
        draws = Draws(self, adata, kept, n_samples_overall, batches, settings.fresh_seed(seed) + stream, anchors, pairs)
        raw = RawSums(self, adata, kept)
        return _tables(draws, asked.comparisons, raw, test, threshold_counts, progress), raw

    if contrast is None:
        asked = design(source, groupby, group1, group2, idx1, idx2)
    else:
        asked = contrast_design(source, groupby, group1, contrast, replicates)
    tables, raw = compare(asked, 0)
    out = []
    for comparison, table in zip(asked.comparisons, tables, strict=True):
        frame = pd.DataFrame(table, index=pd.Index(self.setup.var_names))
        if all_stats:
            frame = frame.assign(**raw.columns(comparison))
        if mode == "change":
            frame[f"is_de_fdr_{fdr_target}"] = engine.discoveries(table["proba_de"], fdr_target)
        if comparison.within:
            frame[groupby or "group"] = comparison.within
        if asked.named:
            frame = frame.assign(comparison=f"{comparison.name1} vs {comparison.name2}", group1=comparison.name1, group2=comparison.name2)
        out.append(frame.sort_values("bayes_factor", ascending=False, kind="stable"))
    result = pd.concat(out)
    if contrast is not None and n_permutations:
        rng = np.random.default_rng(settings.fresh_seed(seed))
        called = lambda tables: [int(engine.discoveries(t["proba_de"], fdr_target).sum()) for t in tables]  # noqa: E731
        null = [
            dict(zip((c.within for c in at_random.comparisons), called(compare(at_random, i + 1)[0]), strict=True))
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
    features, sides = np.arange(draws.model.setup.n_vars), [draws.sides(c.pools1, c.pools2) for c in comparisons]
    if test.mode == "vanilla":
        return _tabulate(draws, features, sides, progress, lambda h1, h2, k: engine.vanilla(h1, h2))
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
    """``summarise(h1, h2, comparison number)`` over all features, with the mean of each side."""
    tables: list[dict[str, np.ndarray]] = [{} for _ in sides]
    for tile, decoded in draws.tiles(features, progress):
        for i in range(0, len(tile), FEATURES_AT_ONCE):
            block, here = decoded[i : i + FEATURES_AT_ONCE], tile[i : i + FEATURES_AT_ONCE]
            for k, (columns1, columns2) in enumerate(sides):
                h1, h2 = block[:, columns1], block[:, columns2]
                for name, values in (summarise(h1, h2, k) | {"scale1": h1.mean(1), "scale2": h2.mean(1)}).items():
                    tables[k].setdefault(name, np.empty(len(features), values.dtype))[here] = values
    return tables


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
    tables = _tabulate(draws, features, sides, progress, lambda h1, h2, k: engine.change(test.effect(h1, h2, eps[k]), delta[k], test))
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
