"""Count likelihoods with analytic gradients on sparse data."""

from scelbo.likelihoods.accessibility import Accessibility
from scelbo.likelihoods.counts import Likelihood, NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial
from scelbo.likelihoods.parts import Part, Parts
from scelbo.likelihoods.sparse import Kernel, Mean, Rows, log_prob
from scelbo.likelihoods.topics import BagOfWords

__all__ = [
    "Accessibility", "BagOfWords", "Kernel", "Likelihood", "Mean", "NegativeBinomial", "Normal", "Part", "Parts", "Poisson", "Rows",
    "ZeroInflatedNegativeBinomial", "log_prob",
]  # fmt: skip
