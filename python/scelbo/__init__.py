"""scelbo: deep probabilistic models of single-cell omics data."""

from pathlib import Path
from typing import Any

from scelbo import data, errors, pl, settings
from scelbo.model import MODELS, Model
from scelbo.models import (
    AUTOZI,
    GIMVI,
    MULTIVI,
    PEAKVI,
    SCANVI,
    SCVI,
    SOLO,
    TOTALVI,
    AmortizedLDA,
    CellAssign,
    CondSCVI,
    DestVI,
    LinearSCVI,
    RNAStereoscope,
    SpatialStereoscope,
)
from scelbo.tuning import tune

__version__ = "0.1.0"
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
    "Model",
    "RNAStereoscope",
    "SpatialStereoscope",
    "data",
    "errors",
    "load",
    "pl",
    "settings",
    "tune",
]


def load(folder: str | Path, adata: Any = None) -> Any:
    """Open a saved model of any class; its data are ``adata``, or ``data.h5ad`` in the folder. No code in the folder is run."""
    from scelbo import storage

    return storage.load(folder, adata, MODELS)
