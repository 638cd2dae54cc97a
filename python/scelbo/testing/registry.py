"""The list of checks, and what they have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from anndata import AnnData

from scelbo.testing.case import Case

CHECKS: dict[str, Callable[[Case, Path], None]] = {}
"""Name -> check."""
NEEDS: dict[str, tuple[str, ...]] = {}
"""Check -> questions, of which the model must offer one."""
OTHER_CELLS: set[str] = set()
"""Checks that ask of cells other than the model's own."""
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def check(*needs: str, other_cells: bool = False) -> Callable[[Callable[[Case, Path], None]], Callable[[Case, Path], None]]:
    """Adds a function to the contract."""

    def add(function: Callable[[Case, Path], None]) -> Callable[[Case, Path], None]:
        name = function.__name__
        CHECKS[name], NEEDS[name] = function, needs
        if other_cells:
            OTHER_CELLS.add(name)
        return function

    return add


@contextlib.contextmanager
def refused(error: type[Exception], *words: str) -> Iterator[None]:
    """Inside, this error must come, and say these words."""
    said = None
    try:
        yield
    except error as came:
        said = str(came)
    assert said is not None, f"{error.__name__} was expected, and nothing was refused"
    missing = [word for word in words if word not in said]
    assert not missing, f"the error does not say {missing}: {said}"


def same(actual: Any, expected: Any, **how: Any) -> None:
    """Raise unless the numbers agree."""
    np.testing.assert_allclose(actual, expected, **(how or CLOSE))


@contextlib.contextmanager
def on_disk(adata: AnnData, folder: Path) -> Iterator[AnnData]:
    """The same cells, read from a file."""
    adata.write_h5ad(folder / "cells.h5ad")
    backed = anndata.read_h5ad(folder / "cells.h5ad", backed="r")
    try:
        yield backed
    finally:
        backed.file.close()
