"""Would the model have produced these counts? Its draws beside what was counted, gene by gene and value by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.decode import explained_fields
from scelbo.arguments import question
from scelbo.data import Counts, at_most, index_of
from scelbo.data.counts import mask_of
from scelbo.likelihoods import Accessibility, Normal
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

LEVELS = (0.5, 0.8, 0.9, 0.95)
BINS = 40
"""Of the ranks: each level's interval ends where a bin does."""
CELLS, VALUES, VALUES_AT_ONCE = 2000, 2 * 10**8, 2**22
"""Cells at most; values drawn at most (half a minute on one core), unless the number of cells is given; values drawn together."""


@dataclass(frozen=True, repr=False)
class PredictiveCheck:
    """What the model draws beside what was observed.

    Attributes
    ----------
    genes
        A row a gene: ``mean``, ``variance`` and, for counts, ``zeros`` (share of cells) and ``cv`` (standard deviation / mean;
        missing for a gene without counts) over cells, each as ``_observed``, ``_drawn`` (mean over draws) and ``_outside``
        (whether the observed one lies beyond all draws); ``coverage_90``: share of cells inside the central 90 % interval. Of
        models of several modalities a row a feature of each, with the column ``modality``, over the cells in which it was measured.
    calibration
        A row a level: the share of values inside the central interval of that level. ``all`` values, most of them zeros that
        no model gets wrong; ``expressed``: where the model expects one count or more (missing where it never does).
        A right model has the level itself, both times.
    ranks
        A row a bin from 0 to 1, with the share of values whose rank among their draws is there: uniform for a right model.
    outside
        Statistic -> share of genes whose observed one lies beyond all draws; ``expected_outside`` is a right model's.
    n_cells, n_samples, held_out
        Cells, draws of each, and whether the cells were kept from training.
    """

    genes: pd.DataFrame
    calibration: pd.DataFrame
    ranks: pd.DataFrame
    n_cells: int
    n_samples: int
    held_out: bool

    @property
    def statistics(self) -> list[str]:
        """Those compared: ``mean``, ``variance`` and, for counts, ``zeros`` and ``cv``."""
        return [name.removesuffix("_observed") for name in self.genes if name.endswith("_observed")]

    @property
    def outside(self) -> dict[str, float]:
        return {name: float(self.genes[f"{name}_outside"].mean()) for name in self.statistics}

    @property
    def expected_outside(self) -> float:
        """2 / (draws + 1): the observed one is as likely as any draw to be the lowest or the highest."""
        return 2 / (self.n_samples + 1)

    @property
    def coverage(self) -> pd.Series:
        """By level, of the values that tell: where counts are expected, or of all where none are."""
        return self.calibration["expressed"].fillna(self.calibration["all"])

    @property
    def miscalibration(self) -> float:
        """The largest difference between a level and its coverage."""
        return float((self.coverage - self.coverage.index.to_numpy()).abs().max())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {share:.1%}" for name, share in self.outside.items())
        cover = ", ".join(f"{level:.0%}: {share:.1%}" for level, share in self.coverage.items())
        cells = f"{self.n_cells:,} {'held-out ' if self.held_out else ''}cells, {self.n_samples} draws"
        return f"{cells}\ncoverage of central intervals: {cover}\ngenes beyond all draws (expected {self.expected_outside:.1%}): {shown}"


