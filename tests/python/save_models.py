"""Saves a small model of every class, with what it answers, as the format of this version has it.

By hand, at a release: ``PYTHONPATH=tests/python .venv/bin/python tests/python/save_models.py``. What is there already stays as it is: later
versions have to open it (``test_saved.py``).
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from anndata import read_h5ad
from cases import CASES, per_cell

import scelbo
from scelbo.data.simulate import cite

SAVED = Path(__file__).parent / "saved"
SMALL = {"n_hidden": 4, "n_latent": 2, "n_topics": 3}


def kept(name):
    """What a model of this class read, as it was written once: an AnnData, or several."""
    each = [read_h5ad(file) for file in sorted(SAVED.glob(f"cells_of_{name}*.h5ad")) or [SAVED / "cells.h5ad"]]
    return each[0] if len(each) == 1 else each


def keep(case, cells):
    """Write what it reads, where that is not as others have it, and nothing is there."""
    there = case.given(case.data(cells.copy()))
    several = there if isinstance(there, list) else [there]
    own = len(several) > 1 or "feature_types" in there.var
    for i, adata in enumerate(several):
        file = SAVED / (f"cells_of_{case.model.__name__}_{i}.h5ad" if own else "cells.h5ad")
        if not file.exists():
            adata.write(file)


def main():
    folder = SAVED / scelbo.__version__
    if folder.exists():
        sys.exit(f"{folder.name} is there: models of a version are saved once.")
    folder.mkdir(parents=True)
    scelbo.settings.progress = False
    warnings.simplefilter("ignore")
    cells, answers = cite(40, 20, 3, seed=5), {}
    del cells.obsm["foreground"]
    for case in CASES:
        name = case.model.__name__
        if name in answers:
            continue
        keep(case, cells)
        model = case.make(case.data(cells.copy()), **{k: v for k, v in SMALL.items() if k in case.small})
        model.train(max_epochs=2, seed=0)
        model.save(folder / name)
        answers[name] = per_cell(type(model).load(folder / name, kept(name)))
        assert np.abs(answers[name] - per_cell(model)).max() < 1e-5, "it does not read the cells that were kept"
    np.savez_compressed(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main()
