"""The networks that models are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo.data import Batch, Counts
from scelbo.nn.conditional import ConditionalLinear

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {name: getattr(F, name) for name in ("relu", "leaky_relu", "elu", "gelu", "silu")}


Where = Literal["encoder", "decoder", "none", "both"]


def norms_of(model: Any) -> dict[str, dict[str, Any]]:
    """Side -> arguments of :class:`MLP`, of a model's ``use_batch_norm`` and ``use_layer_norm`` (each a :data:`Where`)."""
    stands = lambda where, side: where in (side, "both")  # noqa: E731
    return {
        side: {"batch_norm": stands(model.use_batch_norm, side), "layer_norm": stands(model.use_layer_norm, side)}
        for side in ("encoder", "decoder")
    }


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that can be frozen: then it uses, and keeps, the statistics it came with, while the rest trains."""

    frozen = False

    def train(self, mode: bool = True) -> BatchNorm:
        return super().train(mode and not self.frozen)


class MLP(nn.Module):
    """``n_layers`` of conditional linear -> batch norm -> layer norm -> activation -> dropout.

    Categories enter every layer (``deep``) or the first only; continuous covariates enter the first.

    Parameters
    ----------
    n_in, n_hidden, n_layers
        Sizes.
    categories
        Covariate -> number of categories.
    n_continuous
        Width of the continuous covariates.
    dropout
        Share of hidden units dropped.
    batch_norm, layer_norm
        Which norms stand in each layer.
    deep
        Whether categories enter every layer.
    activation
        Name of the activation.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_layers: int,
        *,
        categories: Mapping[str, int] | None = None,
        n_continuous: int = 0,
        dropout: float = 0.0,
        batch_norm: bool = True,
        layer_norm: bool = False,
        deep: bool = True,
        activation: Activation = "relu",
    ):
        super().__init__()
        self.linear = nn.ModuleList(
            ConditionalLinear(n_in if i == 0 else n_hidden, n_hidden, categories if deep or i == 0 else None, n_continuous if i == 0 else 0)
            for i in range(n_layers)
        )
        norm = lambda: nn.Sequential(  # noqa: E731
            BatchNorm(n_hidden, momentum=0.01, eps=0.001) if batch_norm else nn.Identity(),
            nn.LayerNorm(n_hidden, elementwise_affine=False) if layer_norm else nn.Identity(),
        )
        self.norm = nn.ModuleList(norm() for _ in range(n_layers))
        self.dropout, self.activation = nn.Dropout(dropout), ACTIVATIONS[activation]

    def forward(self, h: Tensor | Counts, cells: Batch | None = None, t: Tensor | None = None) -> Float[Tensor, "*s cells n_hidden"]:
        for linear, norm in zip(self.linear, self.norm, strict=True):
            y: Tensor = linear(h, cells, t)
            y = norm(y.flatten(0, -2)).view_as(y)  # sample axes are just more rows
            h = self.dropout(self.activation(y))
        assert isinstance(h, Tensor)
        return h


class Encoder(nn.Module):
    """What reads data: h = MLP(x)."""

    body: MLP


class PointEncoder(Encoder):
    """A value for each cell, :math:`W h + b` with h = MLP(x)."""

    def __init__(self, n_in: int, n_out: int, n_hidden: int, n_layers: int, **mlp: object):
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp)  # type: ignore[arg-type]
        self.value = nn.Linear(n_hidden, n_out)

    def forward(self, x: Tensor | Counts, cells: Batch, t: Tensor | None = None) -> Float[Tensor, "cells n_out"]:
        return self.value(self.body(x, cells, t))


class GaussianMLP(nn.Module):
    r""":math:`N(m(h), v(h) + \text{floor})` with h = MLP(x): the distribution, never a draw from it."""

    def __init__(
        self, n_in: int, n_latent: int, n_hidden: int, n_layers: int, *,
        var_activation: Literal["exp", "softplus"] = "exp", floor: float = 1e-4, **mlp: object,
    ):  # fmt: skip
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp)  # type: ignore[arg-type]
        self.mean, self.var = nn.Linear(n_hidden, n_latent), nn.Linear(n_hidden, n_latent)
        self.positive, self.floor = torch.exp if var_activation == "exp" else F.softplus, floor

    def forward(self, x: Tensor | Counts, cells: Batch, t: Tensor | None = None) -> Normal:
        h = self.body(x, cells, t)
        return Normal(self.mean(h), (self.positive(self.var(h)) + self.floor).sqrt(), validate_args=False)


class GaussianEncoder(GaussianMLP, Encoder):
    r"""A :class:`GaussianMLP` that reads data: :math:`q(z \mid x)`."""


class Classifier(nn.Module):
    """Logits of q(c | z): a linear map of z, or of an MLP of it."""

    def __init__(self, n_in: int, n_labels: int, n_hidden: int, n_layers: int, **mlp: Any):
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp) if n_layers else None
        self.logits = nn.Linear(n_hidden if n_layers else n_in, n_labels)

    def forward(self, z: Float[Tensor, "*s cells n_in"]) -> Float[Tensor, "*s cells labels"]:
        return self.logits(z if self.body is None else self.body(z))
