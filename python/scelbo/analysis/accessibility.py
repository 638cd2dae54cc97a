"""Open chromatin once the cell's depth, the region and the batch are taken out, and where it differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from scelbo import settings
from scelbo.analysis.compare import compare
from scelbo.analysis.decode import counterfactuals, decode_at, genes_of, names_of, rows_at_once
from scelbo.analysis.differential import Test
from scelbo.analysis.differential_expression import differential_expression
from scelbo.arguments import question, takes_also
from scelbo.data import index_of
from scelbo.errors import ArgumentError
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

DENSE = 2**29
"""Bytes of a dense result that is made without being asked for."""


@question
def normalized_accessibility(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    region_list: Sequence[str] | None = None,
    transform_batch: Any = None,
    transform: dict[str, Any] | None = None,
    use_z_mean: bool = True,
    n_samples_overall: int | None = None,
    threshold: float | None = None,
    normalize_cells: bool = False,
    normalize_regions: bool = False,
    batch_size: int | None = None,
    return_numpy: bool = False,
    seed: int | None = None,
    progress: bool | None = False,
) -> pd.DataFrame | np.ndarray | sparse.csr_matrix:
    r"""Probability y that each region is open in cells like each of these.

    Parameters
    ----------
    adata, indices
        Which cells.
    region_list
        Names of regions; a name that the model does not know is an error.
    transform_batch, transform
        Decode the cells as if they were from this batch (from several, the average), or with other covariates.
    use_z_mean
        Decode the mean of :math:`q(z \mid x)` (else one draw).
    n_samples_overall
        Instead of every cell once, so many draws from cells chosen at random.
    threshold
        Leave out what is below it: a sparse matrix.
    normalize_cells, normalize_regions
        Times the cells' factors l, and the regions' factors r: with both, the probability of being seen.
    batch_size
        Cells at once.
    return_numpy
        An array, of whatever size.
    seed, progress
        Of the draws; whether to show a bar.

    Returns
    -------
    Data frame cells x regions of probabilities; with ``threshold`` a sparse matrix.

    Raises
    ------
    ArgumentError
        A region or batch is unknown (the nearest is named), or the table would be large and was not asked for as an array.
    """
    self.require_trained()
    regions, views = genes_of(self, region_list, self.regions), counterfactuals(self, transform_batch, transform)
    source = self.source(adata)
    module: Any = self.module
    index = index_of(source.n_obs, indices)
    names = names_of(self, regions, self.regions)
    n = len(index) if n_samples_overall is None else n_samples_overall
    if threshold is None and not return_numpy and 4 * n * len(names) > DENSE:
        raise ArgumentError(
            f"{n:,} cells x {len(names):,} regions would be a dense table of {4 * n * len(names) / 2**30:.1f} GB.",
            "Choose regions (region_list=...), a threshold, which gives a sparse matrix, or return_numpy=True.",
        )
    parts: list[sparse.csr_matrix] = []
    with settings.private_seed(seed) as rng, settings.task("Decoding", n, progress) as work:
        if n_samples_overall is not None:
            index, use_z_mean = rng.choice(index, n), False
        values = np.empty((n if threshold is None else 0, len(names)), np.float32)
        for cells in self.batches(adata, index, batch_size or rows_at_once(len(names))):
            q = module.posterior(cells) if normalize_cells else module.posterior_of_scale(cells)
            z = draw(q, None if use_z_mean else 1, mean=use_z_mean)
            here = None if threshold is not None else values[work.done : work.done + len(cells)]
            y = decode_at(self, z, cells, views, genes=regions, of=self.regions, out=here if use_z_mean or here is None else here[None])
            if normalize_cells:
                y = y * z.depth.sigmoid()
            if normalize_regions:
                y = y * module.region_factors()[slice(None) if regions is None else torch.from_numpy(regions)]
            if here is None:
                part = y.reshape(len(cells), -1).cpu().numpy()
                parts.append(sparse.csr_matrix(np.where(part >= threshold, part, 0)))
            elif normalize_cells or normalize_regions:
                here[:] = y.reshape(len(cells), -1).cpu().numpy()
            work.step(len(cells))
    if threshold is not None:
        return sparse.vstack(parts, format="csr")
    return values if return_numpy else pd.DataFrame(values, index=source.obs_names[index], columns=names)


@question
def library_size_factors(self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None) -> np.ndarray:
    """The cells' factors l, (cells, 1): how much of what is open was seen."""
    self.require_trained()
    module: Any = self.module
    return torch.cat([module.posterior(cells).depth.mean.sigmoid() for cells in self.batches(adata, indices, batch_size)]).cpu().numpy()


