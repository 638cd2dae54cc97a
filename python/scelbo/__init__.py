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
from scelbo.scvi_tools import save as save_as_scvi_tools

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
    "load_model",
    "pl",
    "save_as_scvi_tools",
    "settings",
]


def load(folder: str | Path, adata: Any = None) -> Any:
    """Open a saved model of any class, ours or scvi-tools'; its data are ``adata``, or those in the folder. No code in it is run."""
    from scelbo import storage

    return storage.load(folder, adata, MODELS)


load_model = load
