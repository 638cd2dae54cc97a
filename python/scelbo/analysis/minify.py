"""A model of cells without their counts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from anndata import AnnData

from scelbo.arguments import named, question
from scelbo.data.minified import minified
from scelbo.data.modalities import obs_of

if TYPE_CHECKING:
    from scelbo.model import Model

M = TypeVar("M", bound="Model")


@question
def posterior_parameters(
    model: Model, adata: AnnData | None = None, indices: Any = None, batch_size: int | None = None
) -> dict[str, np.ndarray]:
    """Latent -> mean and standard deviation, side by side, of every cell; the mean alone where it is known."""
    module: Any = model.module
    parts: dict[str, list[np.ndarray]] = {}
    for cells in model.batches(adata, indices, batch_size):
        for name, q in module.posterior(cells)._asdict().items():
            if name in module.shared() or name in module.noise(1):
                continue
            values = [q.mean, q.stddev] if hasattr(q, "stddev") else [q.mean]
            parts.setdefault(name, []).append(torch.cat(values, -1).cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def encoded_once(model: M) -> M:
    """The same model, for several questions of all its cells: as it reads them now, they hold what was found of their latents."""
    other, data = copy.copy(model), model.read()
    other._data = data.minified(np.arange(data.n_obs), posterior_parameters(model))
    return other


@named
def minify(self: M, *, keep_counts: bool = False, batch_size: int | None = None) -> M:
    r"""The same model on cells that hold the parameters of :math:`q(z \mid x)` in place of counts: some 20 numbers a cell.

    Latent positions, normalised expression, counterfactuals and differential expression are asked of it as before, and answered
    the same; ``save(folder, save_anndata=True)`` writes a folder that is a fraction of the data's size. What needs counts (training,
    the ELBO, raw means) says that they are gone. ``with_data(adata)`` puts a model back on whole cells.

    Parameters
    ----------
    keep_counts
        Keep them: nothing is lost, and nothing is encoded again.
    batch_size
        Cells at once.

    Returns
    -------
    A second model with the same weights; this one and its cells are as they were.
    """
    self.require_trained()
    source = self.source()
    posterior = posterior_parameters(self, batch_size=batch_size)
    return with_data(self, minified(source, obs_of(source, self.setup.keys), type(self).__name__, posterior, keep_counts))


@named
def with_data(self: M, adata: AnnData) -> M:
    """The same trained model on other cells, as if it had been loaded with them: whole ones, or minified ones.

    Parameters
    ----------
    adata
        Cells that the model can read; features are matched by name.

    Returns
    -------
    A second model with the same weights.
    """
    other = copy.copy(self)
    adata = self.source(adata)
    other.adata, other._data = adata, None
    if self.adata is None or list(adata.obs_names) != list(self.adata.obs_names):
        other.train_indices = other.validation_indices = other.test_indices = np.array([], dtype=np.int64)
    other.read()
    return other
