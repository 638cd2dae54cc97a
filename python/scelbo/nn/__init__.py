"""Blocks that see covariates, and distributions of latents."""

from scelbo.nn.conditional import ConditionalLinear, PerCategory
from scelbo.nn.distributions import Known
from scelbo.nn.mlp import MLP, Activation, BatchNorm, GaussianEncoder

__all__ = ["MLP", "Activation", "BatchNorm", "ConditionalLinear", "GaussianEncoder", "Known", "PerCategory"]
