"""Writes what ``tests/python/test_scvi_tools.py`` opens: small folders that scvi-tools saved, their cells, and what it answers.

By hand, with ``.venv-peer``: ``PYTHONPATH=python .venv-peer/bin/python benchmarks/folders.py``.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scvi
from anndata import AnnData
from mudata import MuData
from peer import multivi, totalvi
from peer.folders import KEPT, answer, made

KEPT_IN = Path(__file__).resolve().parents[1] / "tests" / "python" / "scvi_tools"
CELLS, GENES = 40, 16
SMALL = {"n_hidden": 6, "n_latent": 3}


def cells(of: Any) -> AnnData:
    """A few cells with a few genes that one model is compared on."""
    if of is multivi.TWINS:
        adata = multivi.cells()
        features = np.r_[0:GENES, multivi.GENES : multivi.GENES + 2 * GENES]
    else:
        adata, features = totalvi.cells(), np.arange(GENES)
    adata = adata[:CELLS, features].copy()
    adata.X[:, 0] = np.maximum(adata.X[:, 0].toarray(), 1)  # none is empty
    for column in adata.obs:
        if adata.obs[column].dtype.kind == "O":
            adata.obs[column] = adata.obs[column].astype(str)
    return adata


def main() -> None:
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = logging.ERROR
    shutil.rmtree(KEPT_IN, ignore_errors=True)
    KEPT_IN.mkdir()
    answers = {}
    for name, (of, (keys, hyper)) in KEPT.items():
        adata = cells(of)
        small = {} if "stereoscope" in name else SMALL
        theirs = made(of, adata, (keys, small | hyper))
        answers[name] = answer(theirs)
        theirs.save(str(KEPT_IN / name), overwrite=True)
        data = "cells_and_regions" if isinstance(theirs.adata, MuData) else "cells"
        if not (KEPT_IN / f"{data}.h5ad").exists():
            adata.layers.clear()
            adata.write(KEPT_IN / f"{data}.h5ad")
    np.savez_compressed(KEPT_IN / "answers.npz", **answers)


if __name__ == "__main__":
    main()
