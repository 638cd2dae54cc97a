"""Blocks that see covariates, and distributions of latents."""

from scelbo.nn.conditional import ConditionalLinear, PerCategory, affine
from scelbo.nn.distributions import Fraction, Known
from scelbo.nn.mlp import MLP, Activation, BatchNorm, Encoder, GaussianEncoder, GaussianMLP, NormalisedLinear, PointEncoder, Where, norms_of

__all__ = [
    "MLP", "Activation", "BatchNorm", "ConditionalLinear", "Encoder", "Fraction", "GaussianEncoder", "GaussianMLP", "Known",
    "NormalisedLinear", "PerCategory", "PointEncoder", "Where", "affine", "norms_of",
]  # fmt: skip
