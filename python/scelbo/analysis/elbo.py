"""How well the model explains cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.decode import explained_fields, has
from scelbo.arguments import question
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model


def _losses(model: Model, adata: AnnData | None, indices: Any, batch_size: int | None, seed: int | None) -> Any:
    model.require_trained()
    with settings.private_seed(seed):
        for cells in model.batches(adata, indices, batch_size):
            yield model.module(cells)


@question
def elbo(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    batch_size: int | None = None,
    return_mean: bool = True,
    seed: int | None = None,
) -> float | np.ndarray:
    r"""Evidence lower bound :math:`E_q[\log p(x \mid z)] - KL(q \,\|\, p)` of a cell, in nats; higher is better.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    return_mean
        The mean over cells, or one value a cell.
    seed
        Of the one draw of z a cell.

    Returns
    -------
    A number, or (cells,).
    """
    values = torch.cat([-loss.per_cell() for loss in _losses(self, adata, indices, batch_size, seed)]).cpu()
    return float(values.double().mean()) if return_mean else values.numpy()


@question
def reconstruction_error(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    batch_size: int | None = None,
    return_mean: bool = True,
    seed: int | None = None,
) -> dict[str, float] | dict[str, np.ndarray]:
    r"""Minus the expected log likelihood, :math:`-E_q[\log p(x \mid z)]`, of a cell, in nats; lower is better.

    Returns
    -------
    ``{"reconstruction_loss": value}`` (mean over cells, or (cells,)); of models of several modalities also the part of each, ``"rna"``,
    ``"atac"``, ``"protein"``, over the cells in which it was measured (a cell that lacks it: not a number). Parameters as :func:`elbo`.
    """
    self.require_trained()
    fields = explained_fields(self)
    found: dict[str, list[torch.Tensor]] = {"reconstruction_loss": []}
    with settings.private_seed(seed):
        for cells in self.batches(adata, indices, batch_size):
            nll = self.module(cells).nll
            found["reconstruction_loss"].append(torch.stack(list(nll.values())).sum(0).cpu())
            for name, of in fields.items() if len(fields) > 1 else ():
                found.setdefault(name, []).append(torch.where(has(self, cells, of), nll[of], torch.nan).cpu())
    values = {name: torch.cat(parts).double() for name, parts in found.items()}
    return {name: float(v.nanmean()) if return_mean else v.float().numpy() for name, v in values.items()}  # type: ignore[return-value]


@question
def latent_kl(self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None) -> np.ndarray:
    r"""What each latent dimension says about cells: :math:`KL(q(z_d \mid x) \,\|\, p(z_d))`, the mean over cells, in nats.

    A dimension near 0 has collapsed: its posterior is the prior, and the decoder does without it.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.

    Returns
    -------
    (n_latent,).
    """
    self.require_trained()
    total, n, module = torch.zeros(()), 0, self.module
    for cells in self.batches(adata, indices, batch_size):
        kl = module.kl_by_dimension(module.posterior(cells), cells)["z"]  # type: ignore[operator]
        total, n = total + kl.sum(0).cpu().double(), n + len(cells)
    return (total / n).numpy()


@question
def marginal_ll(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_mc_samples: int = 1000,
    n_mc_samples_per_pass: int = 25,
    batch_size: int | None = 64,
    return_mean: bool = True,
    seed: int | None = None,
) -> float | np.ndarray:
    r"""Log marginal likelihood by importance sampling.

    .. math:: \log p(x) \approx \log \frac1S \sum_s \frac{p(x \mid z_s)\, p(z_s)}{q(z_s \mid x)}, \qquad z_s \sim q(z \mid x).

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_mc_samples
        S: draws a cell.
    n_mc_samples_per_pass
        Draws decoded together: more is faster and takes more memory.
    return_mean
        The mean over cells, or one value a cell.
    seed
        Of the draws.

    Returns
    -------
    Nats; a number, or (cells,).
    """
    self.require_trained()
    out = []
    with settings.private_seed(seed):
        for cells in self.batches(adata, indices, batch_size):
            logs, left = [], n_mc_samples
            while left > 0:
                logs.append(_log_weights(self.module, cells, min(left, n_mc_samples_per_pass)))
                left -= n_mc_samples_per_pass
            out.append(torch.cat(logs).double().logsumexp(0) - math.log(n_mc_samples))
    values = torch.cat(out).cpu()
    return float(values.mean()) if return_mean else values.numpy()


def _log_weights(module: Any, cells: Any, n: int) -> torch.Tensor:
    """log p(x, z) - log q(z | x) for ``n`` draws, (n, cells)."""
    q = module.posterior(cells)
    z = draw(q, n)
    logs = module.explained(cells, module.generative(z, cells))
    return torch.stack(list(logs.values())).sum(0) + module.log_ratio(q, z, cells)
