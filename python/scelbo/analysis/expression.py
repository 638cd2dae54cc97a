"""What a cell expresses once noise, depth and batch are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scelbo import settings
from scelbo.data import Batch, index_of
from scelbo.errors import ArgumentError, unknown
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model


@torch.inference_mode()
def normalized_expression(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    transform_batch: Any = None,
    transform: dict[str, Any] | None = None,
    gene_list: Sequence[str] | None = None,
    library_size: float | Literal["latent"] = 1,
    n_samples: int = 1,
    n_samples_overall: int | None = None,
    batch_size: int | None = None,
    return_mean: bool = True,
    return_numpy: bool = False,
    seed: int | None = None,
) -> pd.DataFrame | np.ndarray:
    r"""Expected proportions :math:`\rho` of each gene in each cell, times ``library_size``.

    Parameters
    ----------
    adata, indices
        Which cells.
    transform_batch
        Decode the cells as if they were from this batch; from several, the average; None keeps each cell's own.
    transform
        The same for any covariate, a category or a number: ``{"donor": "d1", "percent_mito": 0}``.
    gene_list
        Names of genes; a name that the model does not know is an error.
    library_size
        Counts a cell is scaled to (1: proportions), or ``"latent"``: its own size.
    n_samples
        1 decodes the mean of :math:`q(z \mid x)`; more average over so many draws of z.
    n_samples_overall
        Instead of every cell once, so many draws from cells chosen at random.
    batch_size
        Cells at once.
    return_mean
        Average over draws; False keeps them: (n_samples, cells, genes), an array.
    return_numpy
        An array instead of a data frame.
    seed
        Of the draws.

    Returns
    -------
    Data frame cells x genes (scale of ``library_size``).

    Raises
    ------
    ArgumentError
        A gene, batch or category is unknown (the nearest is named).
    """
    self.require_trained()
    genes = genes_of(self, gene_list)
    views = counterfactuals(self, transform_batch, transform)
    source = self.adata if adata is None else adata
    index = index_of(len(source.obs_names), indices)  # type: ignore[union-attr]
    draws = None if n_samples == 1 else n_samples
    with settings.private_seed(seed) as rng:
        if n_samples_overall is not None:
            index, draws = rng.choice(index, n_samples_overall), 1
        keep = draws is not None and not return_mean
        shape = (len(index), self.setup.n_vars if genes is None else len(genes))
        out = np.empty((draws, *shape) if keep else shape, np.float32)  # type: ignore[arg-type]
        start = 0
        for cells in self.batches(adata, index, batch_size):
            values = decode(self, cells, views, draws, library_size, genes)
            here = slice(start, start + len(cells))
            out[..., here, :] = (values if keep or draws is None else values.mean(0)).cpu().numpy()
            start += len(cells)
    if return_numpy or keep:
        return out
    names = np.asarray(self.setup.var_names)
    return pd.DataFrame(out, index=source.obs_names[index], columns=names if genes is None else names[genes])  # type: ignore[union-attr]


def decode(
    model: Model,
    cells: Batch,
    views: Sequence[dict[str, float]],
    draws: int | None,
    library_size: float | Literal["latent"] = 1,
    genes: np.ndarray | None = None,
) -> Tensor:
    """Expression of these cells, averaged over the counterfactual views: (cells, genes), or (draws, cells, genes)."""
    module: Any = model.module
    z = draw(module.inference(cells), draws, mean=draws is None)
    total: Tensor | None = None
    for view in views:
        explained = module.generative(z, cells.replace(view)).x
        values = explained.mean if library_size == "latent" else explained.scale
        values = values if genes is None else values[..., torch.from_numpy(genes).to(values.device)]
        total = values if total is None else total + values
    assert total is not None
    total = total / len(views)
    return total if library_size == "latent" else total * library_size


def genes_of(model: Model, gene_list: Sequence[str] | None) -> np.ndarray | None:
    """Positions of the genes named; None for all."""
    if gene_list is None:
        return None
    if isinstance(gene_list, str):
        gene_list = [gene_list]
    known = pd.Index(model.setup.var_names)
    at = known.get_indexer(pd.Index(gene_list))
    for name, i in zip(gene_list, at, strict=True):
        if i < 0:
            raise ArgumentError(unknown("gene", name, known))
    return at


def counterfactuals(model: Model, transform_batch: Any = None, transform: dict[str, Any] | None = None) -> list[dict[str, float]]:
    """What to replace in the cells before decoding: one view for every batch asked for."""
    fixed: dict[str, float] = {}
    numbers = list(model.setup.keys.get("continuous_covariate_keys") or [])
    categories = {c.removeprefix("extra."): c for c in model.setup.categories}
    for column, value in (transform or {}).items():
        if column in numbers:
            fixed[f"numbers.{numbers.index(column)}"] = float(value)
        elif column in categories:
            fixed[categories[column]] = model.setup.code(categories[column], value)
        else:
            raise ArgumentError(unknown("covariate", column, [*categories, *numbers]))
    if transform_batch is None:
        return [fixed]
    asked = [transform_batch] if isinstance(transform_batch, str) or np.ndim(transform_batch) == 0 else list(transform_batch)
    return [{**fixed, "batch": model.setup.code("batch", b)} for b in asked]
