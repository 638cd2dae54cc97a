"""Query cells on a reference: how well it explains them, and what its labels say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from scipy.stats import nbinom, norm, poisson
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch.nn.functional import logsigmoid

from scelbo import settings
from scelbo.analysis.latent import latent_representation
from scelbo.data import Counts, at_most
from scelbo.errors import ArgumentError, SetupError, unknown
from scelbo.likelihoods import Accessibility

if TYPE_CHECKING:
    from scelbo.model import Model

HELD_OUT, NEAREST, LEAST_EXPECTED = 2000, 10, 3


@torch.inference_mode()
def mapping_score(
    self: Model,
    reference: Model | AnnData,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    batch_size: int | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    r"""How well each query cell is explained, as its rank among reference cells that no training has seen.

    Two things tell a kind of cell that the reference lacks: it lies apart from the reference's cells in latent space (d, the mean distance
    to the 10 nearest), or it holds counts that nothing near it has (s, :math:`-\sum \log P(X_{ng} \ge x_{ng})` over its three least
    expected counts, at the mean of :math:`q(z \mid x)`). Each is ranked among held-out reference cells, :math:`p = (1 + \#\{\text{held
    out} \ge \text{query}\}) / (1 + \text{held out})`, and so is :math:`-\log p_d - \log p_s`. Cells like the reference's score evenly
    between 0 and 1, depth and all; one of an unknown kind near 0. (Somewhat strictly where the held-out cells had a say in which genes
    vary most: their own odd counts brought genes in.)

    Parameters
    ----------
    reference
        The model that the query was loaded on, with its data, of which the validation cells are held out; or reference cells, best some
        that were held out. Genes that the query lacks are left out of both.
    adata, indices, batch_size
        Which query cells, how many at once.
    seed
        Of the choice of at most 2,000 held-out cells.

    Returns
    -------
    One row a cell: ``mapping_score``, and its parts, ``near`` and ``expected``.

    Raises
    ------
    SetupError
        The reference model has no data.
    ArgumentError
        None of its cells was held out.
    """
    self.require_trained()
    cells, held_out = _held_out(reference, seed)
    absent = self.setup.absent.get("x", ())
    if absent:
        cells = cells[:, ~cells.var_names.astype(str).isin(absent)].copy()
    z, query = (np.asarray(latent_representation(self, *which, batch_size=batch_size)) for which in ((cells, None), (adata, indices)))
    tree = NearestNeighbors(n_neighbors=NEAREST + 1).fit(z)
    near = _rank(tree.kneighbors(z[held_out])[0][:, 1:].mean(1), tree.kneighbors(query, NEAREST)[0].mean(1))
    expected = _rank(_surprise(self, cells, held_out, batch_size), _surprise(self, adata, indices, batch_size))
    both = [-np.log(p) - np.log(q) for p, q in zip(near, expected, strict=True)]
    columns = {"mapping_score": _rank(*both)[1], "near": near[1], "expected": expected[1]}
    return pd.DataFrame(columns, index=self.cell_names(adata, indices))


def _rank(known: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of known values as large as each known value (itself counted), and as each found one."""
    ordered = np.sort(known)
    as_large = [len(known) - np.searchsorted(ordered, values, side="left") for values in (known, found)]
    return as_large[0] / len(known), (1 + as_large[1]) / (1 + len(known))


def _held_out(reference: Model | AnnData, seed: int | None) -> tuple[AnnData, np.ndarray]:
    if isinstance(reference, AnnData):
        rows = np.arange(reference.n_obs)
    elif reference.adata is None:
        raise SetupError("The reference model was loaded without its data.", "Give reference cells, an AnnData, in its place.")
    else:
        reference, rows = reference.adata, reference.held_out_indices
        if not len(rows):
            raise ArgumentError(
                "The reference was trained on all of its cells, so none can say how well an unseen cell is explained.",
                "Train it with train_size below 1, or give cells that were held out: an AnnData.",
            )
    return reference, np.sort(at_most(rows, HELD_OUT, np.random.default_rng(settings.fresh_seed(seed))))


def _surprise(model: Model, adata: AnnData | None, indices: Any, batch_size: int | None) -> np.ndarray:
    """Minus the log probability of each cell's least expected values, or of further ones, summed: (cells,)."""
    module: Any = model.module
    out: list[np.ndarray] = []
    cells: Any
    for cells in model.batches(adata, indices, batch_size):
        q = module.posterior(cells)
        tail = _log_tail(module.generative(type(q)._make(d.mean for d in q), cells).x, cells.x)
        rows = sparse.csr_matrix((-tail, cells.x.col.cpu().numpy(), cells.x.crow.cpu().numpy()), shape=(len(cells), cells.x.n_vars))
        out.append(-np.partition(-rows.toarray(), LEAST_EXPECTED - 1)[:, :LEAST_EXPECTED].sum(1))
    return np.concatenate(out)


def _log_tail(explained: Any, x: Counts) -> np.ndarray:
    """log P(X >= x) of every stored value (two-sided where values are normal; of being seen where that is all that counts)."""
    stored = lambda t: t.expand(len(x), x.n_vars)[x.row, x.col].double().cpu().numpy()  # noqa: E731
    value, mu = x.val.double().cpu().numpy(), stored(explained.mean)
    if hasattr(explained, "log_sigma"):
        return np.log(2) + norm.logsf(np.abs(value - mu) / stored(explained.log_sigma.exp()))
    if isinstance(explained, Accessibility):
        return np.log(mu)
    if not hasattr(explained, "log_theta"):
        return poisson.logsf(value - 1, mu)
    theta = stored(explained.log_theta.exp())
    tail = nbinom.logsf(value - 1, theta, theta / (theta + mu))
    return tail + stored(logsigmoid(-explained.zi_logits)) if hasattr(explained, "zi_logits") else tail


def transfer_labels(
    self: Model,
    reference: AnnData,
    labels_key: str,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_neighbors: int = 30,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """The labels of the reference cells that lie nearest in latent space, weighted by the inverse of their distance.

    Parameters
    ----------
    reference
        Cells with known labels, that the model reads: the reference's own.
    labels_key
        Their column of ``obs``; cells without a label do not vote.
    adata, indices, batch_size
        Which query cells, how many at once.
    n_neighbors
        How many vote.

    Returns
    -------
    One row a cell: ``label``, and ``probability``, its share of the votes.
    """
    if labels_key not in reference.obs:
        raise ArgumentError(unknown("obs column", labels_key, reference.obs.columns))
    labelled = np.flatnonzero(reference.obs[labels_key].notna())
    if not len(labelled):
        raise ArgumentError(f"No reference cell has a value in obs[{labels_key!r}].")
    ask = lambda a, i: np.asarray(latent_representation(self, a, i, batch_size=batch_size))  # noqa: E731
    vote = KNeighborsClassifier(min(n_neighbors, len(labelled)), weights="distance")
    vote.fit(ask(reference, labelled), reference.obs[labels_key].astype(str).to_numpy()[labelled])
    shares = vote.predict_proba(ask(adata, indices))
    names = self.cell_names(adata, indices)
    return pd.DataFrame({"label": pd.Categorical(vote.classes_[shares.argmax(1)]), "probability": shares.max(1)}, index=names)
