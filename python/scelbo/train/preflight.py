"""Before training: what is wrong with the data, what deserves a look, and what the training will take."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.data import Loader, Setup, split
from scelbo.data.concerns import examine_closely
from scelbo.data.disk import on_disk
from scelbo.data.modalities import held
from scelbo.data.validate import Finding
from scelbo.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scelbo.model import Model

CELLS, WARM_UP, STEPS = 2000, 3, 10
"""Cells that minibatches are timed on, and how many: some untimed, then some timed."""
WEIGHT_COPIES = 7
"""A weight, its gradient, two moments in Adam; and the last good state, which keeps all but the gradient once more."""
DENSE = 8
"""Matrices of cells x features that live at the peak of a step: what the decoder puts out, its gradients, and those passed on."""


@dataclass(frozen=True)
class Forecast:
    """What training with the defaults takes, on this machine as it is now.

    Attributes
    ----------
    epochs, minibatches, batch_size
        Passes over the training cells, minibatches in each, cells in a full minibatch.
    wall, cpu
        Seconds that one minibatch takes, by the clock and of processor time: timed (median). Lightning adds some 2 ms to each,
        and looking at the validation cells a few per cent.
    memory
        Bytes, computed: ``matrix`` (in CSR form), ``weights`` (with Adam's state and the last good state), ``minibatch``.
    device, threads
        Where it was timed.
    """

    epochs: int
    minibatches: int
    batch_size: int
    wall: float
    cpu: float
    memory: dict[str, int]
    device: str
    threads: int

    @property
    def steps(self) -> int:
        """Minibatches in all."""
        return self.epochs * self.minibatches

    @property
    def seconds(self) -> float:
        """All of the training, by the clock."""
        return self.steps * self.wall

    @property
    def cpu_seconds(self) -> float:
        """All of the training, of processor time."""
        return self.steps * self.cpu

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_size(n)}" for name, n in self.memory.items())
        where = f"{self.device}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        work = f"{self.steps:,} minibatches of {self.batch_size} cells ({self.epochs} epochs) x {self.wall * 1e3:.1f} ms"
        return (
            f"time: about {_time(self.seconds)} ({_time(self.cpu_seconds)} of processor time): {work}, timed now on {where}\n"
            f"memory: about {_size(sum(self.memory.values()))}, computed: {parts}"
        )


@dataclass(frozen=True, repr=False)
class Preflight:
    """The answer of ``check``.

    Attributes
    ----------
    problems
        What ``setup_anndata`` (or making the model) would refuse: each with ``what`` and ``fix``.
    concerns
        What does not stop the model and deserves a look, likewise.
    forecast
        Time and memory of training; None where there are problems, or where it was not asked for.
    title
        Of which model, on what.
    """

    problems: Sequence[Finding]
    concerns: Sequence[Finding]
    forecast: Forecast | None = None
    title: str = field(default="", kw_only=True)

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __repr__(self) -> str:
        lines = [f"{self.title}: {'ready' if self.ok else 'not ready'}"]
        for name, found in (("problem", self.problems), ("concern", self.concerns)):
            lines.append(f"{len(found) or 'no'} {name}{'' if len(found) == 1 else 's'}{':' if found else ''}")
            lines += (f"  - {f.what}\n    {f.fix}" for f in found)
        return "\n".join([*lines, *([str(self.forecast)] if self.forecast else [])])


def check(
    cls: type[Model],
    adata: AnnData,
    *,
    forecast: bool = True,
    allow_non_counts: bool = False,
    model_kwargs: dict[str, Any] | None = None,
    **keys: str | Sequence[str] | None,
) -> Preflight:
    """Say what is wrong with the data, what deserves a look, and what training will take; nothing is changed.

    Parameters
    ----------
    adata
        Cells x features.
    forecast
        Whether to time minibatches on up to 2,000 of the cells (seconds); False only looks at the data.
    allow_non_counts
        As in ``setup_anndata``.
    model_kwargs
        Hyper-parameters of the model to forecast, where they are not the defaults.
    **keys
        As in ``setup_anndata``: ``layer, batch_key, labels_key, ...``

    Returns
    -------
    A report that prints: ``.problems`` and ``.concerns`` (each with ``what`` and ``fix``), ``.forecast``, ``.ok``.

    Raises
    ------
    ArgumentError
        An argument that does not exist; what is wrong with the data is a problem in the report.

    Examples
    --------
    >>> from scelbo import SCVI
    >>> from scelbo.data.simulate import counts
    >>> report = SCVI.check(counts(200, 50), batch_key="bacth", forecast=False)
    >>> report.ok
    False
    >>> report.problems[0].what
    "batch_key: obs column 'bacth' is unknown. Did you mean 'batch'? Known: batch, cell_type, donor, percent_mito."
    """
    given = {k: v for k, v in keys.items() if v is not None}
    found = examine_closely(adata, cls.Cells, given, allow_non_counts)
    told = None
    if forecast and not found.problems:
        try:
            told = _forecast(cls, adata, Setup.noting(adata, cls.Cells, given, found.whole), model_kwargs or {})
        except DataError as error:  # what this model cannot explain
            found.problem(error.args[0], error.hint)
    title = f"{cls.__name__} on {adata.n_obs:,} cells x {adata.n_vars:,} features"
    return Preflight(found.problems, found.concerns, told, title=title)


def check_one(cls: type[Model], adata: AnnData, **keys: Any) -> Preflight:
    """The same of one of several data sets that a model reads, which allows no forecast."""
    return check(cls, adata, **{**keys, "forecast": False})


def _forecast(cls: type[Model], adata: AnnData, setup: Setup, model_kwargs: dict[str, Any]) -> Forecast:
    options, n = cls.training, adata.n_obs
    with settings.private_seed() as rng:
        train = split(n, options.train_size, options.validation_size, False, rng)[0]
        rows = np.sort(rng.choice(n, min(n, CELLS), replace=False))
        model = cls(adata if adata.isbacked else adata[rows], setup=setup, **model_kwargs)
        setup = model.setup
        loader = Loader(model.read(), rows if adata.isbacked else np.arange(len(rows)), options.batch_size, rng)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        wall, cpu = _timed(model, loader, device)
    matrices = [there.matrix for f in cls.Cells.fields().values() if f.of_features and (there := held(adata, f, setup.keys)) is not None]
    stored = sum(0 if on_disk(m) else m.nnz if hasattr(m, "nnz") else np.count_nonzero(m) for m in matrices)
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    cells = min(options.batch_size, len(train))
    memory = {
        "matrix": 8 * int(stored),
        "weights": WEIGHT_COPIES * weights,
        "minibatch": DENSE * 4 * cells * sum(map(len, setup.features.values())),
    }
    minibatches = len(Loader(model.read(), train, options.batch_size))
    return Forecast(options.epochs(n), minibatches, cells, wall, cpu, memory, device, torch.get_num_threads())


def _timed(model: Model, loader: Loader, device: str) -> tuple[float, float]:
    """Median seconds of a step of the optimiser, by the clock and of processor time."""
    module = model.module.to(device).train()
    optimizer = model.plan.optimizer_of(module)
    marks = []
    for cells in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), WARM_UP + STEPS + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        marks.append((time.perf_counter(), time.process_time()))  # the next minibatch is taken inside the step, as in training
        optimizer.zero_grad()
        module(cells if device == "cpu" else cells.to(device)).total().backward()
        optimizer.step()
    wall, cpu = np.median(np.diff(marks[WARM_UP:], axis=0), axis=0)
    return float(wall), float(cpu)


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(n: float) -> str:
    return f"{n / 2**30:.1f} GB" if n >= 2**30 else f"{max(1, n / 2**20):.0f} MB"
