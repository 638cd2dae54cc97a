"""What the model expects to be counted: draws from it, its parameters, and how genes go together in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from scipy.stats import rankdata

from scelbo import settings
from scelbo.analysis.decode import counterfactuals, genes_of, names_of
from scelbo.errors import one_of
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.likelihoods import Likelihood
    from scelbo.model import Model


def _explained(
    model: Model, adata: AnnData | None, indices: Any, batch_size: int | None, draws: int | None, transform_batch: Any = None
) -> Iterator[Likelihood]:
    """The likelihood of each minibatch's counts, at ``draws`` draws of the latents (None: at their means)."""
    module: Any = model.module
    view = counterfactuals(model, transform_batch)[0]
    for cells in model.batches(adata, indices, batch_size):
        z = draw(module.posterior(cells), draws, mean=draws is None)
        yield module.generative(z, cells.replace(view)).x


@torch.inference_mode()
def posterior_predictive_sample(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 1,
    gene_list: Sequence[str] | None = None,
    transform_batch: Any = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> sparse.csr_matrix | list[sparse.csr_matrix]:
    r"""Counts that the model would have produced: :math:`z \sim q(z \mid x)`, then :math:`\tilde x \sim p(x \mid z)`.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_samples
        Draws a cell.
    gene_list
        Names of genes.
    transform_batch
        Draw as if the cells were from this batch.
    seed
        Of the draws.

    Returns
    -------
    Sparse cells x genes; a list of these for several samples.
    """
    self.require_trained()
    genes = genes_of(self, gene_list)
    parts: list[list[sparse.csr_matrix]] = [[] for _ in range(n_samples)]
    with settings.private_seed(seed):
        for explained in _explained(self, adata, indices, batch_size, n_samples, transform_batch):
            for kept, x in zip(parts, explained.sample(), strict=True):
                kept.append(sparse.csr_matrix((x if genes is None else x[:, genes]).cpu().numpy()))
    drawn = [sparse.vstack(kept, format="csr") for kept in parts]
    return drawn[0] if n_samples == 1 else drawn


@torch.inference_mode()
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
    values the standard deviation), ``dropout`` (logit of a structural zero).
    """
    self.require_trained()
    names = {"mean": lambda p: p.mean, "dispersions": _dispersion, "dropout": lambda p: getattr(p, "zi_logits", None)}
    out: dict[str, list[np.ndarray]] = {}
    with settings.private_seed(seed):
        for explained in _explained(self, adata, indices, batch_size, None if n_samples == 1 else n_samples):
            for name, get in names.items():
                value = get(explained)
                if value is not None:
                    value = value.expand_as(explained.rate.h)
                    value = value.mean(0) if give_mean and n_samples > 1 else value
                    out.setdefault(name, []).append(value.cpu().numpy())
    return {name: np.concatenate(values, axis=-2) for name, values in out.items()}


def _dispersion(explained: Any) -> torch.Tensor | None:
    log_scale = getattr(explained, "log_theta", getattr(explained, "log_sigma", None))
    return None if log_scale is None else log_scale.exp()


@torch.inference_mode()
def feature_correlation_matrix(
    self: Model,
    adata: AnnData | None = None,
    indices: Any = None,
    *,
    n_samples: int = 10,
    gene_list: Sequence[str] | None = None,
    transform_batch: Any = None,
    rna_size_factor: float = 1000,
    correlation_type: Literal["spearman", "pearson"] = "spearman",
    batch_size: int | None = 64,
    seed: int | None = None,
) -> pd.DataFrame:
    r"""Correlation of genes over cells and posterior draws, without counting noise and depth.

    Of :math:`\mathrm{Gamma}(\theta, \theta / (L \rho))` draws, the negative binomial's own rate at one depth L.

    Parameters
    ----------
    adata, indices, batch_size
        Which cells, how many at once.
    n_samples
        Draws a cell.
    gene_list
        Names of genes (memory grows with their square).
    transform_batch
        A batch, or several: the matrices are averaged.
    rna_size_factor
        L: the depth of every cell.
    correlation_type
        ``"spearman"`` or ``"pearson"``.
    seed
        Of the draws.

    Returns
    -------
    Genes x genes.
    """
    self.require_trained()
    one_of("correlation_type", correlation_type, ("spearman", "pearson"))
    genes = genes_of(self, gene_list)
    names = names_of(self, genes)
    total = np.zeros((len(names), len(names)))
    views = counterfactuals(self, transform_batch)
    for view in views:
        with settings.private_seed(seed):
            batches = self.batches(adata, indices, batch_size)
            values = np.concatenate([_denoised(self, cells.replace(view), n_samples, rna_size_factor, genes) for cells in batches])
        total += np.corrcoef(rankdata(values, axis=0) if correlation_type == "spearman" else values, rowvar=False)
    return pd.DataFrame(total / len(views), index=names, columns=names)


def _denoised(model: Model, cells: Any, n: int, size: float, genes: np.ndarray | None) -> np.ndarray:
    """Rates without counting noise, (draws * cells, genes)."""
    module: Any = model.module
    explained = module.generative(draw(module.posterior(cells), n), cells).x
    mean, theta = explained.scale * size, _dispersion(explained)
    rate = mean if theta is None or not hasattr(explained, "log_theta") else torch._standard_gamma(theta.expand_as(mean)) * (mean / theta)
    return (rate if genes is None else rate[..., genes]).flatten(0, 1).cpu().numpy()
