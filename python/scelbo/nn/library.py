"""The prior of library sizes, where these are latent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from scelbo.data import Batch
from scelbo.nn.conditional import PerCategory


class LibraryPrior(PerCategory):
    """Mean and variance of the log library size in each batch, taken from the data."""

    def __init__(self, n_batches: int):
        super().__init__("batch", n_batches, 2, learns=False)

    def take(self, size: Tensor, batch: Tensor) -> None:
        """Note them, for the batches that do not come with a reference: of (cells, 1) library sizes and (cells,) codes."""
        log_l = size.log().squeeze(-1)
        for b in batch.unique():
            here = log_l[batch == b]
            self.set_row(int(b), torch.stack([here.mean(), here.var(unbiased=False)]))

    def of(self, cells: Batch) -> Normal:
        """p(log l), (cells, 1)."""
        mean, var = self(cells).split(1, -1)
        return Normal(mean, var.clamp_min(1e-8).sqrt(), validate_args=False)
