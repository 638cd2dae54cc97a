"""scelbo: deep probabilistic models of single-cell omics data."""

from pathlib import Path
from typing import Any

from scelbo import analysis, data, errors, fields, likelihoods, nn, pl, settings, surface, train
from scelbo.data import Counts, Setup
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
from scelbo.module import VAE, CountsVAE, Loss, Module

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
    "VAE",
    "AmortizedLDA",
    "CellAssign",
    "CondSCVI",
    "Counts",
    "CountsVAE",
    "DestVI",
    "LinearSCVI",
    "Loss",
    "Model",
    "Module",
    "RNAStereoscope",
    "Setup",
    "SpatialStereoscope",
    "analysis",
    "data",
    "errors",
    "fields",
    "likelihoods",
    "load",
    "nn",
    "pl",
    "settings",
    "surface",
    "train",
]


def load(folder: str | Path, adata: Any = None) -> Any:
    """Open a saved model of any class; its data are ``adata``, or ``data.h5ad`` in the folder. No code in the folder is run."""
    from scelbo import storage

    return storage.load(folder, adata, MODELS)
