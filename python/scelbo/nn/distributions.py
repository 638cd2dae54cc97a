"""Distributions of latents that torch does not have."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Beta


class Known:
    """A latent that is observed after all: a point mass, with no KL."""

    def __init__(self, value: Tensor):
        self.mean = value

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.mean.expand(*shape, *self.mean.shape)


class Fraction(Beta):
    """A Beta whose draws stay a little clear of 0 and 1, where their logarithms are infinite."""

    EDGE = 1e-6

    def __init__(self, alpha: Tensor, beta: Tensor):
        super().__init__(alpha, beta, validate_args=False)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:  # type: ignore[override]
        return super().rsample(sample_shape).clamp(self.EDGE, 1 - self.EDGE)
