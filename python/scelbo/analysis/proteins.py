"""Proteins beside RNA: free of background, imputed where they were not measured, and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scelbo import settings
from scelbo.analysis.compare import compare
from scelbo.analysis.decode import counterfactuals, genes_of, names_of
from scelbo.analysis.differential import Test
from scelbo.analysis.differential_expression import differential_expression
from scelbo.analysis.expression import normalized_expression
from scelbo.analysis.minify import encoded_once
from scelbo.arguments import question, takes_also
from scelbo.data import index_of
from scelbo.errors import one_of
from scelbo.likelihoods import ProteinMixture
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

Read = Callable[[ProteinMixture], Tensor]


def counts_read(sample_protein_mixing: bool = False, scale_protein: bool = False, include_protein_background: bool = False) -> Read:
    """What is read of the proteins' distribution: the foreground's expected counts, as the arguments change it."""

    def read(p: ProteinMixture) -> Tensor:
        there = torch.bernoulli(p.probability) if sample_protein_mixing else p.probability
        value = there * p.foreground
        if include_protein_background:
            value = value + (1 - there) * p.background
        return value / value.sum(-1, keepdim=True).clamp_min(1e-12) if scale_protein else value

    return read


@question
def _table(
    model: Model,
    adata: AnnData | None,
    indices: Any,
    read: Read,
    *,
    transform_batch: Any = None,
    transform: dict[str, Any] | None = None,
    protein_list: Sequence[str] | None = None,
    n_samples: int = 1,
    batch_size: int | None = None,
    return_mean: bool = True,
    return_numpy: bool = False,
    seed: int | None = None,
) -> Any:
    """``read`` of every cell, (cells, proteins), averaged over counterfactual batches, and over draws unless these are to be kept."""
    model.require_trained()
    chosen, views = genes_of(model, protein_list, "protein"), counterfactuals(model, transform_batch, transform)
    module: Any = model.module
    draws = None if n_samples == 1 else n_samples
    some = slice(None) if chosen is None else chosen
    source = model.source(adata)
    index = index_of(source.n_obs, indices)

    def values() -> Iterator[np.ndarray]:
        for cells in model.batches(adata, index, batch_size):
            z = draw(module.posterior(cells), draws, mean=draws is None)
            each = torch.stack([read(module.likelihood_of("protein", z, cells.replace(view))) for view in views]).mean(0)
            yield (each if draws is None or not return_mean else each.mean(0))[..., some].cpu().numpy()

    with settings.private_seed(seed):
        table = np.concatenate(list(values()), axis=-2)
    if return_numpy or table.ndim > 2:
        return table
    return pd.DataFrame(table, index=source.obs_names[index], columns=names_of(model, chosen, "protein"))


@takes_also(normalized_expression, without=("out", "lazy", "weights", "importance_cells"))
def normalized_rna_and_protein(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    protein_list: Sequence[str] | None = None,
    sample_protein_mixing: bool = False,
    scale_protein: bool = False,
    include_protein_background: bool = False,
    n_samples_overall: int | None = None,
    seed: int | None = None,
    **more: Any,
) -> tuple[Any, Any]:
    r"""Expected proportions :math:`\rho` of genes, and expected counts of proteins without background, :math:`(1 - \pi) \alpha \beta`.

    Proteins that were not measured in a cell's batch are imputed: decoded as in the batches in which they were (their parameters'
    average). Further arguments are those of :func:`~scelbo.analysis.normalized_expression`: ``transform_batch, transform, gene_list,
    library_size, n_samples, batch_size, return_mean, return_numpy, progress``.

    Parameters
    ----------
    adata, indices
        Which cells.
    protein_list
        Names of proteins; one that the model does not know is an error.
    sample_protein_mixing
        Draw whether a cell has the protein (else its probability counts).
    scale_protein
        Each protein's share of its cell's.
    include_protein_background
        Add what the background contributes, :math:`\pi \beta`.
    n_samples_overall
        Instead of every cell once, so many draws from cells chosen at random, the same for both.
    seed
        Of the draws.

    Returns
    -------
    Two data frames: cells x genes (scale of ``library_size``), cells x proteins (counts).
    """
    seed = settings.fresh_seed(seed)
    if n_samples_overall is not None:
        index = index_of(self.source(adata).n_obs, indices)
        indices = np.random.default_rng(seed).choice(index, n_samples_overall)
    elif adata is None and indices is None:
        self = encoded_once(self)
    rna = normalized_expression(self, adata, indices, seed=seed, **more)
    kept = {k: v for k, v in more.items() if k not in ("gene_list", "library_size", "progress")}
    protein = normalized_protein(
        self, adata, indices, sample_protein_mixing=sample_protein_mixing, scale_protein=scale_protein,
        include_protein_background=include_protein_background, protein_list=protein_list, seed=seed, **kept,
    )  # fmt: skip
    return rna, protein


@takes_also(_table)
def normalized_protein(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    sample_protein_mixing: bool = False,
    scale_protein: bool = False,
    include_protein_background: bool = False,
    **more: Any,
) -> Any:
    r"""Expected counts of proteins without background, :math:`(1 - \pi) \alpha \beta`, imputed where they were not measured.

    Arguments as :func:`normalized_rna_and_protein`; a data frame cells x proteins.
    """
    read = counts_read(sample_protein_mixing, scale_protein, include_protein_background)
    return _table(self, adata, indices, read, **more)


@takes_also(_table)
def protein_foreground_probability(self: Model, adata: AnnData | None = None, indices: Any = None, **more: Any) -> Any:
    r"""Probability :math:`1 - \pi` that each cell has each protein, beyond background.

    Parameters
    ----------
    adata, indices
        Which cells.
    **more
        ``transform_batch, transform, protein_list, n_samples, batch_size, return_mean, return_numpy, seed`` as in
        ``get_normalized_expression``.

    Returns
    -------
    Data frame cells x proteins.
    """
    return _table(self, adata, indices, lambda p: p.probability, **more)


@takes_also(_table)
def protein_background_mean(self: Model, adata: AnnData | None = None, indices: Any = None, **more: Any) -> Any:
    r"""Background :math:`\beta` of each protein in each cell, in counts; arguments and shape as ``get_protein_foreground_probability``."""
    return _table(self, adata, indices, lambda p: p.background, **more)


@takes_also(differential_expression)
def differential_rna_and_protein(
    self: Model,
    adata: AnnData | None = None,
    groupby: str | None = None,
    group1: str | Sequence[str] | None = None,
    group2: str | None = None,
    idx1: Any = None,
    idx2: Any = None,
    *,
    mode: Literal["vanilla", "change"] = "change",
    pseudocounts: float | None = 1e-5,
    protein_prior_count: float = 0.1,
    sample_protein_mixing: bool = False,
    scale_protein: bool = False,
    include_protein_background: bool = False,
    use_field: Sequence[str] = ("rna", "protein"),
    **more: Any,
) -> pd.DataFrame:
    r"""Genes and proteins that differ between groups of cells, with the posterior probability that they do.

    As :func:`~scelbo.analysis.differential_expression`, whose further arguments it takes, of expected proportions of genes and of
    expected foreground counts of proteins, :math:`(1 - \pi) \alpha \beta` plus ``protein_prior_count``.

    Parameters
    ----------
    adata, groupby, group1, group2, idx1, idx2
        Which cells, as there.
    mode, pseudocounts
        As there, with the defaults that suit two modalities.
    protein_prior_count
        Added to proteins' counts before the ratio: none is called for a difference below it.
    sample_protein_mixing, scale_protein, include_protein_background
        As in ``get_normalized_expression``.
    use_field
        ``"rna"``, ``"protein"`` or both.

    Returns
    -------
    As there, best first within each comparison, with the column ``modality``: each has false discoveries of its own.
    """
    fields = [use_field] if isinstance(use_field, str) else list(use_field)
    for name in fields:
        one_of("use_field", name, tuple(self.modalities))
    of_test = ("delta", "test_mode", "change_fn", "cred_interval_lvls", "m1_domain_fn")
    delta, test_mode, change_fn, intervals, m1_domain_fn = (more.pop(name) for name in of_test)
    test = Test(mode, delta, test_mode, pseudocounts, change_fn, intervals, m1_domain_fn)
    counted = counts_read(sample_protein_mixing, scale_protein, include_protein_background)
    reads: dict[str, Any] = {"protein": lambda p: counted(p) + protein_prior_count}
    more["seed"] = settings.fresh_seed(more["seed"])
    where = (adata, groupby, group1, group2, idx1, idx2)
    parts = [compare(self, test, *where, of=self.modalities[name], read=reads.get(name), **more).assign(modality=name) for name in fields]
    table = pd.concat(parts)
    keys = [key for key in ("comparison", groupby) if key in table]
    if not keys:
        return table.sort_values("bayes_factor", ascending=False, kind="stable")
    return pd.concat([part.sort_values("bayes_factor", ascending=False, kind="stable") for _, part in table.groupby(keys, sort=False)])
