"""What a cell expresses once noise, depth and batch are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scelbo import settings
from scelbo.analysis import ondisk
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
    out: str | Path | None = None,
    lazy: bool = False,
    seed: int | None = None,
    progress: bool | None = False,
) -> pd.DataFrame | np.ndarray | AnnData:
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
    out
        A new ``.h5ad`` or ``.zarr`` to write to, a few cells at a time: memory does not grow with the result.
    lazy
        Decode only when asked: a dask array, of the latents' means.
    seed
        Of the draws.
    progress
        Whether to show a bar.

    Returns
    -------
    Data frame cells x genes (scale of ``library_size``); with ``out`` an AnnData whose matrix is in that file.

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
    names = pd.Index(self.setup.var_names) if genes is None else pd.Index(self.setup.var_names)[genes]
    keep = draws is not None and not return_mean
    if lazy:
        if draws is not None or n_samples_overall is not None or out is not None:
            raise ArgumentError("lazy=True decodes the latents' means.", "Leave out n_samples, n_samples_overall and out.")
        same: dict[str, Any] = {"transform_batch": transform_batch, "transform": transform, "gene_list": gene_list}
        ask = lambda rows: normalized_expression(self, adata, index[rows], **same, library_size=library_size, return_numpy=True)  # noqa: E731
        return ondisk.lazy(ask, (len(index), len(names)))
    if out is not None and (keep or n_samples_overall is not None):
        raise ArgumentError("A file holds one value a cell and gene.", "Leave out n_samples_overall, and keep return_mean=True.")

    with settings.private_seed(seed) as rng:
        if n_samples_overall is not None:
            index, draws = rng.choice(index, n_samples_overall), 1
        shape = (len(index), len(names))
        file = None if out is None else ondisk.File(out, source.obs_names[index], names)  # type: ignore[union-attr]
        with file or nullcontext(np.empty((draws, *shape) if keep else shape, np.float32)) as values:  # type: ignore[arg-type]
            start = 0
            with settings.task("Decoding", len(index), progress) as work:
                for cells in self.batches(adata, index, batch_size):
                    decoded = decode(self, cells, views, draws, library_size, genes)
                    here = slice(start, start + len(cells))
                    values[..., here, :] = (decoded if keep or draws is None else decoded.mean(0)).cpu().numpy()
                    start += len(cells)
                    work.step(len(cells))
    if file is not None:
        return file.open()
    if return_numpy or keep:
        return values
    return pd.DataFrame(values, index=source.obs_names[index], columns=names)  # type: ignore[union-attr]


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
    z = draw(module.posterior(cells), draws, mean=draws is None)
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
    own = {"batch": model.setup.keys.get("batch_key"), "label": model.setup.keys.get("labels_key")}
    categories |= {str(column): covariate for covariate, column in own.items() if column is not None}  # by its column's name too
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
