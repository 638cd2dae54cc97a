"""How far what surrounds a spot tells what it holds: learnt from the spots."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scelbo import settings
from scelbo.data import Loader

KEPT, AT_ONCE = 0.8, 64
"""Share of a spot's counts that its shares are read off, while the others say how right they are; spots at once."""


@torch.no_grad()
def learn_from_surroundings(model: Any, seed: int = 0) -> None:
    r"""Say how far shares that the smoothed counts give are believed beside a spot's own.

    Each count of a spot is dealt to one of two parts, so that what is chance in one is not in the other. With the shares p that the larger
    part gives, q that the spot's surroundings give, and :math:`\pi` that the smaller part alone gives (noisy, but about right on average),
    it is the :math:`\lambda` in [0, 1] with the least :math:`\sum (\pi - p - \lambda (q - p))^2`: the more the fewer counts a spot has, and
    the more alike neighbours are. (Of all counts p is less off than of a part: :math:`\lambda / (1 - \lambda)` is that much less.)

    Parameters
    ----------
    model
        Of the spots, before it is trained: all genes count alike.
    seed
        Which part each count is dealt to.
    """
    module: Any = model.module
    data = model.read()
    if data["smoothed"] is None:
        return
    along = squared = 0.0
    with settings.private_seed(seed):
        spots: Any
        for spots in Loader(data, np.arange(len(data)), AT_ONCE):
            w = module.profiles(spots)
            larger = spots.x.map(lambda values: torch.binomial(values.round(), torch.full_like(values, KEPT)))
            smaller = spots.x.map(lambda values, larger=larger: values.round() - larger.val)
            known = ((larger.size > 0) & (smaller.size > 0) & (spots.smoothed.size > 0))[:, 0]
            p, q = (module.read(module.best(spots.seeing(x), w), x) for x in (larger, spots.smoothed))
            truth = module.shares(module.best(spots.seeing(smaller), w))
            along += float(((q - p) * (truth - p))[known].sum())
            squared += float((q - p)[known].square().sum())
    found = min(1.0, max(0.0, along / squared)) if squared else 0.0
    module.nearby.fill_(KEPT * found / (KEPT * found + 1 - found))
