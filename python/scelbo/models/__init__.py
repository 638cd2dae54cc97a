"""One file a model."""

from scelbo.models.peakvi import PEAKVI
from scelbo.models.scvi import SCVI

__all__ = ["PEAKVI", "SCVI"]
