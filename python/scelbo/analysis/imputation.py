"""Genes that one data set did not measure, from another that did, in models that read data sets side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.decode import counterfactuals, genes_of
from scelbo.analysis.expression import normalized_expression
from scelbo.analysis.latent import latent_representation
from scelbo.arguments import named, question
from scelbo.data.joint import SOURCE
from scelbo.errors import ArgumentError, unknown
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

F = TypeVar("F", bound=Callable[..., Any])


class Imputed(NamedTuple):
    """Of every cell and gene: the posterior mean and standard deviation, and the bounds of an interval; data frames cells x genes."""

    mean: pd.DataFrame
    std: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame


def by_source(question: F) -> F:
    """Asked about all cells of several data sets, a question answers with a list: an answer for each. Of some cells, with one."""

    @functools.wraps(question)
    def ask(self: Model, adata: Any = None, indices: Any = None, **options: Any) -> Any:
        answer = question(self, adata, indices, **options)
        if indices is not None or isinstance(adata, AnnData):
            return answer
        source = self.source(adata).obs[SOURCE].to_numpy()
        of = lambda values: [values[source == s.name] for s in self.setup.sources]  # noqa: E731
        return list(zip(*map(of, answer), strict=True)) if isinstance(answer, tuple) else of(answer)

    return ask  # type: ignore[return-value]


latent_by_source = by_source(latent_representation)


def _batches(model: Model, which: str | int | None) -> list[str] | None:
    """Of a data set, by name or number; None for each cell's own."""
    if which is None:
        return None
    sources = model.setup.sources
    names = [s.name for s in sources]
    if isinstance(which, int | np.integer) and not isinstance(which, bool) and 0 <= which < len(sources):
        return list(sources[int(which)].batches.values())
    if which not in names:
        raise ArgumentError(unknown("data set", which, [*names, *range(len(names))]))
    return list(sources[names.index(str(which))].batches.values())


@by_source
@named
def imputed_values(
    self: Model,
    adata: Any = None,
    indices: Any = None,
    *,
    deterministic: bool = True,
    normalized: bool = True,
    decode_mode: str | int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> list[np.ndarray] | np.ndarray:
    r"""Expected proportions (or counts) of all genes, measured or not.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells (a data set of either kind, or one of each), how many at once.
    deterministic
        Decode the mean of :math:`q(z \mid x)` (True) or one draw.
    normalized
        Proportions, which sum to one over the genes that the decoding data set measured; else expected counts at the cell's library size.
    decode_mode
        Decode cells as if this data set had measured them (``"seq"`` or 0, ``"spatial"`` or 1), the mean over its batches; None: each
        as its own did.
    seed
        Of the draw.

    Returns
    -------
    A list of arrays (cells, genes), one for each data set; of ``indices``, or of an AnnData of one kind, one array.
    """
    values = normalized_expression(
        self, adata, indices, transform_batch=_batches(self, decode_mode), library_size=1 if normalized else "latent",
        n_samples=1 if deterministic else 2, return_mean=deterministic, return_numpy=True, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    return values if deterministic else values[0]


@question
def impute(
    self: Model,
    gene_list: Sequence[str] | None = None,
    adata: Any = None,
    indices: Any = None,
    *,
    measured_by: str | int | None = None,
    library_size: float | Literal["latent"] = 1,
    interval: float = 0.9,
    n_samples: int = 100,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: bool | None = False,
) -> Imputed:
    r"""Expression of genes in the spatial cells, measured or not, with how sure the model is of it.

    .. math:: y_{ng} = \rho_{ng} / \textstyle\sum_{k \in G} \rho_{nk}, \qquad \rho_n \propto e^{f(z_n, s_n)}, \quad z_n \sim q(z \mid x_n)

    with the genes G of the spatial panel: a gene's expression in units of all of the panel's, which compares to counts over the cell's
    total. The interval is of this expectation, given the model; counts scatter around it.

    Parameters
    ----------
    gene_list
        Names of genes; by default those that the spatial data did not measure.
    adata, indices
        Which spatial cells; by default the model's own.
    measured_by
        The data set whose measurement is imagined, the mean over its batches; None: the cells' own.
    library_size
        What the proportions are multiplied by: a number, or ``"latent"`` for each cell's own total (expected counts).
    interval
        Share of the posterior between ``lower`` and ``upper``.
    n_samples
        Draws of z a cell.
    batch_size
        Cells at once.
    seed
        Of the draws.
    progress
        Whether to show a bar.

    Returns
    -------
    ``mean, std, lower, upper``, each a data frame cells x genes.

    Raises
    ------
    ArgumentError
        A gene is unknown (the nearest is named), or the interval is not a share.
    """
    self.require_trained()
    if not 0 < interval < 1:
        raise ArgumentError(f"interval={interval!r} is not allowed: it is a share between 0 and 1.")
    panel = self.setup.sources[-1].features
    known = pd.Index(self.setup.var_names)
    names = list(known[~known.isin(panel)]) if gene_list is None else [gene_list] if isinstance(gene_list, str) else list(gene_list)
    genes, among = (torch.from_numpy(known.get_indexer(pd.Index(of))).to(self.device) for of in (names, panel))
    genes_of(self, names)  # names what is unknown
    source = self.source(adata)
    if indices is None and adata is None:
        indices = np.flatnonzero(source.obs[SOURCE] == self.setup.sources[-1].name)
    views = counterfactuals(self, _batches(self, measured_by))
    parts: list[list[np.ndarray]] = []
    index = self.cell_names(source, indices)
    module: Any = self.module
    with settings.private_seed(seed), settings.task("Imputing", len(index), progress) as work:
        for cells in self.batches(source, indices, batch_size or 64):
            z = draw(module.posterior(cells), n_samples)
            y = torch.stack([module.generative(z, cells.replace(view)).x.relative(genes, among) for view in views]).mean(0)
            y = y * (z.log_l.exp() if library_size == "latent" else float(library_size))
            tail = torch.tensor([(1 - interval) / 2, (1 + interval) / 2], dtype=y.dtype, device=y.device)
            parts.append([v.cpu().numpy() for v in (y.mean(0), y.std(0), *y.quantile(tail, dim=0))])
            work.step(len(cells))
    return Imputed(*(pd.DataFrame(np.concatenate(p), index, names) for p in zip(*parts, strict=True)))
