r"""Cells whose counts were replaced by what a model says of them: the parameters of :math:`q(z \\mid x)`, some numbers a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor

from scelbo.data.counts import Counts
from scelbo.data.disk import shared, stays_on_disk
from scelbo.errors import DataError

MARK = "scelbo_minified"
"""In ``uns``: whose cells these are, and whether the counts were kept."""
KEY = "scelbo_q_"


class Gone(Counts):
    """In the place of counts that were taken out: any use of them is an error that says so."""

    def __init__(self) -> None:  # it has none of what counts have
        pass

    def take(self, rows: Tensor | slice) -> Gone:
        return self

    def to(self, *args: Any, **kwargs: Any) -> Gone:
        return self

    def __getattr__(self, name: str) -> NoReturn:
        raise DataError(
            "These cells were minified: their counts are gone, and this question needs them.",
            "Give the cells with their counts: adata=..., or minify(keep_counts=True).",
        )


def minified(adata: AnnData, obs: pd.DataFrame, owner: str, posterior: Mapping[str, np.ndarray], keep_counts: bool) -> AnnData:
    """A copy of the cells' annotation ``obs`` with ``posterior`` in ``obsm``, and with the counts or without any."""
    if keep_counts:
        small = shared(adata) if stays_on_disk(adata) else adata.copy()
    else:
        nothing = sparse.csr_matrix(adata.shape, dtype=np.float32)
        small = AnnData(nothing, obs=obs.copy(), var=pd.DataFrame(index=adata.var_names.copy()), uns=dict(adata.uns))
    small.obsm.update({KEY + name: values for name, values in posterior.items()})
    small.uns[MARK] = {"model": owner, "counts": keep_counts}
    return small


def noted(adata: AnnData) -> tuple[dict[str, Tensor] | None, bool]:
    """(latent -> its parameters, or None where the cells are whole; whether there are counts)."""
    if MARK not in adata.uns:
        return None, True
    kept = {k.removeprefix(KEY): torch.from_numpy(np.asarray(v, np.float32)) for k, v in adata.obsm.items() if k.startswith(KEY)}
    return kept, bool(adata.uns[MARK]["counts"])
