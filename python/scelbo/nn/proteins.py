"""From latents to antibody counts: the decoder that every model with proteins shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo.data import Batch
from scelbo.nn.conditional import ConditionalLinear
from scelbo.nn.mlp import MLP

Activation = Literal["softplus", "exp"]
POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {"softplus": F.softplus, "exp": torch.exp}
TINY = 1e-8
"""Keeps a standard deviation above zero."""


class Decoded(NamedTuple):
    """What a protein count is made of."""

    log_back: Normal  # q(log beta | z, s), (..., cells, proteins)
    log_alpha: Tensor  # (..., cells, proteins), at least 0
    mixing: Tensor  # (..., cells, proteins) logit of the background
    hidden: Tensor  # what the mixing was made of


class ProteinDecoder(nn.Module):
    r"""Background :math:`q(\log \beta \mid z, s)`, foreground factor :math:`\alpha(z, s)`, logit of :math:`\pi(z, s)`: a network each.

    Their last layers read the hidden layer, z and the covariates.

    Parameters
    ----------
    n_latent, n_proteins, n_hidden, n_layers
        Sizes.
    seen
        ``categories`` and ``n_continuous``: the covariates s.
    background_activation
        Makes the background's standard deviation positive.
    **mlp
        Further arguments of :class:`~scelbo.nn.MLP`.
    """

    def __init__(
        self, n_latent: int, n_proteins: int, n_hidden: int, n_layers: int, seen: dict[str, Any],
        background_activation: Activation = "softplus", **mlp: Any,
    ):  # fmt: skip
        super().__init__()
        self.positive = POSITIVE[background_activation]
        body = lambda: MLP(n_latent, n_hidden, n_layers, **seen, **mlp)  # noqa: E731
        out = lambda: ConditionalLinear(n_hidden + n_latent, n_proteins, **seen)  # noqa: E731
        self.back_body, self.fore_body, self.mixing_body = body(), body(), body()
        self.back_mean, self.back_sd, self.fore, self.mixing = out(), out(), out(), out()

    def forward(self, z: Float[Tensor, "*s cells n_latent"], cells: Batch, t: Tensor | None) -> Decoded:
        back, fore, mixing = (torch.cat([body(z, cells, t), z], -1) for body in (self.back_body, self.fore_body, self.mixing_body))
        log_back = Normal(self.back_mean(back, cells, t), self.positive(self.back_sd(back, cells, t)) + TINY, validate_args=False)
        log_alpha = torch.log1p(self.fore(fore, cells, t).relu())
        return Decoded(log_back, log_alpha, self.mixing(mixing, cells, t), mixing)
