"""How far what was imputed is to be trusted: held-out cells with a modality are placed without it, and it is decoded for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import scipy
import torch

from scelbo import settings
from scelbo.analysis.decode import decode, explained_fields, rows_at_once, showing, shown_in
from scelbo.arguments import question
from scelbo.data import at_most
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

FEWEST, MOST = 20, 1000
"""Held-out cells with a modality and another that it takes; cells that are looked at."""


@question
def borrowing(model: Model) -> None:
    r"""Set means and :math:`\lambda` of every :class:`~scelbo.nn.Borrowed`: with them what is hidden of held-out cells is most probable.

    :math:`\lambda` is one for a modality that fewer than 20 held-out cells have beside another.
    """
    module: Any = model.module
    fields = list(explained_fields(model).values())
    with settings.private_seed(0) as rng:
        train, held_out = (at_most(index, MOST, rng) for index in (model.train_indices, model.held_out_indices))
    at_once = rows_at_once(max(len(model.setup.features[of]) for of in fields))
    known, own = (shown_in(model, indices=index, batch_size=at_once) for index in (held_out, train))
    for i, of in enumerate(fields):
        borrowed = module.borrowed_of(of)
        if borrowed is None:
            continue
        borrowed.trust.fill_(1)
        rows = held_out[known[:, i] & (known.sum(1) > 1)]
        if len(rows) < FEWEST:
            continue
        for b in range(len(model.setup.categories["batch"])):
            cells_of = model.batches(indices=train[own[:, i]], batch_size=at_once)
            sums = [decode(model, cells, [{"batch": b}], None, of=of).sum(0) for cells in cells_of]
            borrowed.mean.set_row(b, torch.stack(sums).sum(0) / max(1, own[:, i].sum()))
        asked = []
        for cells in model.batches(indices=rows, batch_size=at_once):
            whole, without = (draw(module.posterior(c), mean=True) for c in (cells, showing(model, cells, [f for f in fields if f != of])))
            asked.append((without._replace(log_l=whole.log_l, depth=whole.depth), cells))

        def surprise(trust: float, of: str = of, borrowed: Any = borrowed, asked: Any = asked) -> float:
            borrowed.trust.fill_(trust)
            return -sum(float(module.likelihood_of(of, z, cells).log_prob(getattr(cells, of)).sum()) for z, cells in asked)

        best = scipy.optimize.minimize_scalar(surprise, bounds=(0, 0.999), method="bounded", options={"xatol": 0.01})
        borrowed.trust.fill_(float(best.x))
