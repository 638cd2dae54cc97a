"""Running the checks."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.errors import ScelboError, one_of
from scelbo.model import Model
from scelbo.testing import answers, training  # noqa: F401 (they add their checks)
from scelbo.testing.case import Case
from scelbo.testing.registry import CHECKS, NEEDS, OTHER_CELLS


class ContractError(ScelboError, AssertionError):
    """A model does not keep the contract: each check that failed, and why."""

    kind = "contract"


@dataclass(frozen=True)
class Checked:
    """What :func:`check_model` found.

    Attributes
    ----------
    passed
        Check -> seconds.
    skipped
        Checks of questions that the model does not offer.
    """

    passed: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.passed)} checks passed in {sum(self.passed.values()):.0f} s, {len(self.skipped)} do not apply"


def checks_of(case: Case) -> list[str]:
    """The checks that this model's questions allow."""
    offers = lambda name: not NEEDS[name] or any(hasattr(case.model, question) for question in NEEDS[name])  # noqa: E731
    return [name for name in CHECKS if offers(name) and (case.other_cells or name not in OTHER_CELLS)]


def run(name: str, case: Case, folder: Path) -> None:
    """One check; whatever it does, the caller's random numbers stay as they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index] # noqa: NPY002
    CHECKS[name](case, folder)
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global random state was touched: draw inside settings.private_seed()"
    after = np.random.get_state()[1]  # type: ignore[index] # noqa: NPY002
    assert (before[1] == after).all(), "numpy's global random state was touched: draw from settings.private_seed()'s generator"
    assert before[2] == random.getstate(), "Python's global random state was touched: draw from settings.private_seed()'s generator"


def check_model(
    model: type[Model],
    arguments: dict[str, Any] | None = None,
    *,
    keys: dict[str, Any] | None = None,
    cells: Callable[[AnnData], AnnData] | None = None,
    other_cells: bool = True,
    only: Sequence[str] | None = None,
) -> Checked:
    """Check that a model keeps what users of any model rely on, on simulated cells; some ten seconds.

    The checks are those of scelbo's own models: training lowers the loss and is repeatable; rows follow the indices asked for and genes
    their names; sparse, dense and files on disk give the same; a saved model comes back bit by bit and needs no data; the user's object
    and the global random state are as they were; errors say what to do; gradients are right; counterfactuals change what they should.

    Parameters
    ----------
    model
        The class.
    arguments
        That make a small model: ``{"n_latent": 4}``.
    keys
        Of its ``setup_anndata``; by default ``batch_key="batch"`` where the model reads batches. The cells are those of
        :func:`scelbo.data.simulate.cite`: ``obs`` has ``batch, cell_type, donor, percent_mito``, ``obsm`` has ``protein_expression``.
    cells
        Makes the simulated cells what the model reads.
    other_cells
        False for a model with parameters for each of its own cells, which answers for no others.
    only
        Names of the checks to run (:data:`CHECKS`); by default all.

    Returns
    -------
    What passed, and what does not apply.

    Raises
    ------
    ContractError
        With every check that failed.

    Examples
    --------
    >>> import scelbo
    >>> from scelbo.testing import check_model
    >>> checked = check_model(scelbo.SCVI, {"n_hidden": 8, "n_latent": 2}, only=["batch_size_changes_nothing", "training_goes_on"])
    >>> list(checked.passed)
    ['training_goes_on', 'batch_size_changes_nothing']
    """
    for name in only or ():
        one_of("only", name, CHECKS)
    reads_batches = any(declared.argument == "batch_key" for declared in model.Cells.fields().values())
    keys = keys if keys is not None else {"batch_key": "batch"} if reads_batches else {}

    class Given(Case):
        def data(self, adata: AnnData) -> AnnData:
            return adata if cells is None else cells(adata)

    case = Given(model, arguments or {}, keys, {}, other_cells)
    applies, checked, problems = checks_of(case), Checked(), []
    progress, settings.progress = settings.progress, False
    try:
        for name in CHECKS if only is None else [name for name in CHECKS if name in only]:
            if name not in applies:
                checked.skipped.append(name)
                continue
            start = time.perf_counter()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    run(name, case, Path(folder))
                checked.passed[name] = time.perf_counter() - start
            except Exception as error:
                problems.append(_told(name, error))
    finally:
        settings.progress = progress
    if problems:
        raise ContractError(
            f"{model.__name__} fails {len(problems)} of {len(problems) + len(checked.passed)} checks.",
            "Each is a function in scelbo.testing: CHECKS[name]. Run one alone by only=[name].",
            problems,
        )
    return checked


def _told(name: str, error: Exception) -> str:
    """Which check, what it wants, what came, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{name} ({CHECKS[name].__doc__}) {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {said[:400]}"
