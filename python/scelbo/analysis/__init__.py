"""What one asks of a fitted model: plain functions whose first argument is the model. A model's class body lists those it offers."""

from scelbo.analysis.abundance import differential_abundance
from scelbo.analysis.accessibility import (
    differential_accessibility,
    factors_by_modality,
    library_size_factors,
    normalized_accessibility,
    region_factors,
)
from scelbo.analysis.augmentation import FOLDS, learn_from_mixtures
from scelbo.analysis.borrowing import borrowing
from scelbo.analysis.differential_expression import differential_expression
from scelbo.analysis.doublets import doublet_calls, predict_doublets
from scelbo.analysis.elbo import elbo, latent_kl, marginal_ll, reconstruction_error
from scelbo.analysis.expression import normalized_expression
from scelbo.analysis.fine_labels import fine_shares, predict_fine
from scelbo.analysis.imputation import impute, imputed_values, latent_by_source
from scelbo.analysis.labels import annotate, predict, predict_sets
from scelbo.analysis.latent import batch_representation, latent_library_size, latent_representation
from scelbo.analysis.loadings import loadings
from scelbo.analysis.mapping import mapping_score, transfer_labels
from scelbo.analysis.minify import minify, with_data
from scelbo.analysis.mixture import aggregated_posterior
from scelbo.analysis.posterior import sample_posterior
from scelbo.analysis.predictive import feature_correlation_matrix, likelihood_parameters, posterior_predictive_sample
from scelbo.analysis.predictive_check import posterior_predictive_check
from scelbo.analysis.proportions import genes_used, proportion_intervals, proportions, types_of
from scelbo.analysis.proteins import (
    differential_rna_and_protein,
    normalized_protein,
    normalized_rna_and_protein,
    protein_background_mean,
    protein_foreground_probability,
)
from scelbo.analysis.report import report
from scelbo.analysis.states import expression_of_type, scale_of_type, states
from scelbo.analysis.surroundings import learn_from_surroundings
from scelbo.analysis.topics import feature_by_topic, perplexity, top_features, topic_proportions
from scelbo.analysis.zero_inflation import alphas_betas, zero_inflation

__all__ = [
    "FOLDS",
    "aggregated_posterior",
    "alphas_betas",
    "annotate",
    "batch_representation",
    "borrowing",
    "differential_abundance",
    "differential_accessibility",
    "differential_expression",
    "differential_rna_and_protein",
    "doublet_calls",
    "elbo",
    "expression_of_type",
    "factors_by_modality",
    "feature_by_topic",
    "feature_correlation_matrix",
    "fine_shares",
    "genes_used",
    "impute",
    "imputed_values",
    "latent_by_source",
    "latent_kl",
    "latent_library_size",
    "latent_representation",
    "learn_from_mixtures",
    "learn_from_surroundings",
    "library_size_factors",
    "likelihood_parameters",
    "loadings",
    "mapping_score",
    "marginal_ll",
    "minify",
    "normalized_accessibility",
    "normalized_expression",
    "normalized_protein",
    "normalized_rna_and_protein",
    "perplexity",
    "posterior_predictive_check",
    "posterior_predictive_sample",
    "predict",
    "predict_doublets",
    "predict_fine",
    "predict_sets",
    "proportion_intervals",
    "proportions",
    "protein_background_mean",
    "protein_foreground_probability",
    "reconstruction_error",
    "region_factors",
    "report",
    "sample_posterior",
    "scale_of_type",
    "states",
    "top_features",
    "topic_proportions",
    "transfer_labels",
    "types_of",
    "with_data",
    "zero_inflation",
]
