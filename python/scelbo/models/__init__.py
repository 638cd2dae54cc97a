"""One file a model."""

from scelbo.models.amortized_lda import AmortizedLDA
from scelbo.models.autozi import AUTOZI
from scelbo.models.cellassign import CellAssign
from scelbo.models.condscvi import CondSCVI
from scelbo.models.destvi import DestVI
from scelbo.models.gimvi import GIMVI
from scelbo.models.linear_scvi import LinearSCVI
from scelbo.models.multivi import MULTIVI
from scelbo.models.peakvi import PEAKVI
from scelbo.models.scanvi import SCANVI
from scelbo.models.scvi import SCVI
from scelbo.models.solo import SOLO
from scelbo.models.stereoscope import RNAStereoscope, SpatialStereoscope
from scelbo.models.totalvi import TOTALVI

__all__ = [
    "AUTOZI",
    "GIMVI",
    "MULTIVI",
    "PEAKVI",
    "SCANVI",
    "SCVI",
    "SOLO",
    "TOTALVI",
    "AmortizedLDA",
    "CellAssign",
    "CondSCVI",
    "DestVI",
    "LinearSCVI",
    "RNAStereoscope",
    "SpatialStereoscope",
]
