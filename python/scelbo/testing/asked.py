"""The questions that most models have, whatever they are called there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scelbo.errors import ArgumentError

DECODED = ("get_normalized_expression", "get_normalized_accessibility")
DIFFERENTIAL = ("differential_expression", "differential_accessibility")
OF_CELLS: dict[str, dict[str, Any]] = {
    "get_latent_representation": {},
    "get_proportions": {},
    "predict": {"soft": True},
    "get_elbo": {"return_mean": False},
}
"""What says something of each cell -> its arguments, the first that there is. An ELBO depends on a draw, so it comes last."""


def of_cells(model: Any) -> str:
    """The name of what says something of each cell."""
    for name in OF_CELLS:
        if hasattr(model, name):
            return name
    raise ArgumentError(
        f"{model} says nothing of cells.", f"List one of {', '.join(OF_CELLS)} in its class body: scelbo.analysis has them."
    )


def per_cell(model: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    """What the model says of each cell, as numbers: cells x some."""
    name = of_cells(model)
    answer = getattr(model, name)(*args, **OF_CELLS[name], **kwargs)
    return np.concatenate(answer) if isinstance(answer, list) else np.asarray(answer)


def decoded(model: Any, *args: Any, **kwargs: Any) -> pd.DataFrame:
    """What the model says of every feature; of several modalities side by side."""
    answer = next(getattr(model, name) for name in DECODED if hasattr(model, name))(*args, **kwargs)
    return pd.concat(answer, axis=1) if isinstance(answer, tuple) else answer


def differential(model: Any, *args: Any, **kwargs: Any) -> pd.DataFrame:
    """Where two groups differ."""
    return next(getattr(model, name) for name in DIFFERENTIAL if hasattr(model, name))(*args, **kwargs)


def arrays(answer: Any) -> list[np.ndarray]:
    """An answer as a list of arrays: it may be one, or hold one for each modality."""
    if isinstance(answer, dict | tuple | list):
        return [a for part in (answer.values() if isinstance(answer, dict) else answer) for a in arrays(part)]
    return [answer.toarray() if sparse.issparse(answer) else np.asarray(answer)]
