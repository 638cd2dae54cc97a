"""Which cells are doublets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy.special import expit
from torch import Tensor

from scelbo.arguments import named
from scelbo.errors import ArgumentError

if TYPE_CHECKING:
    from scelbo.model import Model

CALLS = ("doublet", "singlet")
"""In the order of the classifier's logits."""


@torch.inference_mode()
def _answers(self: Model, adata: AnnData | None, indices: Any, batch_size: int | None) -> tuple[pd.Index, np.ndarray, np.ndarray, Tensor]:
    """Names of cells, their lanes, log-odds (cells, 1 + sums), the classifier's two logits."""
    self.require_trained()
    module: Any = self.module
    cells = list(self.batches(adata, indices, batch_size))
    names = self.source(adata).obs_names[np.concatenate([c.index.cpu().numpy() for c in cells])]
    lane = np.concatenate([c.batch.cpu().numpy() for c in cells])  # type: ignore[attr-defined]
    odds = torch.cat([module.log_odds(c) for c in cells]).cpu().numpy()
    return names, lane, odds, torch.cat([module.classifier(c.inputs) for c in cells]).cpu()  # type: ignore[attr-defined]


@named
def predict_doublets(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    soft: bool = True,
    include_simulated_doublets: bool = False,
    return_logits: bool = False,
    batch_size: int | None = None,
) -> pd.DataFrame | pd.Series:
    r"""How probable it is that a cell is a doublet, given its lane's expected rate (as if it were a sum in training, where none is).

    Parameters
    ----------
    adata
        Other cells of the same lanes; features are matched by name.
    indices, batch_size
        Which cells, how many at once.
    soft
        Probabilities (True), or for each cell the more probable of ``"doublet"`` and ``"singlet"``.
    include_simulated_doublets
        Further rows for the sums that the classifier was trained on.
    return_logits
        The classifier's logits instead, which know nothing of the rate.

    Returns
    -------
    Data frame cells x ``doublet, singlet``; without ``soft`` a series of these two words. The index are the cells' names.
    """
    names, _, odds, logits = _answers(self, adata, indices, batch_size)
    if include_simulated_doublets:
        names = names.append(pd.Index([f"{name}+{k}" for k in range(1, odds.shape[1]) for name in names]))
    else:
        odds, logits = odds[:, :1], logits[:, :1]
    flat = odds.T.reshape(-1)
    if not soft:
        return pd.Series(np.where(flat > 0, *CALLS), names, name="call")
    if return_logits:
        return pd.DataFrame(logits.transpose(0, 1).reshape(-1, 2).numpy(), names, list(CALLS))
    return pd.DataFrame(expit(np.stack([flat, -flat], 1)), names, list(CALLS))


@named
def doublet_calls(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, threshold: float | None = 0.5, batch_size: int | None = None
) -> pd.DataFrame:
    """A call for each cell.

    Two cells of one kind look like one deep cell: such doublets add to the rate, and hardly any is called.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    threshold
        Cells that are doublets with a higher probability are called; None calls as many of each lane as are expected in it.

    Returns
    -------
    Cells x ``lane, expected_rate`` (NaN where cells were taken for singlets), ``score`` (the classifier's log-odds), ``probability, call``
    (True for a doublet).

    Raises
    ------
    ArgumentError
        ``threshold=None`` where no rate was given.
    """
    names, lane, odds, logits = _answers(self, adata, indices, batch_size)
    module: Any = self.module
    lanes, rate = self.setup.categories["batch"], module.rate.cpu().numpy()[lane]
    if threshold is None and np.isnan(rate).any():
        raise ArgumentError(
            "threshold=None calls as many as are expected, and this model took its cells for singlets.",
            "Give a threshold, or make the model with expected_doublet_rate=0.08.",
        )
    score, p = (logits[:, 0, 0] - logits[:, 0, 1]).numpy(), expit(odds[:, 0])
    table = pd.DataFrame({"lane": [lanes[b] for b in lane], "expected_rate": rate, "score": score, "probability": p}, names)
    if threshold is not None:
        return table.assign(call=p > threshold)
    by_lane = pd.Series(lane, names).to_numpy()
    rank = pd.Series(score).groupby(by_lane).rank(ascending=False, method="first")
    expected = pd.Series(rate).groupby(by_lane).transform("sum").round()
    return table.assign(call=(rank <= expected).to_numpy())
