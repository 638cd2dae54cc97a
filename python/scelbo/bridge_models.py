"""Models of other packages, as R names and asks them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import pandas as pd

import scelbo
from scelbo.errors import ArgumentError, BackendError, unknown
from scelbo.model import Model


def model_class(name: str) -> type[Model]:
    """The class called ``"SCVI"``, or ``"package.module.MyModel"`` of another package, which is imported."""
    module, _, own = name.rpartition(".")
    if not module:
        own_models = {n: c for n in scelbo.__all__ if isinstance(c := getattr(scelbo, n), type) and issubclass(c, Model) and c is not Model}
        if name not in own_models:
            raise ArgumentError(unknown("model class", name, own_models), "One of another package is named with it: 'mypackage.MyModel'.")
        return own_models[name]
    try:
        there = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the package needs
        raise BackendError(
            f"The Python package {error.name!r}, which {name!r} names, is not installed.",
            f"Install it into the Python of scelbo: pip install {error.name}",
        ) from None
    found = getattr(there, own, None)
    if not (isinstance(found, type) and issubclass(found, Model)):
        models = [n for n, value in vars(there).items() if isinstance(value, type) and issubclass(value, Model) and value is not Model]
        raise ArgumentError(unknown(f"model class of {module}", own, models))
    return found


def column_kinds(model: type[Model] | Model) -> dict[str, str]:
    """Arguments of ``setup_anndata`` that name columns of ``obs`` -> what these hold: ``category, categories, number, numbers``."""
    return {declared.argument: declared.kind for declared in model.Cells.fields().values() if not declared.of_features}


def setup_arguments(model: type[Model]) -> list[str]:
    """All arguments of ``setup_anndata``."""
    return [argument for declared in model.Cells.fields().values() for argument in declared.arguments]


def hyperparameters(model: type[Model]) -> list[str]:
    """All arguments of the constructor."""
    return list(model.hyperparameters())


def arguments_of(called: Any) -> list[str]:
    """Names of what a function takes."""
    return list(inspect.signature(called).parameters)


def questions(model: Model) -> list[str]:
    """What a model may be asked: the public methods that not every model has."""
    return sorted(n for n in dir(model) if not n.startswith("_") and not hasattr(Model, n) and callable(getattr(type(model), n, None)))


def takes_cells(model: Model, question: str) -> bool:
    """Whether a question is about cells."""
    return {"adata", "indices"} <= inspect.signature(getattr(model, question)).parameters.keys()


def posterior(told: dict[str, dict[str, Any]]) -> list[tuple[str, str, np.ndarray, list[str] | None, list[str] | None]]:
    """An answer of ``sample_posterior`` for R: site, what, the numbers, and of a data frame the names of its rows and columns."""
    return [
        (site, what, *((v.to_numpy(), [*v.index], [*v.columns]) if isinstance(v, pd.DataFrame) else (np.asarray(v), None, None)))
        for site, parts in told.items()
        for what, v in parts.items()
    ]


__all__ = ["column_kinds", "hyperparameters", "model_class", "posterior", "questions", "setup_arguments", "takes_cells"]
