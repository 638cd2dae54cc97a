r"""Differential abundance: where in latent space samples of one condition have more of their cells than samples of another.

How much of sample s lies at a cell n is the density of its aggregated posterior there,
:math:`\log \bar q_s(z_n) = \log \frac{1}{N_s} \sum_{m \in s,\, m \ne n} q(z_n \mid x_m)`; without leaving out n itself a cell would
always lie where its own sample is. A density at a point is too noisy to test, so the test counts what it smooths: the neighbours of n in
latent space that each sample has, :math:`y_{ns} = \log \frac{c_{ns} + 1/2}{N_s}` (neighbourhoods as in Milo; Dann et al., Nature
Biotechnology 40:245, 2022). Samples, not cells, are what can vary by chance: a t-test compares :math:`y_{ns}` between conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
import torch
from anndata import AnnData
from torch import Tensor

from scelbo import settings
from scelbo.analysis.contrast import contrast_levels, text_of
from scelbo.analysis.mixture import posteriors
from scelbo.arguments import question
from scelbo.data import at_most
from scelbo.errors import ArgumentError

if TYPE_CHECKING:
    from scelbo.model import Model

CELLS_AT_ONCE = 256
NEIGHBORS_A_SAMPLE = 25
TINY = 1e-12


@question
def differential_abundance(
    self: Model,
    adata: AnnData | None = None,
    sample_key: str = "",
    contrast: str | Sequence[str] | None = None,
    pair_key: str | None = None,
    *,
    n_neighbors: int | None = None,
    num_cells_posterior: int | None = 1000,
    dof: float | None = 3.0,
    fdr_target: float = 0.05,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    r"""Where case samples have more cells than control samples; without a contrast the density of every sample at each cell.

    Parameters
    ----------
    adata
        Other data than the model's.
    sample_key
        Column of ``obs`` with what was sampled (a donor, or a donor under one condition).
    contrast
        A column of ``obs`` with two levels, constant within a sample, the second of which is the case, or
        ``(column, case, control)``. None gives the densities.
    pair_key
        Column with what case and control samples have in common (the donor): they are then compared in pairs.
    n_neighbors
        Size of a neighbourhood; None: 25 a sample, at most a tenth of the cells.
    num_cells_posterior, dof
        Of the densities: at most so many cells stand for a sample, chosen at random (None: all); Student's t around each (None: normal,
        whose density between cells falls to nothing).
    fdr_target
        Benjamini and Hochberg's rate for ``is_da_fdr_<target>``.
    batch_size, seed, progress
        Cells encoded at once; of the choice of cells; whether to show a bar.

    Returns
    -------
    One row a cell. With a contrast: ``log_fold_change`` (log2 of the share of case samples around it against that of control samples:
    up is up in the case), ``t``, ``p_value``, ``fdr``, ``is_da_fdr_<target>``; cells of samples on neither side are tested too. Shares
    sum to one: where one type grows, the others shrink. Without: one column a sample, :math:`\log \bar q_s(z_n)` in nats.

    Raises
    ------
    ArgumentError
        A column or level is unknown, a sample is on both sides, or a side has fewer than two samples.
    """
    from sklearn.neighbors import NearestNeighbors  # takes long

    self.require_trained()
    source = self.source(adata)
    sample = text_of(source, sample_key)
    names = sorted(set(sample) - {""})
    sides = None if contrast is None else _sides(source, sample, contrast, pair_key)
    loc, scale = posteriors(self, adata, None, batch_size)
    if sides is not None:
        k = n_neighbors or min(NEIGHBORS_A_SAMPLE * len(names), max(2, len(loc) // 10))
        near = NearestNeighbors(n_neighbors=k).fit(loc.cpu().numpy()).kneighbors(return_distance=False)  # without the cell itself
        share = {name: np.log(((sample[near] == name).sum(1) + 0.5) / (sample == name).sum()) for name in [*sides[0], *sides[1]]}
        return _tested(pd.DataFrame(share, index=source.obs_names), *sides, paired=pair_key is not None, fdr_target=fdr_target)
    rng, density = np.random.default_rng(settings.fresh_seed(seed)), np.empty((len(loc), len(names)))
    with settings.task("Densities", len(names), progress) as work:
        for k, name in enumerate(names):
            rows = np.flatnonzero(sample == name)
            rows = at_most(rows, len(rows) if num_cells_posterior is None else num_cells_posterior, rng)
            density[:, k] = _log_density(loc, loc[rows], scale[rows], rows, dof)
            work.step()
    return pd.DataFrame(density, index=source.obs_names, columns=names)


def _log_density(at: Tensor, loc: Tensor, scale: Tensor, rows: np.ndarray, dof: float | None) -> np.ndarray:
    """Log of the even mixture around ``loc`` at every point (cells,); the point that is component j itself (``rows[j]``) leaves j out."""
    itself = torch.full((len(at),), -1, device=at.device)
    itself[torch.from_numpy(rows)] = torch.arange(len(rows), device=at.device)
    kernel = torch.distributions.Normal(0.0, 1.0) if dof is None else torch.distributions.StudentT(dof)
    norm, out = scale.log().sum(-1), torch.empty(len(at), dtype=torch.float64)
    for i in range(0, len(at), CELLS_AT_ONCE):
        here, own = at[i : i + CELLS_AT_ONCE], itself[i : i + CELLS_AT_ONCE]
        logs = kernel.log_prob((here[:, None] - loc) / scale).sum(-1) - norm
        member = (own >= 0).nonzero()[:, 0]
        logs[member, own[member]] = -torch.inf
        out[i : i + len(here)] = logs.double().logsumexp(1) - (len(loc) - (own >= 0).double()).clamp_min(1).log()
    return out.numpy()


def _sides(adata: AnnData, sample: np.ndarray, contrast: str | Sequence[str], pair_key: str | None) -> tuple[list[str], list[str]]:
    """Samples of the case and of the control; paired, in the same order."""
    column, case, control = contrast_levels(adata, contrast)
    about = pd.DataFrame(
        {"sample": sample, "level": text_of(adata, column), "pair": sample if pair_key is None else text_of(adata, pair_key)}
    )
    about = about[(about["sample"] != "") & about["level"].isin([case, control])].drop_duplicates()
    twice = about["sample"][about["sample"].duplicated()].unique()
    if len(twice):
        raise ArgumentError(
            f"{column!r} (or the pair) changes within {len(twice)} samples, e.g. {twice[0]!r}.",
            "A sample is of one condition and one pair: make a column of both, such as donor + condition, and name it as sample_key.",
        )
    by_level = {level: about[about["level"] == level].set_index("pair")["sample"] for level in (case, control)}
    if pair_key is not None:
        both = sorted(set(by_level[case].index) & set(by_level[control].index))
        by_level = {level: samples[~samples.index.duplicated()].loc[both] for level, samples in by_level.items()}
    for level, samples in by_level.items():
        if len(samples) < 2:
            what = f"{len(samples)} sample(s) of {column} {level!r}" + (" in a pair" if pair_key is not None else "")
            raise ArgumentError(f"There are {what}: a test needs two.", "Without contrast= the densities are given.")
    return by_level[case].tolist(), by_level[control].tolist()


def _tested(share: pd.DataFrame, case: list[str], control: list[str], *, paired: bool, fdr_target: float) -> pd.DataFrame:
    """Student's t-test, paired or with one variance, of every cell's log shares."""
    a, b = share[case].to_numpy(), share[control].to_numpy()
    effect = a.mean(1) - b.mean(1)
    if paired:
        df, error = len(case) - 1, (a - b).var(1, ddof=1) / len(case)
    else:
        df = len(case) + len(control) - 2
        error = (a.var(1) * len(case) + b.var(1) * len(control)) / df * (1 / len(case) + 1 / len(control))
    statistic = np.where(effect == 0, 0.0, effect / np.sqrt(np.maximum(error, TINY)))
    p = 2 * scipy.stats.t.sf(np.abs(statistic), df)
    fdr = scipy.stats.false_discovery_control(p)
    columns = {
        "log_fold_change": effect / np.log(2),
        "t": statistic,
        "p_value": p,
        "fdr": fdr,
        f"is_da_fdr_{fdr_target}": fdr <= fdr_target,
    }
    return pd.DataFrame(columns, index=share.index)
