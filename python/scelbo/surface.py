"""The developer's surface: the names that a package of models may build on, versioned apart from scelbo itself.

What is listed in :data:`STABLE` keeps its meaning while the first number of :data:`VERSION` is the same; the second rises when
something is added. All else may change with any release. ``docs/developer/surface.md`` shows each with its signature, and a test
compares the two.
"""

from __future__ import annotations

from scelbo.errors import BackendError

VERSION = "1.0"
"""Of the surface: ``major.minor``."""

STABLE: dict[str, tuple[str, ...]] = {
    "scelbo": ("CountsVAE", "Counts", "Loss", "Model", "Module", "Setup", "VAE", "load"),
    "scelbo.fields": (
        "Batch", "Cells", "PlainCells", "SizedCells", "TypedCells", "categories", "category", "counts", "number", "numbers", "table",
    ),
    "scelbo.likelihoods": (
        "BagOfWords", "Likelihood", "Mean", "NegativeBinomial", "Normal", "Poisson", "ZeroInflatedNegativeBinomial", "of_counts",
    ),
    "scelbo.nn": (
        "MLP", "Classifier", "ConditionalLinear", "GaussianEncoder", "GaussianMLP", "Known", "LibraryPrior", "PerCategory", "PointEncoder",
        "for_cells", "logistic_normal", "per_feature",
    ),
    "scelbo.train": ("Plan", "PlanOptions", "TrainOptions"),
    "scelbo.analysis": (
        "aggregated_posterior", "differential_abundance", "differential_expression", "elbo", "feature_correlation_matrix", "latent_kl",
        "latent_library_size", "latent_representation", "likelihood_parameters", "marginal_ll", "minify", "normalized_expression",
        "posterior_predictive_check", "posterior_predictive_sample", "reconstruction_error", "report", "sample_posterior", "with_data",
    ),
    "scelbo.pyro": ("PyroModel", "PyroModule", "explains"),
    "scelbo.errors": ("ArgumentError", "DataError", "NotTrainedError", "ScelboError", "SetupError"),
    "scelbo.settings": ("private_seed",),
    "scelbo.testing": ("Case", "Checked", "ContractError", "check_model"),
    "scelbo.surface": ("STABLE", "VERSION", "require"),
}  # fmt: skip
"""Module -> its stable names."""

MEMBERS: dict[str, tuple[str, ...]] = {
    "LibraryPrior": ("of", "take"),
    "PerCategory": ("forward", "once", "rows"),
    "Plan": ("configure_optimizers", "epoch", "kl_weight", "total", "training_step"),
    "PlanOptions": (),
    "PyroModel": ("get_elbo", "get_reconstruction_error", "sample_posterior"),
    "PyroModule": ("encode", "guide", "model", "observe", "plate"),
    "Setup": ("code", "n_categories", "n_continuous", "n_vars", "var_names"),
    "TrainOptions": (),
    "Case": ("cells", "data", "make", "trained"),
}
"""Class -> the stable ones of what it offers, where that is not all that is public."""


def require(version: str) -> None:
    """Raise unless this scelbo has the surface that a package was written for: the same major number, and no older minor one.

    Parameters
    ----------
    version
        ``"major.minor"``, the :data:`VERSION` that the package was tested with.

    Raises
    ------
    BackendError
        With the version that is here, and what to install.

    Examples
    --------
    >>> from scelbo import surface
    >>> surface.require("1.0")
    >>> surface.require("7.0")
    Traceback (most recent call last):
    ...
    scelbo.errors.BackendError: This package was written for version 7.0 of scelbo's surface, and 1.0 is installed.
    Install a scelbo whose surface is 7.0 or a later 7.x: scelbo.surface.VERSION tells.
    """
    wants, has = ([int(n) for n in v.split(".")] for v in (version, VERSION))
    if wants[0] != has[0] or wants[1] > has[1]:
        raise BackendError(
            f"This package was written for version {version} of scelbo's surface, and {VERSION} is installed.",
            f"Install a scelbo whose surface is {version} or a later {wants[0]}.x: scelbo.surface.VERSION tells.",
        )
