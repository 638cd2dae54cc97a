"""Count likelihoods with analytic gradients on sparse data."""

from scelbo.likelihoods.accessibility import Accessibility
from scelbo.likelihoods.additive import AdditiveNB, Amounts, amounts, mixed
from scelbo.likelihoods.counts import Likelihood, NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial, of_counts
from scelbo.likelihoods.parts import Part, Parts, apart, together
from scelbo.likelihoods.proteins import ProteinMixture, log_nb
from scelbo.likelihoods.sparse import Kernel, Mean, Rows, log_prob
from scelbo.likelihoods.topics import BagOfWords

__all__ = [
    "Accessibility", "AdditiveNB", "Amounts", "BagOfWords", "Kernel", "Likelihood", "Mean", "NegativeBinomial", "Normal", "Part", "Parts",
    "Poisson", "ProteinMixture", "Rows", "ZeroInflatedNegativeBinomial", "amounts", "apart", "log_nb", "log_prob", "mixed", "of_counts",
    "together",
]  # fmt: skip
