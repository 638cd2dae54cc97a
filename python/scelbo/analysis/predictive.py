"""What the model expects to be counted: draws from it, its parameters, and how genes go together in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy
import torch
from anndata import AnnData
from scipy import sparse

from scelbo import settings
from scelbo.analysis.decode import counterfactuals, explained_fields, genes_of
from scelbo.arguments import question
from scelbo.errors import ArgumentError, one_of
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model


def _explained(
    model: Model, adata: AnnData | None, indices: Any, batch_size: int | None, draws: int | None, view: Any = None
) -> Iterator[dict[str, Any]]:
    """What users call a matrix -> its likelihood, of each minibatch, at ``draws`` draws of the latents (None: at their means)."""
    module: Any = model.module
    for cells in model.batches(adata, indices, batch_size):
        z = draw(module.posterior(cells), draws, mean=draws is None)
        yield {name: module.likelihood_of(of, z, cells.replace(view or {})) for name, of in explained_fields(model).items()}


def _chosen(model: Model, gene_list: Sequence[str] | None, protein_list: Sequence[str] | None) -> dict[str, np.ndarray | slice]:
    """What users call a matrix -> the features asked for."""
    if protein_list is not None and "protein" not in model.setup.features:
        raise ArgumentError("protein_list: these data have no proteins.")
    asked = {"x": gene_list, "protein": protein_list}
    found = {name: genes_of(model, asked.get(of), of) for name, of in explained_fields(model).items()}
    return {name: slice(None) if at is None else at for name, at in found.items()}


@question
def posterior_predictive_sample(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 1,
    gene_list: Sequence[str] | None = None,
    protein_list: Sequence[str] | None = None,
    transform_batch: Any = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Any:
    r"""Counts that the model would have produced: :math:`z \sim q(z \mid x)`, then :math:`\tilde x \sim p(x \mid z)`.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_samples
        Draws a cell.
    gene_list, protein_list
        Names of genes, of proteins.
    transform_batch
        Draw as if the cells were from this batch.
    seed
        Of the draws.

    Returns
    -------
    Sparse cells x genes; a list of these for several samples. Of a model of several matrices a dict of such, ``"rna"``, ``"protein"``, ...
    """
    self.require_trained()
    chosen, view = _chosen(self, gene_list, protein_list), counterfactuals(self, transform_batch)[0]
    parts: dict[str, list[list[sparse.csr_matrix]]] = {name: [[] for _ in range(n_samples)] for name in chosen}
    with settings.private_seed(seed):
        for explained in _explained(self, adata, indices, batch_size, n_samples, view):
            for name, likelihood in explained.items():
                for kept, x in zip(parts[name], likelihood.sample(), strict=True):
                    kept.append(sparse.csr_matrix(x[:, chosen[name]].cpu().numpy()))
    drawn = {name: [sparse.vstack(kept, format="csr") for kept in samples] for name, samples in parts.items()}
    out = {name: samples[0] if n_samples == 1 else samples for name, samples in drawn.items()}
    return out if len(self.modalities) > 1 else out["rna"]


@question
def likelihood_parameters(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 1,
    give_mean: bool = True,
    batch_size: int | None = None,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Parameters of each count's distribution.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_samples
        1 uses the mean of q(z | x); more draw z.
    give_mean
        Average over draws; False keeps them in a first axis.
    seed
        Of the draws.

    Returns
    -------
    Those that the likelihood has, each (cells, genes): ``mean`` (counts), ``dispersions`` (inverse dispersion theta; for normal
    values the standard deviation), ``dropout`` (logit of a structural zero); of proteins, where there are some, ``protein_background,
    protein_foreground`` (means), ``protein_mixing`` (probability of the background) and ``protein_dispersions``.
    """
    self.require_trained()
    out: dict[str, list[np.ndarray]] = {}
    with settings.private_seed(seed):
        for explained in _explained(self, adata, indices, batch_size, None if n_samples == 1 else n_samples):
            for modality, likelihood in explained.items():
                for name, parameter in likelihood.parameters.items():
                    value = parameter.expand_as(likelihood.scale)
                    if give_mean and n_samples > 1:
                        value = value.mean(0)
                    out.setdefault(name if modality == "rna" else f"{modality}_{name}", []).append(value.cpu().numpy())
    return {name: np.concatenate(values, axis=-2) for name, values in out.items()}


@question
def feature_correlation_matrix(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 10,
    gene_list: Sequence[str] | None = None,
    protein_list: Sequence[str] | None = None,
    transform_batch: Any = None,
    rna_size_factor: float = 1000,
    correlation_type: Literal["spearman", "pearson"] = "spearman",
    log_transform: bool = False,
    batch_size: int | None = 64,
    seed: int | None = None,
) -> pd.DataFrame:
    r"""Correlation of genes over cells and posterior draws, without counting noise and depth.

    Of :math:`\mathrm{Gamma}(\theta, \theta / (L \rho))` draws, the negative binomial's own rate at one depth L; of proteins of their
    foreground's.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_samples
        Draws a cell.
    gene_list, protein_list
        Names of genes, of proteins (memory grows with the square of their number).
    transform_batch
        A batch, or several: the matrices are averaged.
    rna_size_factor
        L: the depth of every cell.
    correlation_type
        ``"spearman"`` or ``"pearson"``.
    log_transform
        Of log(1 + values).
    seed
        Of the draws.

    Returns
    -------
    Features x features: genes, then proteins.
    """
    self.require_trained()
    one_of("correlation_type", correlation_type, ("spearman", "pearson"))
    chosen = _chosen(self, gene_list, protein_list)
    names = np.concatenate([np.asarray(self.setup.features[of])[chosen[name]] for name, of in explained_fields(self).items()])
    total = np.zeros((len(names), len(names)))
    views = counterfactuals(self, transform_batch)
    for view in views:
        with settings.private_seed(seed):
            parts = []
            for explained in _explained(self, adata, indices, batch_size, n_samples, view):
                drawn = [p.denoised(float(rna_size_factor)).flatten(0, 1)[:, chosen[name]] for name, p in explained.items()]
                parts.append(torch.cat(drawn, 1).cpu().numpy())
        values = np.log1p(np.concatenate(parts)) if log_transform else np.concatenate(parts)
        with np.errstate(invalid="ignore"):  # a feature whose draws are all alike has no correlation
            total += np.corrcoef(scipy.stats.rankdata(values, axis=0) if correlation_type == "spearman" else values, rowvar=False)
    return pd.DataFrame(total / len(views), index=names, columns=names)
