"""Blocks that see covariates, and distributions of latents."""

from scelbo.nn.adversary import Adversary
from scelbo.nn.borrowed import Borrowed
from scelbo.nn.conditional import ConditionalLinear, Linear, PerCategory, affine
from scelbo.nn.dispersion import for_cells, per_feature
from scelbo.nn.distributions import Fraction, Known, logistic_normal
from scelbo.nn.doublets import DoubletEvidence
from scelbo.nn.grouped import GroupedMLP, GroupedNorm, HeadedEncoder
from scelbo.nn.library import LibraryPrior
from scelbo.nn.links import inverse_softplus
from scelbo.nn.mixture import Mixture, MixtureOf
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
    classified,
    norms_of,
)
from scelbo.nn.neighbours import Neighbours, odds_nearby
from scelbo.nn.nested import NestedClassifier
from scelbo.nn.proteins import ProteinDecoder
from scelbo.nn.settled import Settled
from scelbo.nn.spots import (
    OfCounts,
    PerSpot,
    SharesOfCounts,
    amount_of_types,
    mean_profiles,
    of_types,
    shares_of,
    with_shares,
    within_types,
)

__all__ = [
    "MLP",
    "Activation",
    "Adversary",
    "BatchNorm",
    "Borrowed",
    "Classifier",
    "ConditionalLinear",
    "DoubletEvidence",
    "Encoder",
    "Fraction",
    "GaussianEncoder",
    "GaussianMLP",
    "GroupedMLP",
    "GroupedNorm",
    "HeadedEncoder",
    "Known",
    "LibraryPrior",
    "Linear",
    "Mixture",
    "MixtureOf",
    "Neighbours",
    "NestedClassifier",
    "NormalisedLinear",
    "OfCounts",
    "PerCategory",
    "PerSpot",
    "PointEncoder",
    "ProteinDecoder",
    "Settled",
    "SharesOfCounts",
    "Where",
    "affine",
    "amount_of_types",
    "classified",
    "for_cells",
    "inverse_softplus",
    "logistic_normal",
    "mean_profiles",
    "norms_of",
    "odds_nearby",
    "of_types",
    "per_feature",
    "shares_of",
    "with_shares",
    "within_types",
]
