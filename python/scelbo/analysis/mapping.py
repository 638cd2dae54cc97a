"""Query cells on a reference: how well it explains them, and what its labels say of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
import torch
from anndata import AnnData
from scipy import sparse
from torch.nn.functional import logsigmoid

from scelbo import settings
from scelbo.analysis.decode import explained_fields, showing, shown_in
from scelbo.analysis.latent import latent_representation, position
from scelbo.arguments import named, question
from scelbo.data import Counts, Data, at_most, index_of
from scelbo.errors import ArgumentError, SetupError, unknown
from scelbo.likelihoods import Accessibility, ProteinMixture

if TYPE_CHECKING:
    from scelbo.model import Model

HELD_OUT, NEAREST, LEAST_EXPECTED, MC_SAMPLES = 2000, 10, 3, 5000


@question
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
    vary most: their own odd counts brought genes in.) Where cells may lack modalities, each is ranked among reference cells by those
    that both have: the others are read as if they had not been measured.

    Parameters
    ----------
    reference
        The model that the query was loaded on, with its data, of which the validation cells are held out; or reference cells, best some
        that were held out. Features that the query lacks are left out of both.
    adata, indices, batch_size
        Which query cells, how many at once.
    seed
        Of the choice of at most 2,000 held-out cells.

    Returns
    -------
    One row a cell: ``mapping_score``, and its parts, ``near`` and ``expected``; not numbers for a cell with whose modalities no held-out
    cell has any in common.

    Raises
    ------
    SetupError
        The reference model has no data.
    ArgumentError
        None of its cells was held out.
    """
    from sklearn.neighbors import NearestNeighbors  # takes long

    self.require_trained()
    cells, held_out = _held_out(reference, seed)
    own, known = (shown_in(self, a, i, batch_size) for a, i in ((adata, indices), (cells, None)))
    asked, fields = index_of(self.read(adata).n_obs, indices), np.array(list(explained_fields(self).values()))
    out = np.full((len(asked), 3), np.nan)
    for kinds in np.unique(own, axis=0):
        shared = known[held_out] & kinds
        both = shared[shared.sum(1).argmax()]
        if not both.any():
            continue
        here, among = (own == kinds).all(1), np.flatnonzero(known[:, both].all(1))
        z, surprise = _seen(self, cells, among, fields[both], batch_size)
        z_query, surprise_query = _seen(self, adata, asked[here], fields[both], batch_size)
        kept = np.flatnonzero(np.isin(among, held_out))
        tree = NearestNeighbors(n_neighbors=min(NEAREST + 1, len(z))).fit(z)
        near = _rank(tree.kneighbors(z[kept])[0][:, 1:].mean(1), tree.kneighbors(z_query)[0][:, :NEAREST].mean(1))
        expected = _rank(surprise[kept], surprise_query)
        together = [-np.log(p) - np.log(q) for p, q in zip(near, expected, strict=True)]
        out[here] = np.stack([_rank(*together)[1], near[1], expected[1]], 1)
    return pd.DataFrame(out, index=self.cell_names(adata, indices), columns=["mapping_score", "near", "expected"])


def _rank(known: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of known values as large as each known value (itself counted), and as each found one."""
    ordered = np.sort(known)
    as_large = [len(known) - np.searchsorted(ordered, values, side="left") for values in (known, found)]
    return as_large[0] / len(known), (1 + as_large[1]) / (1 + len(known))


def _held_out(reference: Model | AnnData, seed: int | None) -> tuple[AnnData, np.ndarray]:
    if isinstance(reference, Data):
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


def _seen(
    model: Model, adata: AnnData | None, indices: np.ndarray, fields: Collection[str], batch_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Where each cell lies by these matrices, and minus the log probability of its least expected values, or of further ones, summed."""
    module: Any = model.module
    places: list[np.ndarray] = []
    surprise: list[np.ndarray] = []
    for whole in model.batches(adata, indices, batch_size):
        cells = showing(model, whole, fields)
        q = module.posterior(cells)
        explained = module.generative(type(q)._make(d.mean for d in q), cells)
        least = np.concatenate([_least_expected(getattr(explained, of), getattr(cells, of)) for of in fields], 1)
        surprise.append(-np.sort(least, axis=1)[:, :LEAST_EXPECTED].sum(1))
        places.append(position(q.z, module.embed, MC_SAMPLES, 0).cpu().numpy())
    return np.concatenate(places), np.concatenate(surprise)


def _least_expected(explained: Any, x: Counts | torch.Tensor) -> np.ndarray:
    """log P(X >= x) of each cell's least expected values: (cells, some)."""
    if isinstance(x, Counts):
        shape = (len(x), x.n_vars)
        tails = sparse.csr_matrix((_log_tail(explained, x), x.col.cpu().numpy(), x.crow.cpu().numpy()), shape=shape).toarray()
    else:
        tails = _log_tail_of_proteins(explained, x)
    return np.partition(tails, min(LEAST_EXPECTED, tails.shape[1]) - 1)[:, :LEAST_EXPECTED]


def _log_tail_of_proteins(explained: ProteinMixture, y: torch.Tensor) -> np.ndarray:
    """log P(Y >= y), background or foreground; 0 where a protein was not measured."""
    read = lambda t: t.expand_as(y).double().cpu().numpy()  # noqa: E731
    value, phi, back = read(y), read(explained.log_phi.exp()), 1 - read(explained.probability)
    parts = [scipy.stats.nbinom.logsf(value - 1, phi, phi / (phi + mu)) for mu in (read(explained.background), read(explained.foreground))]
    tail = np.logaddexp(np.log(back) + parts[0], np.log1p(-back) + parts[1])
    return tail if explained.measured is None else np.where(explained.measured.cpu().numpy(), tail, 0)


def _log_tail(explained: Any, x: Counts) -> np.ndarray:
    """log P(X >= x) of every stored value (two-sided where values are normal; of being seen where that is all that counts)."""
    stored = lambda t: t.expand(len(x), x.n_vars)[x.row, x.col].double().cpu().numpy()  # noqa: E731
    value, mu = x.val.double().cpu().numpy(), stored(explained.mean)
    if hasattr(explained, "log_sigma"):
        return np.log(2) + scipy.stats.norm.logsf(np.abs(value - mu) / stored(explained.log_sigma.exp()))
    if isinstance(explained, Accessibility):
        return np.log(mu)
    if not hasattr(explained, "log_theta"):
        return scipy.stats.poisson.logsf(value - 1, mu)
    theta = stored(explained.log_theta.exp())
    tail = scipy.stats.nbinom.logsf(value - 1, theta, theta / (theta + mu))
    return tail + stored(logsigmoid(-explained.zi_logits)) if hasattr(explained, "zi_logits") else tail


@named
def transfer_labels(
    self: Model,
    reference: Model | AnnData,
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
        Cells with known labels, that the model reads: the reference's own. Or the reference, which has them.
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
    from sklearn.neighbors import KNeighborsClassifier  # takes long

    reference = reference if isinstance(reference, Data) else reference.source()
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
