"""How far what surrounds a spot tells what it holds: learnt from the spots."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scelbo import settings
from scelbo.data import Loader

KEPT, AT_ONCE = 0.8, 64
"""Share of a spot's counts that its shares are read off, while the others say how right they are; spots at once."""
BELIEVED = torch.linspace(0, 1, 21)
"""What is tried."""


@torch.no_grad()
def learn_from_surroundings(model: Any, seed: int = 0) -> None:
    r"""Say how far shares that the smoothed counts give are believed beside a spot's own.

    Each count of a spot is dealt to one of two parts, so that what is chance in one is not in the other. With the shares p that the larger
    part gives, and q that the spot's surroundings give, it is the :math:`\lambda` in [0, 1] with which :math:`p + \lambda (q - p)`, in the
    amount of the larger part, explains the smaller one best, over all spots: the more the fewer counts a spot has, and the more alike
    neighbours are. (Of all counts p would be less off: :math:`\lambda / (1 - \lambda)` is that much less.)

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
    found = torch.zeros(len(BELIEVED), dtype=torch.float64)
    with settings.private_seed(seed):
        spots: Any
        for spots in Loader(data, np.arange(len(data)), AT_ONCE):
            w, known = module.profiles(spots), spots.smoothed.size[:, 0] > 0
            larger = spots.x.map(lambda values: torch.binomial(values.round(), torch.full_like(values, KEPT)))
            smaller = spots.x.map(lambda values, larger=larger: values.round() - larger.val)
            v = module.best(spots.seeing(larger), w)
            p, q = module.read(v, larger), module.read(module.best(spots.seeing(spots.smoothed), w), spots.smoothed)
            for i, believed in enumerate(BELIEVED):
                left = module.shared(v, torch.lerp(p, q, believed)) * (1 / KEPT - 1)
                found[i] += module.explained(left, spots, w).log_prob(smaller)[known].double().sum()
    best = float(BELIEVED[found.argmax()])
    module.nearby.fill_(KEPT * best / (KEPT * best + 1 - best))
