"""Imputed values that are held back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scelbo.nn.conditional import PerCategory
from scelbo.nn.links import LINKS


class Borrowed(nn.Module):
    r"""What is said of cells that lack a modality, :math:`\lambda \rho(z, s) + (1 - \lambda) \bar\rho_s`: closer to their batch's mean.

    What one modality says of another is less sure than q(z | x), which learns from what it explains itself. :math:`\lambda` is that with
    which held-out cells are imputed best (:func:`scelbo.analysis.borrowing`); one before that.

    Parameters
    ----------
    n_batches, n_features
        Sizes.
    link
        From what the decoder puts out to the mean that it stands for.
    """

    def __init__(self, n_batches: int, n_features: int, link: str):
        super().__init__()
        self.link, self.inverse = LINKS[link]
        self.mean = PerCategory("batch", n_batches, n_features, learns=False)
        self.mean.table.data.zero_()
        self.trust: Tensor
        self.register_buffer("trust", torch.ones(1))

    def forward(self, h: Tensor, cells: Any, lacks: Tensor | None, features: Tensor | slice = slice(None)) -> Tensor:
        """Of the ``features`` only; ``lacks``, (cells, 1), may be None: no cell does."""
        if lacks is None or bool(self.trust == 1):
            return h
        mean = self.mean.rows()[:, features][cells.batch]
        return torch.where(lacks, self.inverse(torch.lerp(mean, self.link(h), self.trust)), h)
