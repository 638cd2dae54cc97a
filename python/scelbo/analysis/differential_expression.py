"""Differential expression: the differential engine on expected proportions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo.analysis import differential as engine
from scelbo.analysis.compare import compare
from scelbo.arguments import named

if TYPE_CHECKING:
    from scelbo.model import Model


@named
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
    test = engine.Test(mode, delta, test_mode, pseudocounts, change_fn, cred_interval_lvls, m1_domain_fn)
    return compare(
        self, test, adata, groupby, group1, group2, idx1, idx2, contrast=contrast, replicates=replicates, n_permutations=n_permutations,
        all_stats=all_stats, batch_correction=batch_correction, batchid1=batchid1, batchid2=batchid2, fdr_target=fdr_target,
        n_samples_overall=n_samples_overall, weights=weights, importance_cells=importance_cells, filter_outlier_cells=filter_outlier_cells,
        use_permutation=use_permutation, m_permutation=m_permutation, threshold_counts=threshold_counts, seed=seed, progress=progress,
    )  # fmt: skip
