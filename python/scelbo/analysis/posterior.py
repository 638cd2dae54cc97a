"""Posterior draws of a model that was written in Pyro."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.errors import ArgumentError, unknown

if TYPE_CHECKING:
    from scelbo.model import Model


@torch.inference_mode()
def sample_posterior(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    sites: str | Sequence[str] | None = None,
    n_samples: int = 1000,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    return_samples: bool = False,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: bool | None = False,
) -> dict[str, dict[str, Any]]:
    """What the posterior says of any site of the model: latents, deterministic sites, or new data in place of observed ones.

    Parameters
    ----------
    adata, indices
        Which cells.
    sites
        Names of sites; by default all latents.
    n_samples
        Draws. Those of what all cells share are the same for all cells, so that draw i is one draw of everything.
    quantiles
        Of the draws, between 0 and 1.
    return_samples
        Keep the draws too, draws first.
    batch_size
        Cells at once: all draws of so many are held together.
    seed
        Of the draws.
    progress
        Whether to show a bar.

    Returns
    -------
    Site -> ``{"mean", "sd", "q05", "q50", "q95", "samples"}``, each in the site's units: of a site of the cells rows as asked for (a data
    frame where a cell has a number or a list of them, whose names the module's ``names`` may give), else as all cells share it.

    Raises
    ------
    ArgumentError
        A site is unknown (the nearest is named), or a quantile not between 0 and 1.
    """
    self.require_trained()
    if not all(0 <= q <= 1 for q in quantiles):
        raise ArgumentError(f"quantiles={list(quantiles)!r} is not allowed: each must be from 0 to 1.")
    if n_samples < 1:
        raise ArgumentError(f"n_samples={n_samples!r} is not allowed: it must be above zero.")
    module: Any = self.module
    names, first = self.cell_names(adata, indices), next(iter(self.batches(adata, indices, batch_size)))
    known = module.kinds(first)
    asked = [sites] if isinstance(sites, str) else list(module.sites(first) if sites is None else sites)
    for name in asked:
        if name not in known:
            raise ArgumentError(unknown("site", name, known))
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in asked}
    with settings.private_seed(seed), settings.task("Sampling the posterior", len(names), progress) as work:
        shared: dict[str, torch.Tensor] = {}
        for i, cells in enumerate(self.batches(adata, indices, batch_size)):
            here = [name for name in asked if known[name].of_cells or i == 0]
            for name, values in module.draws(cells, here, n_samples, shared).items():
                found[name].append(_told(values.cpu().numpy(), quantiles, return_samples))
            work.step(len(cells))
    return {name: _together(name, parts, known[name].of_cells, names, module.names.get(name)) for name, parts in found.items()}


def _told(values: np.ndarray, quantiles: Sequence[float], keep: bool) -> dict[str, np.ndarray]:
    """Of draws, (n, ...)."""
    cuts = np.quantile(values, list(quantiles), axis=0).astype(values.dtype) if len(quantiles) else ()
    told = {
        "mean": values.mean(0),
        "sd": values.std(0),
        **{f"q{100 * q:04.1f}".replace(".0", ""): cut for q, cut in zip(quantiles, cuts, strict=True)},
    }
    return told | ({"samples": values} if keep else {})


def _together(
    name: str, parts: list[dict[str, np.ndarray]], of_cells: bool, cells: pd.Index, columns: Sequence[str] | None
) -> dict[str, Any]:
    """The minibatches' cells one after the other, with names where they fit a data frame."""
    if not of_cells:
        return dict(parts[0])
    out: dict[str, Any] = {}
    for what in parts[0]:
        whole = np.concatenate([part[what] for part in parts], axis=int(what == "samples"))
        if what != "samples" and whole.ndim <= 2:
            whole = whole.reshape(len(whole), -1)
            width = whole.shape[1]
            labels = columns if columns is not None else [name] if width == 1 else [f"{name}_{k}" for k in range(width)]
            out[what] = pd.DataFrame(whole, cells, labels)
        else:
            out[what] = whole
    return out
