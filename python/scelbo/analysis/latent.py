"""Where a cell lies."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData
from torch.quasirandom import SobolEngine

from scelbo import settings
from scelbo.arguments import question
from scelbo.errors import ArgumentError, one_of

if TYPE_CHECKING:
    from scelbo.model import Model

AT_ONCE = 1024
"""Cells whose means are found together."""
VALUES_AT_ONCE = 2**20
"""Draws x cells x dimensions that are embedded together."""


@question
def latent_representation(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    modality: str = "joint",
    give_mean: bool = True,
    mc_samples: int = 5000,
    batch_size: int | None = None,
    return_dist: bool = False,
    seed: int | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    r"""The latent position of each cell, the mean of :math:`q(z \mid x)`.

    Parameters
    ----------
    adata
        Other data than the model's; features are matched by name.
    indices
        Row numbers (in any order) or a mask; default all.
    modality
        In models of several modalities with an encoder each, ``"expression", "accessibility"`` or ``"protein"`` asks one of them alone: not
        a number for cells that lack it.
    give_mean
        The mean (True) or one draw.
    mc_samples
        Points that the mean is taken over where it has no closed form (``latent_distribution="ln"``).
    batch_size
        Cells at once.
    return_dist
        Return mean and variance of :math:`q(z \mid x)` instead.
    seed
        Of the draws.

    Returns
    -------
    (cells, n_latent), rows as asked for; with ``return_dist`` a pair of these.
    """
    self.require_trained()
    one_of("modality", modality, ("joint", *self.module.encoded))  # type: ignore[misc]
    if return_dist and not give_mean:
        raise ArgumentError("return_dist=True gives mean and variance, and give_mean=False one draw: ask for one of them.")
    module: Any = self.module
    out: list[tuple[torch.Tensor, ...]] = []
    with settings.private_seed(seed):
        for cells in self.batches(adata, indices, batch_size or (AT_ONCE if give_mean else None)):
            q = module.place(cells) if modality == "joint" else module.by_modality(module.posterior(cells), modality)
            if return_dist:
                out.append((q.mean, q.variance))
            elif not give_mean:
                out.append((module.embed(q.rsample()),))
            else:
                out.append((position(q, module.embed, mc_samples, settings.fresh_seed(seed)),))
    parts = tuple(torch.cat(p).cpu().numpy() for p in zip(*out, strict=True))
    return parts if return_dist else parts[0]  # type: ignore[return-value]


def position(q: Any, embed: Any, mc_samples: int, seed: int) -> torch.Tensor:
    """E[embed(z)]: z's own mean where embed changes nothing, else an average over quasi-random points (Sobol's, scrambled).

    All cells share the points, so that a cell's value does not depend on which others were asked for.
    """
    if embed(q.mean) is q.mean:
        return q.mean
    noise = _points(mc_samples, q.mean.shape[-1], seed)[:, None].to(q.mean)
    total = torch.zeros_like(q.mean)
    for part in noise.split(max(1, VALUES_AT_ONCE // q.mean.numel())):
        total += embed(torch.addcmul(q.mean, q.stddev, part)).sum(0)
    return total / mc_samples


@lru_cache(maxsize=1)
def _points(n: int, dimensions: int, seed: int) -> torch.Tensor:
    """Standard normals, (n, dimensions), that are spread more evenly than draws."""
    uniform = SobolEngine(dimensions, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))


@question
def latent_library_size(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    give_mean: bool = True,
    batch_size: int | None = None,
    seed: int | None = None,
) -> np.ndarray:
    r"""Library size l of each cell in counts: the posterior's where l is latent, else the observed total or the size factor.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    give_mean
        The mean of the log-normal, :math:`\exp(m + v / 2)`, or one draw.
    seed
        Of the draw.

    Returns
    -------
    (cells, 1).
    """
    self.require_trained()
    out = []
    with settings.private_seed(seed):
        for cells in self.batches(adata, indices, batch_size):
            q = self.module.posterior(cells).log_l  # type: ignore[operator]
            half = q.variance / 2 if isinstance(q, torch.distributions.Normal) else 0
            out.append(((q.mean + half) if give_mean else q.rsample()).exp())
    return torch.cat(out).cpu().numpy()


@question
def batch_representation(self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None) -> np.ndarray:
    """The learnt vector of each cell's batch, (cells, batch_embedding_dim); needs ``batch_representation="embedding"``."""
    self.require_trained()
    table: Any = getattr(self.module, "batch_embedding", None)
    if table is None:
        raise ArgumentError("This model has no batch embedding.", "Make it with batch_representation='embedding'.")
    return torch.cat([table(cells) for cells in self.batches(adata, indices, batch_size)]).cpu().numpy()