@question
def factors_by_modality(self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None) -> pd.DataFrame:
    """What depth did to each cell; not a number where a modality was not measured.

    Returns
    -------
    Data frame: ``expression``, the RNA's library size (counts), and ``accessibility``, the cell's factor l.
    """
    self.require_trained()
    module: Any = self.module
    parts = []
    for cells in self.batches(adata, indices, batch_size):
        q = module.posterior(cells)
        known = {"expression": q.log_l.mean.exp(), "accessibility": q.depth.mean.sigmoid()}
        there = [
            torch.where(module.by_modality(q, name).mean[:, :1].isnan(), torch.nan, known[name]) for name in known if name in module.encoded
        ]
        parts.append(torch.cat(there, 1).cpu().numpy())
    return pd.DataFrame(
        np.concatenate(parts), index=self.cell_names(adata, indices), columns=[name for name in known if name in module.encoded]
    )


@question
def region_factors(self: Model) -> np.ndarray:
    """The regions' factors r, (regions,): how readily each is seen."""
    self.require_trained()
    module: Any = self.module
    return module.region_factors().cpu().numpy()


@takes_also(differential_expression, without=("pseudocounts", "change_fn", "m1_domain_fn", "cred_interval_lvls"))
def differential_accessibility(
    self: Model,
    adata: AnnData | None = None,
    groupby: str | None = None,
    group1: str | Sequence[str] | None = None,
    group2: str | None = None,
    idx1: Any = None,
    idx2: Any = None,
    *,
    two_sided: bool = True,
    mode: Literal["vanilla", "change"] = "change",
    test_mode: Literal["two", "three"] = "three",
    delta: float = 0.05,
    all_stats: bool = True,
    fdr_target: float = 0.05,
    **more: Any,
) -> pd.DataFrame:
    r"""Regions that are open more often in one group of cells than in another. Group 1 against group 2: up is more open in 1.

    The effect is the difference of probabilities, :math:`e = y_1 - y_2`, over pairs of posterior draws, one of each group; ``prob_da`` is
    :math:`\max(P(e \ge \delta), P(e < -\delta))`: that pairs differ in *one direction*. It is at most one half where groups are alike,
    however unlike their cells are among themselves. Further arguments are those of :func:`~scelbo.analysis.differential_expression`:
    ``contrast, replicates, batch_correction, weights, n_samples_overall, seed, ...``

    Parameters
    ----------
    adata, groupby, group1, group2, idx1, idx2
        Which cells, as in :func:`~scelbo.analysis.differential_expression`; without ``group2`` against the rest.
    two_sided
        Either direction (True), or only higher in group 1: :math:`P(e \ge \delta)`.
    mode
        ``"change"``: beyond ``delta``; ``"vanilla"``: which is higher.
    test_mode
        ``"three"``: the more probable direction; ``"two"``: the sum of both, that two cells differ at all, as published. That is also
        high where the cells *within* each group differ, so it is for groups of one kind of cells.
    delta
        Smallest difference of probabilities that counts.
    all_stats
        Add what was seen: ``emp_effect emp_prob1 emp_prob2``.
    fdr_target
        Expected share of false discoveries among ``is_da_fdr``.

    Returns
    -------
    One row a region (and comparison), best first: ``prob_da is_da_fdr bayes_factor effect_size emp_effect est_prob1 est_prob2
    emp_prob1 emp_prob2``, with ``effect_size = est_prob1 - est_prob2`` and ``emp_effect = emp_prob1 - emp_prob2`` (shares of cells in
    which the region was seen), with ``groupby`` ``comparison group1 group2``, and with ``replicates`` ``effect_replicates_mean
    effect_replicates_std replicates_agree n_replicates``.
    """
    if not two_sided and test_mode == "two":
        raise ArgumentError("two_sided=False asks for one direction, test_mode='two' for both.", "Leave out one of them.")
    one_sided = None if two_sided else lambda effect: effect >= delta
    test = Test(mode, delta, test_mode, change_fn=np.subtract, m1_domain_fn=one_sided, described=False)
    table = compare(self, test, adata, groupby, group1, group2, idx1, idx2, all_stats=True, fdr_target=fdr_target, of=self.regions, **more)
    seen = [f"non_zeros_proportion{side}" for side in "12"]
    if all_stats and set(seen) <= set(table):
        table["emp_effect"] = table[seen[0]] - table[seen[1]]
    else:
        table = table.drop(columns=seen, errors="ignore")
    table["effect_size"] = table["scale1"] - table["scale2"]
    names = {
        "proba_de" if mode == "change" else "proba_m1": "prob_da", f"is_de_fdr_{fdr_target}": "is_da_fdr", "bayes_factor": "bayes_factor",
        "effect_size": "effect_size", "emp_effect": "emp_effect", "scale1": "est_prob1", "scale2": "est_prob2",
        **dict(zip(seen, ("emp_prob1", "emp_prob2"), strict=True)),
        **{f"lfc_replicates_{name}": f"effect_replicates_{name}" for name in ("mean", "std")},
        **{name: name for name in ("replicates_agree", "n_replicates", groupby or "group1", "comparison", "group1", "group2")},
    }  # fmt: skip
    return table[[name for name in names if name in table]].rename(columns=names)
