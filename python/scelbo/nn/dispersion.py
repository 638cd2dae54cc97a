"""How much counts scatter around their means: a number for each feature, and what it depends on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.data import Batch, Setup
from scelbo.nn.conditional import Linear, PerCategory


def per_feature(how: str, n: int, setup: Setup, n_hidden: int | None = None, spread: float = 1.0) -> nn.Module:
    """A number for each of ``n`` features that starts at random around zero, as ``how`` says after its first dash.

    ``"gene"``: one for each; ``"gene-batch", "gene-label"``: one for each in each category; ``"gene-cell"``: linear in a hidden layer.

    >>> per_feature("protein-batch", 3, Setup({}, {"batch": ["a", "b"]})).rows().shape
    torch.Size([2, 3])
    """
    covariate = how.partition("-")[2]
    if covariate == "cell":
        assert n_hidden is not None
        return Linear(n_hidden, n)
    if not covariate:
        return nn.ParameterDict({"all": nn.Parameter(spread * torch.randn(n))})
    return PerCategory(covariate, setup.n_categories(covariate)[covariate], n, bound=spread)


def for_cells(part: nn.Module, cells: Batch, hidden: Tensor | None = None) -> Float[Tensor, "*s #cells features"]:
    """What :func:`per_feature` made, for each cell; or in one row, where it is the same for all."""
    if isinstance(part, PerCategory):
        return part(cells)
    return part(hidden) if isinstance(part, Linear) else part["all"][None]  # type: ignore[index]