@question
def posterior_predictive_check(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 25,
    n_cells: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> PredictiveCheck:
    r"""Compare counts with draws :math:`\tilde x \sim p(x \mid z),\ z \sim q(z \mid x)` of the same cells.

    The rank of a value among its S draws is :math:`u = (\#\{\tilde x < x\} + v\,(\#\{\tilde x = x\} + 1)) / (S + 1)` with v uniform:
    ties, of which counts have many, are broken at random, so that u is uniform where the model is right (Czado et al.,
    Biometrics 65:1254, 2009, doi:10.1111/j.1541-0420.2009.01191.x). As z has seen x, a model with many latents and few genes
    looks a little better than it is.

    Parameters
    ----------
    adata, indices
        Which cells; by default those held out from training, or all where there are none.
    n_samples
        S: draws a cell.
    n_cells
        At most so many cells, chosen at random; by default 2,000, or fewer where there are many genes.
    batch_size
        Cells at once; by default as few as keep memory small.
    seed
        Of the draws.

    Returns
    -------
    :class:`PredictiveCheck`: ``.genes`` and ``.calibration`` are data frames.

    Examples
    --------
    >>> from scelbo import SCVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(200, 50)
    >>> SCVI.setup_anndata(adata)
    >>> model = SCVI(adata)
    >>> model.train(max_epochs=2, progress=False)
    >>> check = model.posterior_predictive_check()
    >>> check.n_cells, check.held_out, list(check.calibration.index)
    (20, True, [0.5, 0.8, 0.9, 0.95])
    """
    self.require_trained()
    index, held_out = cells_to_check(self, adata, indices)
    fields, module = explained_fields(self), self.module
    features = sum(len(self.setup.features[of]) for of in fields.values())
    size = batch_size or max(1, VALUES_AT_ONCE // (n_samples * features))
    tallies = {name: _Tally(n_samples) for name in fields}
    with settings.private_seed(seed) as rng:
        index = at_most(index, n_cells or max(2, min(CELLS, VALUES // (n_samples * features))), rng)
        for cells in self.batches(adata, index, size):
            explained = module.generative(draw(module.posterior(cells), n_samples), cells)  # type: ignore[operator]
            for name, of in fields.items():
                tallies[name].add(getattr(explained, of), getattr(cells, of), module.measured_in(cells, of))  # type: ignore[operator]
    tables = [tally.table(self.setup.features[fields[name]]) for name, tally in tallies.items()]
    if len(tables) > 1:
        tables = [table.assign(modality=name) for name, table in zip(tallies, tables, strict=True)]
    ranks = sum(tally.ranks for tally in tallies.values())
    shares = pd.DataFrame((ranks / np.maximum(ranks.sum(1, keepdims=True), 1)).T, columns=["expressed", "all"])  # type: ignore[union-attr]
    shares.index = pd.Index((np.arange(BINS) + 0.5) / BINS, name="rank")
    if not ranks[0].sum():  # type: ignore[index]
        shares["expressed"] = np.nan
    middle = {level: np.abs(shares.index.to_numpy() - 0.5) < level / 2 for level in LEVELS}
    calibration = pd.DataFrame({level: shares[m].sum(min_count=1) for level, m in middle.items()}).T.rename_axis("level")
    return PredictiveCheck(pd.concat(tables), calibration, shares, len(index), n_samples, held_out)


class _Tally:
    """What was drawn of one matrix beside what was observed, summed over the cells in which it was measured."""

    def __init__(self, n_samples: int):
        self.n_samples, self.ranks = n_samples, np.zeros((2, BINS))
        self.drawn: Any = 0.0
        self.observed: Any = 0.0
        self.inside: Any = 0.0
        self.n: Any = 0.0

    def add(self, explained: Any, x: Any, measured: torch.Tensor | None) -> None:
        """One minibatch: its likelihood at draws of the latents, its values, and which of them were measured, or None for all."""
        self.counted = not isinstance(explained, Normal)
        if isinstance(x, Counts):
            there = None if x.measured is None else mask_of(x.measured, x.n_vars).expand(len(x), -1)
            measured = there if measured is None else measured > 0 if there is None else (measured > 0) & there
            x = (x.map(torch.ones_like) if isinstance(explained, Accessibility) else x).dense()
        weight = torch.ones_like(x[:1]).expand_as(x) if measured is None else (measured > 0).expand_as(x).to(x)
        drawn = explained.sample()
        below, ties = (drawn < x).sum(0), (drawn == x).sum(0)
        u = (below + torch.rand_like(x) * (ties + 1)) / (self.n_samples + 1)
        expected = explained.mean.mean(0) >= (1 if self.counted else torch.inf)
        told = weight > 0
        self.ranks += [torch.histc(part.float(), BINS, 0, 1).cpu().numpy() for part in (u[expected & told], u[told])]
        self.inside = self.inside + (weight * ((u - 0.5).abs() <= 0.45)).sum(0).cpu().numpy()
        self.n = self.n + weight.sum(0).cpu().double().numpy()
        self.drawn, self.observed = self.drawn + _sums(drawn, weight), self.observed + _sums(x[None], weight)

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """A row for each feature that was measured in some cell."""
        there = self.n > 0
        n = self.n[there]
        columns: dict[str, Any] = {}
        drawn_ones = _statistics(self.drawn[..., there], n, self.counted)
        for name, observed in _statistics(self.observed[..., there], n, self.counted).items():
            draws = drawn_ones[name]
            columns[f"{name}_observed"], columns[f"{name}_drawn"] = observed[0], draws.mean(0)
            columns[f"{name}_outside"] = (observed[0] < draws.min(0)) | (observed[0] > draws.max(0))
        table = pd.DataFrame({**columns, "coverage_90": self.inside[there] / n}, index=np.asarray(names)[there])
        if self.counted:
            never = table["mean_observed"] == 0
            table.loc[never, ["cv_observed", "cv_drawn"]], table.loc[never, "cv_outside"] = np.nan, False
        return table


def cells_to_check(model: Model, adata: AnnData | None, indices: Any = None) -> tuple[np.ndarray, bool]:
    """The cells asked for, by default those that were held out from training, if any; and whether all of them were."""
    own = adata is None or adata is model.adata
    kept = model.held_out_indices
    if indices is None and own and len(kept):
        return kept, True
    index = index_of(model.read(adata).n_obs, indices)
    return index, own and bool(np.isin(index, kept).all())


def _sums(x: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    """Sums over cells of x, x^2 and [x = 0], each times its weight: (3, draws, features)."""
    return torch.stack([(w * weight).sum(1) for w in (x, x.square(), (x == 0).to(x))]).cpu().double().numpy()


def _statistics(sums: np.ndarray, n: np.ndarray, counted: bool) -> dict[str, np.ndarray]:
    """Name -> (draws, features), of n cells each."""
    mean, variance = sums[0] / n, np.maximum(sums[1] - sums[0] ** 2 / n, 0) / np.maximum(1, n - 1)
    more = {"zeros": sums[2] / n, "cv": np.sqrt(variance) / np.maximum(mean, 1 / n)}  # a gene with a count has a mean of 1 / n
    return {"mean": mean, "variance": variance, **(more if counted else {})}
