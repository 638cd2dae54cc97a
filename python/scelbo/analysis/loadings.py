"""What the latent dimensions of a linear decoder do to genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from scelbo.arguments import question

if TYPE_CHECKING:
    from scelbo.model import Model


@question
def loadings(self: Model, *, covariates: bool = False) -> pd.DataFrame:
    r"""Loadings of genes: by how much a unit of each latent dimension raises a gene's log proportion, before all are normalised.

    .. math:: \mathrm{diag}(\gamma / \sqrt{v + \epsilon})\, W

    with the batch norm's factor :math:`\gamma` and running variance v. Signs and order of the dimensions have no meaning; a row less its
    column's mean over genes tells what is above the average gene.

    Parameters
    ----------
    covariates
        Also what each category of the categorical covariates adds, and a unit of each continuous one.

    Returns
    -------
    Genes x ``Z_0, Z_1, ...``; with ``covariates`` then ``batch=A`` (key and category) and the names of continuous covariates.

    Examples
    --------
    >>> from scelbo import LinearSCVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> LinearSCVI.setup_anndata(adata, batch_key="batch")
    >>> model = LinearSCVI(adata, n_latent=2)
    >>> model.train(max_epochs=2, progress=False)
    >>> list(model.get_loadings(covariates=True))
    ['Z_0', 'Z_1', 'batch=batch0', 'batch=batch1']
    """
    self.require_trained()
    module: Any = self.module
    scale, _ = module.rho.folded()
    layer, setup = module.rho.layer, self.setup
    columns = {f"Z_{i}": row for i, row in enumerate(layer.weight)}
    if covariates:
        for shift in layer.shifts:
            columns.update(_of_categories(self, shift.covariate, shift.rows()))
        numbers = list(setup.keys.get("continuous_covariate_keys") or [])
        columns.update(zip(numbers, layer.slope if numbers else [], strict=False))
        if module.batch_embedding is not None:
            columns.update(_of_categories(self, "batch", module.batch_embedding.rows() @ layer.slope[len(numbers) :]))
    return pd.DataFrame({name: (row * scale).cpu().numpy() for name, row in columns.items()}, index=pd.Index(setup.var_names))


def _of_categories(model: Model, covariate: str, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    if len(rows) == 1:
        return {}
    key = model.setup.keys["batch_key"] if covariate == "batch" else covariate.removeprefix("extra.")
    return {f"{key}={category}": row for category, row in zip(model.setup.categories[covariate], rows, strict=True)}
