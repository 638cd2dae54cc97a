"""What a cell expresses once noise, depth and batch are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo import settings
from scelbo.analysis import ondisk
from scelbo.analysis.decode import counterfactuals, decode, genes_of, names_of, rows_at_once
from scelbo.analysis.draws import Draws
from scelbo.analysis.groups import Comparison, Design
from scelbo.arguments import question
from scelbo.data import index_of
from scelbo.errors import ArgumentError, one_of

if TYPE_CHECKING:
    from scelbo.model import Model


@question
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
    weights: Literal["uniform", "importance"] = "uniform",
    importance_cells: int = 200,
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
    weights, importance_cells
        Of these draws; as in :func:`~scelbo.analysis.differential_expression`.
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
    source = self.source(adata)
    index = index_of(source.n_obs, indices)
    draws = None if n_samples == 1 else n_samples
    names = names_of(self, genes)
    keep = draws is not None and not return_mean
    one_of("weights", weights, ("uniform", "importance"))
    if weights == "importance":
        if n_samples_overall is None or views != [{}] or library_size == "latent" or out is not None or lazy:
            raise ArgumentError(
                "weights='importance' weighs draws from all cells together.",
                "Say how many, n_samples_overall=..., and leave out transform, library_size='latent', out and lazy.",
            )
        pool = Design([index], [Comparison("cells", "", (0,), (0,))], named=False)
        drawn = Draws(self, adata, pool, n_samples_overall, None, seed, importance_cells)
        tiles = drawn.tiles(np.arange(self.setup.n_vars) if genes is None else genes, progress)
        rho = np.concatenate([values[:, drawn.kept].T for _, values in tiles], axis=1) * library_size
        return rho if return_numpy else pd.DataFrame(rho, index=source.obs_names[drawn.cells[drawn.kept]], columns=names)
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
        file = None if out is None else ondisk.File(out, source.obs_names[index], names)
        with file.filled() if file else nullcontext(np.empty((draws, *shape) if keep else shape, np.float32)) as values:  # type: ignore[arg-type]
            start = 0
            with settings.task("Decoding", len(index), progress) as work:
                for cells in self.batches(adata, index, batch_size or rows_at_once(self.setup.n_vars)):
                    here = slice(start, start + len(cells))
                    direct = values[here] if file is None and draws is None else None
                    decoded = decode(self, cells, views, draws, library_size, genes, out=direct)
                    if direct is None:
                        values[..., here, :] = (decoded if keep or draws is None else decoded.mean(0)).cpu().numpy()
                    start += len(cells)
                    work.step(len(cells))
    if file is not None:
        return file.open()
    if return_numpy or keep:
        return values
    return pd.DataFrame(values, index=source.obs_names[index], columns=names)
