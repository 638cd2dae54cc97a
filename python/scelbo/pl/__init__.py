"""Pictures. They need the package matplotlib, keep no state, and are returned as a ``matplotlib.figure.Figure``."""

from scelbo.pl.cells import abundance, doublets, latent
from scelbo.pl.features import loadings, proteins, topics, volcano
from scelbo.pl.fit import calibration, training
from scelbo.pl.spots import proportions

__all__ = ["abundance", "calibration", "doublets", "latent", "loadings", "proportions", "proteins", "topics", "training", "volcano"]
