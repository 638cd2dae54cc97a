"""A model whose true posterior is known: z ~ N(0, 1), x | z ~ N(z, 1)."""

from typing import NamedTuple

import torch
from torch.distributions import Normal

import scelbo
from scelbo.module import VAE


class Latents(NamedTuple):
    z: Normal


class Unit:
    """x ~ N(z, 1)."""

    def __init__(self, z):
        self.z = z

    def log_prob(self, x):
        return Normal(self.z, 1).log_prob(x.dense()).sum(-1)


class Explained(NamedTuple):
    x: Unit


class Conjugate(VAE):
    """z ~ N(0, 1), x | z ~ N(z, 1): the posterior is N(x / 2, 1 / 2); q has that mean, and ``width`` times its deviation."""

    def __init__(self, width):
        super().__init__()
        self.deviation = torch.nn.Parameter(torch.tensor(width * 0.5**0.5))

    def inference(self, cells):
        mean = cells.x.dense() / 2
        return Latents(Normal(mean, self.deviation.expand(mean.shape)))

    def generative(self, z, cells):
        return Explained(Unit(z.z))


class Known(scelbo.Model):
    width: float = 1.0

    def build(self, setup):
        return Conjugate(self.width)


def known(adata, width=1.0):
    """A Known of these cells; it has nothing to learn."""
    Known.setup_anndata(adata, allow_non_counts=True)
    model = Known(adata, width=width)
    model.is_trained = True
    scelbo.model.MODELS.pop("Known", None)  # no other test should meet it
    return model
