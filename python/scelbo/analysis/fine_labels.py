"""Finer labels within types: of cells, and of what the cells of a type are in each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.arguments import named, question
from scelbo.errors import ArgumentError

if TYPE_CHECKING:
    from scelbo.model import Model


def _taught(model: Model, whose: str) -> Any:
    """The module of a trained model that was taught fine labels."""
    model.require_trained()
    module: Any = model.module
    if module.fine is None:
        raise ArgumentError(
            f"{whose} CondSCVI was set up without fine labels.",
            "Name them: CondSCVI.setup_anndata(adata, labels_key=..., fine_labels_key=...).",
        )
    return module


@question
def predict_fine(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    soft: bool = False,
    use_posterior_mean: bool = True,
    batch_size: int | None = None,
    seed: int | None = None,
) -> pd.Series | pd.DataFrame:
    r"""The fine label of each cell, or the probability of each: :math:`p(k \mid \gamma, c) \propto e^{a_k \cdot \gamma + d_k}`, k within c.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells (their types are read, fine labels need not be there), how many at once.
    soft
        Probabilities of all fine labels instead of the most probable one.
    use_posterior_mean
        Classify the mean of :math:`q(\gamma \mid x, c)`, or one draw.
    seed
        Of the draw.

    Returns
    -------
    A categorical series by cell, missing where a type has no finer labels; with ``soft`` a data frame cells x fine labels, 0 there.

    Raises
    ------
    ArgumentError
        The model was set up without fine labels.
    """
    module, parts = _taught(self, "This"), []
    with settings.private_seed(seed):
        for cells in self.batches(adata, indices, batch_size):
            q = module.inference(cells).z
            parts.append(module.fine.shares(q.mean if use_posterior_mean else q.rsample(), cells.label))  # type: ignore[attr-defined]
    values, names, labels = torch.cat(parts).cpu().numpy(), self.cell_names(adata, indices), self.setup.categories["fine"]
    if soft:
        return pd.DataFrame(values, index=names, columns=labels)
    best = pd.Categorical.from_codes(values.argmax(1), labels)
    return pd.Series(best, index=names, name="fine_label").where(values.any(1))


@torch.no_grad()
@named
def fine_shares(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None
) -> dict[str, pd.DataFrame]:
    r"""What the cells of each type are in each spot: the share of each finer label, :math:`p(k \mid \gamma_{sz}, z)`.

    By the reference's classifier, at the state of the type in the spot. Of a type that a spot has nothing of it is what its prior says.

    Parameters
    ----------
    adata, indices, batch_size
        Which spots, how many at once.

    Returns
    -------
    Type -> data frame spots x its fine labels, rows sum to one; types without fine labels are left out.

    Raises
    ------
    ArgumentError
        The reference was set up without fine labels.
    """
    module = _taught(self, "The reference's")
    values = torch.cat([module.fine_shares(spots) for spots in self.batches(adata, indices, batch_size)], 1).cpu().numpy()
    names, labels = self.cell_names(adata, indices), pd.Series(self.fine_types)  # type: ignore[attr-defined]
    of = {kind: (labels == kind).to_numpy() for kind in self.cell_types}  # type: ignore[attr-defined]
    shares = zip(of.items(), values, strict=True)
    return {kind: pd.DataFrame(part[:, own], names, labels.index[own]) for (kind, own), part in shares if own.any()}
