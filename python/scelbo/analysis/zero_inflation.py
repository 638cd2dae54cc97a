"""Which genes have more zeros than their distribution without structural zeros explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
import torch
from anndata import AnnData

from scelbo.arguments import named, question
from scelbo.data.minified import Gone
from scelbo.nn import PerCategory

if TYPE_CHECKING:
    from scelbo.model import Model


@question
def alphas_betas(self: Model) -> dict[str, np.ndarray]:
    r"""Parameters of :math:`q(\delta_g) = \mathrm{Beta}(\alpha_g, \beta_g)` and of its prior.

    Returns
    -------
    ``alpha_posterior, beta_posterior``: (genes,), or (genes, categories) with ``zero_inflation="gene-batch"`` or ``"gene-label"``;
    ``alpha_prior, beta_prior``: (1,).
    """
    self.require_trained()
    module: Any = self.module
    out: dict[str, torch.Tensor] = {}
    for name in ("alpha", "beta"):
        rows = module.rows(name).sigmoid()
        out[f"{name}_posterior"] = rows.T if isinstance(module.posterior_logits[name], PerCategory) else rows[0]
        out[f"{name}_prior"] = module.prior_of(name)
    return {name: value.cpu().numpy() for name, value in out.items()}


@named
def zero_inflation(self: Model, adata: AnnData | None = None, indices: Any = None, *, threshold: float = 0.5) -> pd.DataFrame:
    r"""Which genes are zero-inflated: :math:`P(\delta_g < 1/2 \mid x)`, by the Beta's distribution function.

    Of a gene that is hardly counted nobody can tell: an NB explains its zeros as well. Hence the mean beside the probability.

    Parameters
    ----------
    adata, indices
        Cells that ``mean`` and ``zeros`` are of; the rest is the model's.
    threshold
        Genes with a probability above it are called.

    Returns
    -------
    A row a gene, and with ``zero_inflation="gene-batch"`` or ``"gene-label"`` a row a gene and category, named in the column
    ``batch`` or ``label``: ``alpha, beta`` of the posterior; ``probability`` that the gene is zero-inflated; ``zero_inflated``, the call;
    ``mean`` count and share of ``zeros`` over the cells (of the category), which are left out where there are no counts.
    """
    self.require_trained()
    module: Any = self.module
    table, found = module.posterior_logits["alpha"], alphas_betas(self)
    covariate = table.covariate if isinstance(table, PerCategory) else None
    categories: list[Any] = [None] if covariate is None else self.setup.categories[covariate]
    counted = {} if adata is None and self.adata is None else _counted(self, adata, indices, covariate, len(categories))
    genes, parts = pd.Index(self.setup.var_names), []
    for i, category in enumerate(categories):
        a, b = (np.atleast_2d(found[f"{name}_posterior"].T)[i] for name in ("alpha", "beta"))
        probability = scipy.stats.beta.cdf(0.5, a, b)
        columns = {"alpha": a, "beta": b, "probability": probability, "zero_inflated": probability > threshold}
        columns |= {name: values[i] for name, values in counted.items()}
        parts.append(pd.DataFrame(columns if covariate is None else {covariate: category, **columns}, index=genes))
    return pd.concat(parts)


def _counted(model: Model, adata: AnnData | None, indices: Any, covariate: str | None, n: int) -> dict[str, np.ndarray]:
    """Mean count and share of zeros of each gene in each category, (categories, genes) both; nothing where counts are gone."""
    genes, cells_in = model.setup.n_vars, np.zeros((n, 1))
    sums, present = torch.zeros(n * genes, dtype=torch.float64), torch.zeros(n * genes, dtype=torch.float64)
    for cells in model.batches(adata, indices):
        x: Any = cells.x.to("cpu")  # type: ignore[attr-defined]
        if isinstance(x, Gone):
            return {}
        codes = torch.zeros(len(cells), dtype=torch.int64) if covariate is None else cells.codes(covariate).cpu()
        at = codes[x.row] * genes + x.col
        sums.index_add_(0, at, x.val.double())
        present.index_add_(0, at, torch.ones_like(at, dtype=torch.float64))
        cells_in[:, 0] += np.bincount(codes.numpy(), minlength=n)
    with np.errstate(invalid="ignore"):  # a category without cells has no mean
        return {"mean": sums.view(n, genes).numpy() / cells_in, "zeros": 1 - present.view(n, genes).numpy() / cells_in}
