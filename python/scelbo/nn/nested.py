"""Labels that are nested in types."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NestedClassifier(nn.Module):
    """Which of the finer labels of its type something at z has, by logits that are linear in z.

    ``parent`` is the type of each label, (labels,); -1 before it is known.
    """

    parent: Tensor

    def __init__(self, n_in: int, n_labels: int):
        super().__init__()
        self.logits = nn.Linear(n_in, n_labels)
        self.register_buffer("parent", torch.full((n_labels,), -1))

    def observe(self, label: Tensor, kind: Tensor) -> None:
        """Note the type of each label, of things of which some have one (else -1)."""
        self.parent[label[label >= 0]] = kind[label >= 0]

    def own(self, kind: Tensor) -> Tensor:
        """Which labels are of a type, (..., labels)."""
        return kind[..., None] == self.parent

    def forward(self, z: Float[Tensor, "*s n_in"], kind: Tensor) -> Float[Tensor, "*s labels"]:
        return self.logits(z).masked_fill(~self.own(kind), torch.finfo(z.dtype).min)

    def shares(self, z: Float[Tensor, "*s n_in"], kind: Tensor) -> Float[Tensor, "*s labels"]:
        """The probability of each label; where a type has none, all are 0."""
        return self(z, kind).softmax(-1) * self.own(kind)
