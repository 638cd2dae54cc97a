"""In which state the cells of a type are in each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scelbo.analysis.proportions import types_of
from scelbo.arguments import named

if TYPE_CHECKING:
    from scelbo.model import Model


@torch.no_grad()
@named
def states(
    self: Model, adata: AnnData | None = None, indices: Any = None, *, return_numpy: bool = False, batch_size: int | None = None
) -> dict[str, pd.DataFrame] | np.ndarray:
    r"""The state of each type in each spot, :math:`\gamma_{sz}` in the reference's latent space.

    Of a type that a spot has nothing of it is what its prior says. Where types have several states, their mean by amounts.

    Parameters
    ----------
    adata, indices, batch_size
        Which spots, how many at once.
    return_numpy
        One array (types, spots, n_latent).

    Returns
    -------
    Type -> data frame spots x latent dimensions.
    """
    self.require_trained()
    module: Any = self.module
    gamma = torch.cat([module.of_types(module.gamma(spots), spots) for spots in self.batches(adata, indices, batch_size)], 1).cpu().numpy()
    if return_numpy:
        return gamma
    names = self.cell_names(adata, indices)
    return {t: pd.DataFrame(values, names) for t, values in zip(self.cell_types, gamma, strict=True)}  # type: ignore[attr-defined]


@named
def scale_of_type(
    self: Model, label: str, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None
) -> pd.DataFrame:
    r"""Expected share of each gene in a cell of this type, in the state of each spot: :math:`f_g(z, \gamma_{sz}) e^{o_g}`.

    (Of several states the mean, by their amounts.)

    Parameters
    ----------
    label
        The type.
    adata, indices, batch_size
        Which spots, how many at once.

    Returns
    -------
    Data frame spots x genes.
    """
    return _of_type(self, label, adata, indices, batch_size, amounts=False)


@named
def expression_of_type(
    self: Model, label: str, adata: AnnData | None = None, indices: Any = None, *, batch_size: int | None = None
) -> pd.DataFrame:
    r"""Expected counts of each gene that this type's cells give in each spot: :math:`v_{sz} \beta_g f_g(z, \gamma_{sz}) e^{o_g}`.

    Parameters
    ----------
    label
        The type.
    adata, indices, batch_size
        Which spots, how many at once.

    Returns
    -------
    Data frame spots x genes; over all types and noise these add up to the expected counts.
    """
    return _of_type(self, label, adata, indices, batch_size, amounts=True)


@torch.no_grad()
def _of_type(self: Model, label: str, adata: AnnData | None, indices: Any, batch_size: int | None, amounts: bool) -> pd.DataFrame:
    self.require_trained()
    module: Any = self.module
    n, kind = module.n_states, types_of(self, label)[0]
    at = torch.arange(kind * n, (kind + 1) * n, device=self.device)

    def of(spots: Any) -> Tensor:
        scale = module.decoded(module.gamma(spots)[at], at // n, spots) * module.o.exp()
        if not amounts:
            return module.of_types(scale, spots, [kind])[0]
        v = module.informed(module.solved(spots), spots)[:, at]
        return (v.T[..., None] * scale).sum(0) * torch.nn.functional.softplus(module.beta(spots))

    values = torch.cat([of(spots) for spots in self.batches(adata, indices, batch_size)]).cpu().numpy()
    return pd.DataFrame(values, index=self.cell_names(adata, indices), columns=self.setup.var_names)
