"""Count likelihoods with analytic gradients on sparse data."""

from scelbo.likelihoods.counts import Likelihood, NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial
from scelbo.likelihoods.sparse import Kernel, Mean, Rows, log_prob

__all__ = ["Kernel", "Likelihood", "Mean", "NegativeBinomial", "Normal", "Poisson", "Rows", "ZeroInflatedNegativeBinomial", "log_prob"]
