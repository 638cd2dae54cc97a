"""Blocks that see covariates, and distributions of latents."""

from scelbo.nn.adversary import Adversary
from scelbo.nn.conditional import ConditionalLinear, PerCategory, affine
from scelbo.nn.distributions import Fraction, Known, logistic_normal
from scelbo.nn.grouped import GroupedMLP, GroupedNorm, HeadedEncoder
from scelbo.nn.mlp import (
    MLP,
    Activation,
    BatchNorm,
    Classifier,
    Encoder,
    GaussianEncoder,
    GaussianMLP,
    NormalisedLinear,
    PointEncoder,
    Where,
    norms_of,
)
from scelbo.nn.neighbours import SCALES, odds_nearby

__all__ = [
    "MLP",
    "SCALES",
    "Activation",
    "Adversary",
    "BatchNorm",
    "Classifier",
    "ConditionalLinear",
    "Encoder",
    "Fraction",
    "GaussianEncoder",
    "GaussianMLP",
    "GroupedMLP",
    "GroupedNorm",
    "HeadedEncoder",
    "Known",
    "NormalisedLinear",
    "PerCategory",
    "PointEncoder",
    "Where",
    "affine",
    "logistic_normal",
    "norms_of",
    "odds_nearby",
]
