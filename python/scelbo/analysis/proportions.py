"""What is in each spot: the share of each type, and how sure the model is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from scelbo.data import Counts
from scelbo.data.simulate import sums
from scelbo.errors import ArgumentError, unknown

if TYPE_CHECKING:
    from scelbo.model import Model

NOISE, NOTHING = "noise_term", 1e-9
BINS = (0.01, 0.05, 0.15, 0.4)
"""Between them estimated shares are calibrated together."""
LEVELS = np.linspace(0, 1, 201)
FOLDS, MIXTURES, ENOUGH = 4, 400, 50
"""Parts of the reference's cells that are mixed in turn; mixtures in all; shares that a bin takes."""
PSEUDO = 100.0
"""Counts of what all types have in common, that each type's own are added to."""


class Estimated(NamedTuple):
    """Of every spot and type: the share, its standard deviation, and the bounds of an interval; data frames spots x types."""

    mean: pd.DataFrame
    std: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame


@torch.no_grad()
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
        Bring each spot's amounts to their optimum, all else as learnt: a convex problem with one answer. False: as training left them,
        of the model's own spots only.

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
        v = module.solved(spots) if refine else module.learnt(spots)
        shares.append(_shares(v))
        noise.append(module.noise_share(v, spots))
    table, unexplained = (torch.cat(parts).cpu().numpy() for parts in (shares, noise))
    out = pd.DataFrame(table, index=self.cell_names(adata, indices), columns=self.cell_types)  # type: ignore[attr-defined]
    return out.mul(1 - unexplained, axis=0).assign(**{NOISE: unexplained}) if keep_noise else out


@torch.no_grad()
def proportion_intervals(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, interval: float = 0.9, batch_size: int | None = None
) -> Estimated:
    r"""Shares of types with how sure one can be of them.

    The standard deviation is that of Laplace's approximation: v has the covariance :math:`(I + \mathrm{diag}(t)^{-2})^{-1}`, with the
    information I of the spot's own counts and the spot's total t as a vague prior's scale. It knows of counting noise alone. That the cells
    of a spot are not the mean of their types is learnt from mixtures of the reference's own cells (:func:`calibrated_intervals`): how many
    standard deviations away the truth then is, at such a share, is how far the interval reaches.

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
        found.append((_shares(v), _spread(v, module.information(v, spots))))
    mean, std = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    reach = _reach(self.calibration, mean, interval) * std
    frame = lambda values: pd.DataFrame(values, self.cell_names(adata, indices), self.cell_types)  # type: ignore[attr-defined]  # noqa: E731
    return Estimated(frame(mean), frame(std), frame((mean - reach).clip(0)), frame((mean + reach).clip(max=1)))


@torch.no_grad()
def calibrated_intervals(model: Any, reference: Any, genes: Tensor, seed: int = 0) -> dict[str, list[float]]:
    """How many standard deviations shares are off in mixtures of the reference's cells, which their profiles have not seen.

    Parameters
    ----------
    model
        Of the spots, before it is trained: all genes count alike.
    reference, genes
        The reference's model, and which of its genes the spots have.
    seed
        Of the mixtures.

    Returns
    -------
    Bin of the estimated share -> quantiles of the error in standard deviations; nothing where the reference has no data.
    """
    if reference.adata is None:
        return {}
    data, rng = reference.read(), np.random.default_rng(seed)
    x, code = data["x"].take(torch.arange(len(data))).scipy(), data["label"].numpy()
    size, fold = np.asarray(x.sum(1)).ravel(), rng.integers(FOLDS, size=len(code))
    x = x[:, genes.numpy()]
    kept = min(1.0, float(model.read()["x"].size.median()) / (model.cells_per_spot * float(np.median(np.asarray(x.sum(1))))))
    estimated, away = [], []
    for f in range(FOLDS):
        there = fold != f
        if (fold == f).sum() < 2 or len(np.unique(code[there])) < len(np.unique(code)):
            continue
        counts, truth = sums(x[~there], code[~there], MIXTURES // FOLDS, rng, model.cells_per_spot, kept)
        v, info = model.module.of_profiles(Counts.of(counts), _profiles(x[there], code[there], size[there], reference.module.o[genes]))
        share, std = _shares(v).numpy(), _spread(v, info).numpy()
        truth = np.pad(truth, ((0, 0), (0, share.shape[1] - truth.shape[1])))
        estimated.append(share.ravel())
        away.append((np.abs(share - truth) / std).ravel())
    if not estimated:
        return {}
    where = np.digitize(np.concatenate(estimated), BINS)
    return {
        str(b): np.quantile(np.concatenate(away)[where == b], LEVELS).tolist() for b in range(len(BINS) + 1) if (where == b).sum() >= ENOUGH
    }


def _profiles(x: Any, code: np.ndarray, size: np.ndarray, o: Tensor) -> Tensor:
    """Mean shares of counts, with a little of what all types have in common, in units of w."""
    counted = np.stack([np.asarray(x[code == k].sum(0)).ravel() for k in range(code.max() + 1)])
    total = np.array([size[code == k].sum() for k in range(code.max() + 1)])[:, None]
    together = counted.sum(0) / total.sum()
    return torch.from_numpy((counted + PSEUDO * together) / (total + PSEUDO)).float() / o.cpu().exp()


def _reach(calibration: dict[str, list[float]], share: np.ndarray, interval: float) -> np.ndarray:
    """In standard deviations: by the mixtures of the reference's cells; where there were too few, the normal's."""
    far = np.full(share.shape, norm.ppf((1 + interval) / 2))
    where = np.digitize(share, BINS)
    for b, quantiles in calibration.items():
        far[where == int(b)] = np.interp(interval, LEVELS, quantiles)
    return far


def _shares(v: Float[Tensor, "spots types_1"]) -> Float[Tensor, "spots types"]:
    """Of the types; noise comes last, and is none. Where it explains all, the types share evenly what is left."""
    types = v[:, :-1] + NOTHING * v.sum(-1, keepdim=True)
    return types / types.sum(-1, keepdim=True)


def _spread(v: Tensor, information: Tensor) -> Float[Tensor, "spots types"]:
    r"""Standard deviation of the shares, v having the covariance :math:`(I + \mathrm{diag}(t)^{-2})^{-1}`; t is the spot's total."""
    n, total = v.shape[1] - 1, (v[:, :-1].sum(-1) + NOTHING * v.sum(-1))[:, None, None]
    loose = torch.eye(n + 1, dtype=information.dtype, device=v.device) / total**2
    covariance = torch.linalg.inv(information + loose)[:, :n, :n]
    slope = (torch.eye(n, dtype=v.dtype, device=v.device) - _shares(v)[:, :, None]) / total
    return ((slope.to(covariance.dtype) @ covariance) * slope).sum(-1).clamp_min(0).sqrt().to(v.dtype)


@torch.no_grad()
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
