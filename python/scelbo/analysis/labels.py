"""Labels that one can trust: calibrated probabilities, sets of labels with a stated coverage, and cells unlike any label.

What is needed comes from labelled cells that were held out of training (the validation set), once, when training ends. A temperature
for the probabilities: Guo et al. 2017, arXiv:1706.04599; split conformal prediction sets: Vovk et al. 2005, Sadinle et al. 2019,
doi:10.1080/01621459.2017.1395341; distances to types: Lee et al. 2018, arXiv:1807.03888.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
import torch
from anndata import AnnData
from scipy.special import log_softmax, softmax

from scelbo import settings
from scelbo.arguments import named
from scelbo.errors import ArgumentError

if TYPE_CHECKING:
    from scelbo.model import Model

FEWEST = 20
"""Held-out labelled cells that a calibration takes."""
COLDEST, HOTTEST = 0.05, 20.0


@named
def predict(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    soft: bool = False,
    calibrated: bool = True,
    use_posterior_mean: bool = True,
    batch_size: int | None = None,
    seed: int | None = None,
) -> np.ndarray | pd.DataFrame:
    r"""The label of each cell, or the probability of each label, :math:`\mathrm{softmax}(\text{logits} / T)`.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    soft
        Probabilities of all labels instead of the most probable label.
    calibrated
        Use the temperature T that fits held-out labelled cells (1 if there were fewer than 20 of them): of cells with probability p a
        share of p is then right. The most probable label is the same.
    use_posterior_mean
        Classify the mean of :math:`q(z \mid x)`, or one draw.
    seed
        Of the draw.

    Returns
    -------
    The labels as an array (cells,), without the cells' names, as scvi-tools gives them (where CellAssign and SOLO give a series that has
    them); with ``soft`` a data frame cells x labels.
    """
    self.require_trained()
    logits, _ = _seen(self, adata, indices, batch_size, use_posterior_mean, seed)
    known = np.array(self.setup.categories["label"])
    if not soft:
        return known[logits.argmax(1)]
    temperature = self.calibration.get("temperature", 1.0) if calibrated else 1.0
    return pd.DataFrame(softmax(logits / temperature, axis=1), index=self.cell_names(adata, indices), columns=known)


@named
def predict_sets(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, coverage: float = 0.9, batch_size: int | None = None
) -> pd.DataFrame:
    r"""Labels that a cell may have: of cells like the labelled ones a share ``coverage`` has its label in its set.

    A label is in the set if its probability is at least :math:`1 - s`, with s the ``coverage`` quantile of one minus the probability
    of the true label among held-out labelled cells. A sure cell has one label, an ambiguous one several; a cell for which no label is
    likely enough has none.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    coverage
        Stated share, above 0 and below 1.

    Returns
    -------
    Data frame cells x labels of True and False.

    Raises
    ------
    ArgumentError
        Too few labelled cells were held out of training.
    """
    if not 0 < coverage < 1:
        raise ArgumentError(f"coverage={coverage!r} is not allowed: it is a share above 0 and below 1.")
    chance: Any = predict(self, adata, indices, soft=True, batch_size=batch_size)
    return chance >= 1 - _quantile(_calibration(self)["scores"], coverage)


@named
def annotate(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, coverage: float = 0.9, batch_size: int | None = None
) -> pd.DataFrame:
    """The label of each cell and how far to trust it.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    coverage
        Of the sets of labels (:func:`predict_sets`).

    Returns
    -------
    One row a cell: ``label``, its calibrated ``probability``, ``set_size`` (how many labels the cell may have), and ``novelty``, from 0
    to 1: the share of held-out labelled cells that lie nearer to their nearest type. Cells like the labelled ones spread evenly; those
    of a kind that has no label lie near 1. The last two are missing where fewer than 20 labelled cells were held out.
    """
    self.require_trained()
    logits, z = _seen(self, adata, indices, batch_size)
    kept = self.calibration
    chance = softmax(logits / kept.get("temperature", 1.0), axis=1)
    names = self.setup.categories["label"]
    label = pd.Categorical.from_codes(chance.argmax(1), categories=names)
    size, novelty = np.full(len(chance), np.nan), np.full(len(chance), np.nan)
    if kept:
        size = (chance >= 1 - _quantile(kept["scores"], coverage)).sum(1).astype(float)
        novelty = np.searchsorted(kept["distances"], _distance(z, kept["centres"], kept["precision"])) / len(kept["distances"])
    columns = {"label": label, "probability": chance.max(1), "set_size": size, "novelty": novelty}
    return pd.DataFrame(columns, index=self.cell_names(adata, indices))


def calibrated(model: Model) -> dict[str, Any]:
    """What labelled cells that did not train say of a classifier, as plain data; nothing where there are too few of them."""
    label = model.read()["label"].numpy()
    held_out = model.validation_indices[label[model.validation_indices] >= 0]
    if len(held_out) < FEWEST:
        return {}
    logits, z = _seen(model, None, held_out, None)
    rows, truth = np.arange(len(held_out)), label[held_out]
    loss = lambda log_t: -log_softmax(logits / np.exp(log_t), axis=1)[rows, truth].mean()  # noqa: E731
    temperature = float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded").x))
    scores = 1 - softmax(logits / temperature, axis=1)[rows, truth]

    train = model.train_indices[label[model.train_indices] >= 0]
    of_train, own = _seen(model, None, train, None)[1], label[train]
    kinds = np.unique(own)
    centres = np.stack([of_train[own == k].mean(0) for k in kinds])
    within = of_train - centres[np.searchsorted(kinds, own)]
    precision = np.linalg.pinv(np.cov(within.T) + 1e-6 * np.eye(within.shape[1]))
    distances = _distance(z, centres, precision)
    listed = {"scores": scores, "distances": distances}
    return {
        "temperature": temperature,
        **{name: np.sort(values.astype(float)).tolist() for name, values in listed.items()},
        "centres": centres.astype(float).tolist(),
        "precision": precision.astype(float).tolist(),
    }


def _calibration(model: Model) -> dict[str, Any]:
    if not model.calibration:
        raise ArgumentError(
            f"Sets of labels need {FEWEST} or more labelled cells that were held out of training.",
            "Train with train_size=0.9 or less, so that labelled cells are among the validation cells.",
        )
    return model.calibration


def _quantile(scores: list[float], coverage: float) -> float:
    """Of a further cell's score: at rank (n + 1) * coverage of those seen, between neighbours if need be; infinite past the last."""
    rank = (len(scores) + 1) * coverage
    return np.inf if rank > len(scores) else float(np.interp(rank, np.arange(len(scores) + 1), [0.0, *scores]))


def _distance(z: np.ndarray, centres: Any, precision: Any) -> np.ndarray:
    """Squared Mahalanobis distance to the nearest centre, (cells,)."""
    gaps = z[:, None] - np.asarray(centres)
    return np.einsum("nkd,de,nke->nk", gaps, np.asarray(precision), gaps).min(1)


@torch.inference_mode()
def _seen(
    model: Model, adata: AnnData | None, indices: Any, batch_size: int | None, mean: bool = True, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the labels, and z, of each cell."""
    module: Any = model.module
    logits, positions = [], []
    with settings.private_seed(seed):
        for cells in model.batches(adata, indices, batch_size):
            q = module.posterior(cells).z
            z = q.mean if mean else q.rsample()
            logits.append(module.classifier(z).cpu().numpy())
            positions.append(z.cpu().numpy())
    return np.concatenate(logits), np.concatenate(positions)
