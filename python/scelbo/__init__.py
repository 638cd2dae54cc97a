"""scelbo: deep probabilistic models of single-cell omics data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from scelbo import analysis, data, errors, fields, likelihoods, nn, pl, settings, surface, train
    from scelbo.data import Counts, Setup
    from scelbo.model import Model
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
    "tune",
]
FOUND_IN = {
    "Counts": "data",
    "Setup": "data",
    "Model": "model",
    "tune": "tuning",
    **dict.fromkeys(("VAE", "CountsVAE", "Loss", "Module"), "module"),
}
"""Names that are not a model's, nor a module's of this package."""


def load(folder: str | Path, adata: Any = None) -> Any:
    """Open a saved model of any class, ours or scvi-tools'; its data are ``adata``, or those in the folder. No code in it is run."""
    from scelbo import models, storage  # noqa: F401 (a folder may hold any of them)
    from scelbo.model import MODELS

    return storage.load(folder, adata, MODELS)


def __getattr__(name: str) -> Any:
    """A name of this package when it is first used: PyTorch and AnnData take seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.islower() and name not in FOUND_IN:
        return import_module(f"scelbo.{name}")
    found = globals()[name] = getattr(import_module(f"scelbo.{FOUND_IN.get(name, 'models')}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
