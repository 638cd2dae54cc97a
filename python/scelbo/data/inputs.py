"""What a first layer reads."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scelbo.data.counts import Counts


class Beside:
    """Counts, and further columns beside them, as encoders read both: a product is that with the whole matrix.

    Parameters
    ----------
    counts
        (rows, n_vars), sparse.
    more
        (rows, k), dense.
    """

    def __init__(self, counts: Counts, more: Float[Tensor, "rows k"]):
        self.counts, self.more = counts, more

    def __len__(self) -> int:
        return len(self.counts)

    def __matmul__(self, weight: Float[Tensor, "n k"]) -> Float[Tensor, "rows k"]:
        n = self.counts.n_vars
        return torch.addmm(self.counts @ weight[:n], self.more, weight[n:])


Input: TypeAlias = Tensor | Counts | Beside
"""What a first layer reads."""
