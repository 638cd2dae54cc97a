"""What one asks of a fitted model: plain functions whose first argument is the model. A model's class body lists those it offers."""

from scelbo.analysis.differential_expression import differential_expression
from scelbo.analysis.elbo import elbo, marginal_ll, reconstruction_error
from scelbo.analysis.expression import normalized_expression
from scelbo.analysis.latent import latent_representation

__all__ = ["differential_expression", "elbo", "latent_representation", "marginal_ll", "normalized_expression", "reconstruction_error"]
