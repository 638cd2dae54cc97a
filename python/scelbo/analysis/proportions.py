"""What is in each spot: the share of each type, and how sure the model is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo.analysis.augmentation import reach, spread
from scelbo.arguments import named
from scelbo.errors import ArgumentError, unknown

if TYPE_CHECKING:
    from scelbo.model import Model

NOISE = "noise_term"


class Estimated(NamedTuple):
    """Of every spot and type: the share, its standard deviation, and the bounds of an interval; data frames spots x types."""

    mean: pd.DataFrame
    std: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame


@torch.no_grad()
@named
def proportions(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    keep_noise: bool = False,
    refine: bool = True,
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""The share of each type in each spot: of the counts that all types gave, :math:`\pi_{sz} = v_{sz} / \sum_k v_{sk}`.

    Parameters
    ----------
    adata, indices, batch_size
        Which spots (default: the model's own; others need not have been trained on), how many at once.
    keep_noise
        Add a column ``noise_term``: the share of a spot's expected counts that no type explains. The others then sum to the rest.
    refine
        Bring each spot's amounts to their optimum, all else as learnt: a convex problem with one answer; and, with ``augmentation``, the
        shares towards what networks read off the counts. False: as training left them, of the model's own spots only.

    Returns
    -------
    Data frame spots x types, rows sum to one.
    """
    self.require_trained()
    own = self.source(adata) is self.adata
    if not (refine or own):
        raise ArgumentError("refine=False says what training left, and these spots were not in it.", "Leave it out.")
    module: Any = self.module
    shares, noise = [], []
    for spots in self.batches(adata, indices, batch_size):
        v = module.informed(module.solved(spots), spots) if refine else module.learnt(spots)
        shares.append(module.shares(v))
        noise.append(module.noise_share(v, spots))
    table, unexplained = (torch.cat(parts).cpu().numpy() for parts in (shares, noise))
    out = pd.DataFrame(table, index=self.cell_names(adata, indices), columns=self.cell_types)  # type: ignore[attr-defined]
    return out.mul(1 - unexplained, axis=0).assign(**{NOISE: unexplained}) if keep_noise else out


@torch.no_grad()
@named
def proportion_intervals(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, interval: float = 0.9, batch_size: int | None = None
) -> Estimated:
    r"""Shares of types with how sure one can be of them.

    The standard deviation is that of Laplace's approximation: v has the covariance :math:`(I + \mathrm{diag}(t)^{-2})^{-1}`, with the
    information I of the spot's own counts and the spot's total t as a vague prior's scale. It knows of counting noise alone. That the cells
    of a spot are not the mean of their types is learnt from mixtures of the reference's own cells (:func:`learn_from_mixtures`): how many
    standard deviations away the truth then is, at such a share, is how far the interval reaches. Where shares around a spot are believed by
    :math:`\lambda`, that leaves :math:`1 - \lambda` of the variance (:func:`learn_from_surroundings`).

    Parameters
    ----------
    adata, indices, batch_size
        Which spots, how many at once.
    interval
        Share of the true values between ``lower`` and ``upper``.

    Returns
    -------
    ``mean, std, lower, upper``, each a data frame spots x types.
    """
    self.require_trained()
    if not 0 < interval < 1:
        raise ArgumentError(f"interval={interval!r} is not allowed: it is a share between 0 and 1.")
    module: Any = self.module
    found = []
    for spots in self.batches(adata, indices, batch_size):
        v = module.solved(spots)
        std = spread(v, module.information(v, spots), module.shares(v)) * (1 - module.believed(spots)).sqrt()
        found.append((module.shares(module.informed(v, spots)), std))
    mean, std = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    far = reach(self.calibration, mean, interval) * std
    frame = lambda values: pd.DataFrame(values, self.cell_names(adata, indices), self.cell_types)  # type: ignore[attr-defined]  # noqa: E731
    return Estimated(frame(mean), frame(std), frame((mean - far).clip(0)), frame((mean + far).clip(max=1)))


@torch.no_grad()
@named
def genes_used(self: Model) -> pd.DataFrame:
    """Which genes the model reads, and why it does not read the others.

    Returns
    -------
    One row a gene: ``used``, and ``left_out`` (``"not in the spots"``, ...; empty where it is used).
    """
    rows = [(gene, True, "") for gene in self.setup.var_names]
    rows += [(gene, False, why) for why, genes in (self.left_out or {}).items() for gene in genes]  # type: ignore[attr-defined]
    return pd.DataFrame(rows, columns=["gene", "used", "left_out"]).set_index("gene")


def types_of(model: Any, y: str | Sequence[str]) -> list[int]:
    """Positions of the types named."""
    known = list(model.cell_types)
    asked = [y] if isinstance(y, str) else [str(t) for t in np.asarray(y)]
    for t in asked:
        if t not in known:
            raise ArgumentError(unknown("cell type", t, known))
    return [known.index(t) for t in asked]
