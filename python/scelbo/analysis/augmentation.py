"""What mixtures of the reference's own cells teach of spots: shares read off counts, and how far estimated shares are from true ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from scelbo import settings
from scelbo.data import Counts
from scelbo.data.simulate import sums
from scelbo.nn import amount_of_types, mean_profiles, shares_of

FOLDS, HELD_OUT, ENOUGH = 4, 400, 50
"""Parts of the reference's cells, each held out in turn; mixtures of held-out cells in all; shares that a bin takes."""
BINS = (0.01, 0.05, 0.15, 0.4)
"""Between them estimated shares are calibrated together."""
LEVELS = np.linspace(0, 1, 201)
LESSONS, EPOCHS, MINIBATCH, LR = 3000, 15, 128, 2e-3
"""Mixtures that teach a network, and how often, how many at once and with which learning rate at first (it falls to none)."""
PLATFORM, AT_ONCE = 0.5, 250
"""Standard deviation of the log of what spots count of a gene beside cells, which no one knows; mixtures that have it in common."""


@torch.no_grad()
def learn_from_mixtures(model: Any, reference: Any, genes: Tensor, seed: int = 0) -> dict[str, list[float]]:
    r"""Teach the networks that read shares off counts, say how far they are trusted, and how far estimates are from the truth.

    The reference's cells are dealt into four parts. A network learns from mixtures of all parts but one, by the cross-entropy of the true
    shares, and is then asked about mixtures of the one. There the model's own best shares p (with mean profiles of the other parts) and
    the network's q are both as they are for new cells: trust is the :math:`\lambda` with the least
    :math:`\sum (\pi - p - \lambda (q - p))^2`, and how many standard deviations :math:`p + \lambda (q - p)` is off says how far
    intervals reach.

    Parameters
    ----------
    model
        Of the spots, before it is trained: all genes count alike.
    reference, genes
        The reference's model, and which of its genes the spots have.
    seed
        Of the mixtures and networks.

    Returns
    -------
    Bin of the estimated share -> quantiles of the error in standard deviations; nothing where the reference has no data.
    """
    if reference.adata is None:
        return {}
    cells, reader = _Cells.of(model, reference, genes), model.module.reader
    with settings.private_seed(seed) as rng, settings.task("Mixtures of known cells", FOLDS) as work:
        fold = rng.permuted(np.arange(len(cells.code)) % FOLDS)
        found = []
        for f in range(FOLDS):
            others, held_out = cells.part(fold != f), cells.part(fold == f)
            if len(held_out.code) > 1 and np.isin(np.unique(cells.code), others.code).all():
                if reader is not None:
                    _teach(reader, f, *others.mixed(LESSONS, rng, platform=PLATFORM), rng)
                x, truth = held_out.mixed(HELD_OUT // FOLDS, rng, distinct=True)
                v, information = model.module.of_profiles(x, others.profiles())
                found.append((truth, shares_of(v), spread(v, information, shares_of(v)), reader and reader.logits(x, f).softmax(-1)))
            work.step()
    return _calibrated(found, reader) if found else {}


@dataclass(frozen=True)
class _Cells:
    """Cells of known types: counts of the model's genes, types, and library sizes."""

    x: csr_matrix
    code: np.ndarray
    size: np.ndarray
    o: Tensor
    n_types: int
    per_spot: float
    kept: float  # the chance of a count with which as many cells as a spot has give as many counts

    @classmethod
    def of(cls, model: Any, reference: Any, genes: Tensor) -> _Cells:
        """The reference's."""
        data = reference.read()
        whole, label, per_spot = data["x"].take(torch.arange(len(data))).scipy(), data["label"].numpy(), model.cells_per_spot
        x = whole[:, genes.numpy()]
        counted = np.asarray(x.sum(1)).ravel() > 0  # mixtures of cells without any are no spots
        if not counted.all():
            whole, x, label = whole[counted], x[counted], label[counted]
        kept = float(model.read()["x"].size.median()) / (per_spot * float(np.median(np.asarray(x.sum(1)))))
        o = reference.module.o[genes].detach().cpu()
        return cls(x, label, np.asarray(whole.sum(1)).ravel(), o, len(model.cell_types), per_spot, min(1.0, kept))

    def part(self, rows: np.ndarray) -> _Cells:
        """Some of them."""
        return replace(self, x=self.x[rows], code=self.code[rows], size=self.size[rows])

    def mixed(
        self, n: int, rng: np.random.Generator, platform: float = 0.0, distinct: bool = False
    ) -> tuple[Counts, Float[Tensor, "n types"]]:
        """Mixtures, and the true shares."""
        parts = []
        for some in np.diff([*range(0, n, AT_ONCE), n]):
            kept = np.clip(self.kept * np.exp(rng.normal(0, platform, self.x.shape[1])), 0, 1)
            parts.append(sums(self.x, self.code, some, rng, self.per_spot, kept, distinct=distinct))
        x, shares = (list(part) for part in zip(*parts, strict=True))
        truth = torch.from_numpy(np.concatenate(shares)).float()
        return Counts.of(vstack(x, format="csr")), torch.nn.functional.pad(truth, (0, self.n_types - truth.shape[1]))

    def profiles(self) -> Float[Tensor, "types genes"]:
        """Each type's mean profile, in units of w."""
        own = np.eye(self.n_types)[self.code].T
        return mean_profiles(torch.from_numpy(own @ self.x).float(), torch.from_numpy(own @ self.size[:, None]).float()) / self.o.exp()


@torch.enable_grad()
def _teach(reader: Any, member: int, x: Counts, truth: Float[Tensor, "n types"], rng: np.random.Generator) -> None:
    """Least cross-entropy of the true shares."""
    weights = list(reader.members[member].requires_grad_(True).train().parameters())
    optimizer = torch.optim.Adam(weights, LR)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EPOCHS * -(-len(x) // MINIBATCH))
    for _ in range(EPOCHS):
        for rows in torch.from_numpy(rng.permutation(len(x))).split(MINIBATCH):
            loss = torch.nn.functional.cross_entropy(reader.logits(x.take(rows), member), truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
    reader.members[member].requires_grad_(False).eval()
    reader.taught[member] = True


def _calibrated(found: list[tuple[Any, ...]], reader: Any) -> dict[str, list[float]]:
    """Note the trust; and say how many standard deviations the shares are off."""
    truth, own, std = (torch.cat(parts).numpy() for parts in list(zip(*found, strict=True))[:3])
    if reader is not None:
        apart = torch.cat([row[3] for row in found]).numpy() - own
        reader.trust.fill_(float(np.clip((apart * (truth - own)).sum() / (apart**2).sum(), 0, 1)))
        own = own + reader.trust.item() * apart
    where, away = np.digitize(own, BINS), np.abs(own - truth) / std
    return {str(b): np.quantile(away[where == b], LEVELS).tolist() for b in range(len(BINS) + 1) if (where == b).sum() >= ENOUGH}


def reach(calibration: dict[str, list[float]], share: np.ndarray, interval: float) -> np.ndarray:
    """In standard deviations: by the mixtures of the reference's cells; where there were too few, the normal's."""
    far = np.full(share.shape, scipy.stats.norm.ppf((1 + interval) / 2))
    where = np.digitize(share, BINS)
    for b, quantiles in calibration.items():
        far[where == int(b)] = np.interp(interval, LEVELS, quantiles)
    return far


def spread(v: Float[Tensor, "spots states_1"], information: Tensor, share: Float[Tensor, "spots types"]) -> Float[Tensor, "spots types"]:
    r"""Standard deviation of the shares, v having the covariance :math:`(I + \mathrm{diag}(t)^{-2})^{-1}`; t is the spot's total.

    Where a type has several states, its share is that of all of them.
    """
    n, types = v.shape[1] - 1, share.shape[1]
    total = amount_of_types(v).sum(-1)[:, None, None]
    loose = torch.eye(n + 1, dtype=information.dtype, device=v.device) / total**2
    covariance = torch.linalg.inv(information + loose)[:, :n, :n]
    own = torch.eye(types, dtype=v.dtype, device=v.device).repeat_interleave(n // types, 1)
    slope = (own - share[:, :, None]) / total
    return ((slope.to(covariance.dtype) @ covariance) * slope).sum(-1).clamp_min(0).sqrt().to(v.dtype)
