"""One file a model."""

from scelbo.models.autozi import AUTOZI
from scelbo.models.linear_scvi import LinearSCVI
from scelbo.models.peakvi import PEAKVI
from scelbo.models.scvi import SCVI

__all__ = ["AUTOZI", "PEAKVI", "SCVI", "LinearSCVI"]
