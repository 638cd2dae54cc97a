"""Numbers that each spot has of its own: free ones, or a network's function of its counts; and shares of types, as mixtures teach them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.data import Counts
from scelbo.nn.mlp import MLP, PointEncoder

NOTHING = 1e-9
"""Share of the whole that each type has at the least: where noise explains all, the types share evenly what is left."""

PSEUDO = 100.0
"""Counts of what all types have in common, added to each type's."""


def amount_of_types(v: Float[Tensor, "spots types_1"]) -> Float[Tensor, "spots types"]:
    """Of the types alone: noise comes last, and is none."""
    return v[:, :-1] + NOTHING * v.sum(-1, keepdim=True)


def shares_of(v: Float[Tensor, "spots types_1"]) -> Float[Tensor, "spots types"]:
    """The shares of the types."""
    return nn.functional.normalize(amount_of_types(v), p=1, dim=-1)


def of_types(v: Float[Tensor, "spots states_1"], states: int) -> Float[Tensor, "spots types_1"]:
    """Each type's amount: that of its states together; noise is as it was."""
    return torch.cat([v[:, :-1].unflatten(-1, (-1, states)).sum(-1), v[:, -1:]], -1)


def within_types(v: Float[Tensor, "spots states_1"], states: int) -> Float[Tensor, "spots types states"]:
    """The share of each of its states in a type; even where a spot has nothing of the type."""
    return nn.functional.normalize(amount_of_types(v).unflatten(-1, (-1, states)), p=1, dim=-1)


def with_shares(v: Float[Tensor, "spots states_1"], shares: Float[Tensor, "spots types"], states: int) -> Float[Tensor, "spots states_1"]:
    """As much of all types together, in these shares; within a type, and of noise, as it was."""
    of_states = (shares[..., None] * within_types(v, states)).flatten(1)
    return torch.cat([of_states * amount_of_types(v).sum(-1, keepdim=True), v[:, -1:]], -1)


def mean_profiles(counted: Float[Tensor, "types genes"], total: Float[Tensor, "types 1"]) -> Float[Tensor, "types genes"]:
    """Mean share of each gene in the counts of each type, with a little of what all types have in common."""
    together = counted.sum(0) / total.sum()
    return (counted + PSEUDO * together) / (total + PSEUDO)


class PerSpot(nn.Embedding):
    """``n`` free numbers for each of the spots that train."""

    def __init__(self, spots: int, n: int):
        super().__init__(spots, n)

    def forward(self, spots: Any) -> Float[Tensor, "spots n"]:
        return super().forward(spots.index)

    @torch.no_grad()
    def start(self, values: Float[Tensor, "spots n"]) -> None:
        """Start here."""
        self.weight.copy_(values)


class OfCounts(PointEncoder):
    """``n`` numbers that a network reads off log(1 + counts), by way of ``n_latent`` others if so said: new spots have theirs too."""

    def __init__(self, genes: int, n: int, n_hidden: int, dropout: float, n_latent: int | None = None):
        how: dict[str, Any] = {"batch_norm": False, "layer_norm": True, "dropout": dropout}
        super().__init__(genes, n, n_hidden, 2, **how)
        if n_latent is not None:
            self.latent, self.wide = nn.Linear(n_hidden, n_latent), MLP(n_latent, n_hidden, 2, **how)

    def forward(self, spots: Any) -> Float[Tensor, "spots n"]:  # type: ignore[override]
        h = self.body(spots.x.map(torch.log1p), spots)
        return self.value(self.wide(self.latent(h), spots) if hasattr(self, "wide") else h)

    @torch.no_grad()
    def start(self, values: Float[Tensor, "spots n"]) -> None:
        """Start near the mean of these."""
        self.value.weight.mul_(0.1)
        self.value.bias.copy_(values.mean(0))


class SharesOfCounts(nn.Module):
    r"""Shares of types, the mean of what some networks read off :math:`\sqrt{1000\, x / \sum_g x_g}`.

    Mixtures of known cells have taught them, each of other cells (:func:`scelbo.analysis.learn_from_mixtures`); no plan trains them on.
    ``trust`` is how far they are believed, beside what the model itself finds: not at all before that.
    """

    def __init__(self, genes: int, types: int, members: int, n_hidden: int = 128, dropout: float = 0.1):
        super().__init__()
        how: dict[str, Any] = {"n_hidden": n_hidden, "n_layers": 2, "batch_norm": False, "dropout": dropout}
        self.members = nn.ModuleList(PointEncoder(genes, types, **how) for _ in range(members)).requires_grad_(False)
        self.trust: Tensor
        self.taught: Tensor
        self.register_buffer("trust", torch.zeros(1))
        self.register_buffer("taught", torch.zeros(members, dtype=torch.bool))

    def logits(self, x: Counts, member: int) -> Float[Tensor, "spots types"]:
        """What one of them says."""
        return self.members[member](x.scaled(1000 / x.size).map(torch.sqrt))

    def beside(self, own: Float[Tensor, "spots types"], x: Counts) -> Float[Tensor, "spots types"]:
        """A model's own shares, nearer to these, as far as they are trusted."""
        return torch.lerp(own, self(x), self.trust) if self.trusted else own

    @property
    def trusted(self) -> bool:
        """Whether they are at all."""
        return bool(self.trust > 0)

    def forward(self, x: Counts) -> Float[Tensor, "spots types"]:
        """The mean of those that were taught: one whose lessons would lack a type is not."""
        return torch.stack([self.logits(x, m).softmax(-1) for m in self.taught.nonzero()[:, 0].tolist()]).mean(0)
