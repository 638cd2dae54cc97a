"""What antibody counts are where a cell does not have the protein: a first guess from the data."""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from scelbo.data.loaders import at_most

CELLS, LEAST = 100, 4
"""Cells that are looked at; a mixture of two is fitted to no fewer proteins."""


def background_prior(y: Tensor, seed: int = 0) -> tuple[float, float] | None:
    r"""Mean and log standard deviation of :math:`\log \beta`, the background of the proteins in these cells.

    In each of some cells a mixture of two normals is fitted to :math:`\log(1 + y)` over proteins; the lower one is the background
    (Gayoso et al. 2021, supplementary note 3). Returned are the averages over cells.

    Parameters
    ----------
    y
        (cells, proteins) counts; proteins without any were not measured.
    seed
        Of the choice of cells.

    Returns
    -------
    None where too few proteins were measured.

    >>> import torch
    >>> low, high = torch.full((50, 6), 5.0), torch.full((50, 6), 300.0)
    >>> mean, log_sd = background_prior(torch.cat([low + torch.arange(6), high], 1))
    >>> bool(abs(mean - 2.1) < 0.2)
    True
    """
    from sklearn.exceptions import ConvergenceWarning  # takes long
    from sklearn.mixture import GaussianMixture  # takes long

    counts = y[:, (y > 0).any(0)].numpy()
    if counts.shape[1] < LEAST or not len(counts):
        return None
    rng, found = np.random.default_rng(seed), []
    for row in at_most(np.arange(len(counts)), CELLS, rng):
        values = np.log1p(counts[row])[:, None]
        if values.std() < 1e-6:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture = GaussianMixture(2, random_state=seed, reg_covar=1e-4).fit(values)
        low = int(mixture.means_[:, 0].argmin())
        found.append((mixture.means_[low, 0], np.sqrt(mixture.covariances_[low, 0, 0])))
    if not found:
        return None
    mean, sd = np.mean(found, axis=0)
    return float(mean), float(np.log(sd))
