"""One file a model."""

from scelbo.models.cellassign import CellAssign
from scelbo.models.peakvi import PEAKVI
from scelbo.models.scanvi import SCANVI
from scelbo.models.scvi import SCVI

__all__ = ["PEAKVI", "SCANVI", "SCVI", "CellAssign"]
