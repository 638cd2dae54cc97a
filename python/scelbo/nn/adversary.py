"""A second player: it learns to tell from z where a cell comes from, and the model learns that it cannot."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from scelbo.nn.mlp import Classifier


class Adversary(Classifier):
    r"""A classifier a(c | z) of the cells' origin c (batch, data set, modality), and what either side minimises.

    .. math::
        \text{adversary} &= -\log a(c \mid \bar z) \qquad\text{moves the classifier only: the latents } \bar z \text{ are held} \\
        \text{fooling} &= -\tfrac{1}{C - 1} \textstyle\sum_{c' \ne c} \log \bar a(c' \mid z)
            \qquad\text{moves the model only: the classifier } \bar a \text{ is held}

    Each gradient reaches its own player, so both learn from one backward pass and one optimiser, which keeps their states apart
    (Ganin et al., JMLR 17:1, 2016; for data sets of unlike measurements Lopez et al., arXiv:1905.02269).

    Parameters
    ----------
    n_latent
        Dimensions of z.
    n_origins
        Number of categories C.
    n_hidden, n_layers
        Of the classifier.
    """

    def __init__(self, n_latent: int, n_origins: int, n_hidden: int = 32, n_layers: int = 2, **mlp: object):
        super().__init__(n_latent, n_origins, n_hidden, n_layers, **{"batch_norm": False, "activation": "leaky_relu", **mlp})
        self.n_origins = n_origins

    def penalties(
        self, z: Float[Tensor, "cells n_latent"], origin: Int[Tensor, " cells"], among: Bool[Tensor, " origins"] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Both players' means over the cells, by the names that the training plan weighs (``scale_adversarial_loss``).

        ``among``: the origins that there are (default all); the others are no possible answer.
        """
        absent = torch.zeros(self.n_origins, dtype=torch.bool, device=z.device) if among is None else ~among
        log_probability = lambda logits: logits.masked_fill(absent, -torch.inf).log_softmax(-1)  # noqa: E731
        held = {name: p.detach() for name, p in self.named_parameters()}
        own, told, doubt = origin[:, None], log_probability(self(z.detach())), log_probability(functional_call(self, held, (z,)))
        others = doubt.masked_fill(absent, 0.0).sum(-1) - doubt.gather(-1, own)[:, 0]
        n = (~absent).sum() - 1
        return {"fooling": -others.mean() / n.clamp_min(1), "adversary": -told.gather(-1, own).mean()}
