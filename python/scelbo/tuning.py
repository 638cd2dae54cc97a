"""Hyper-parameters found by trying: Ray Tune runs the trials, and stops those that fall behind."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo import settings
from scelbo.arguments import named
from scelbo.data.disk import read_or_leave, stays_on_disk
from scelbo.errors import ArgumentError, BackendError, unknown
from scelbo.model import Model
from scelbo.train import PlanOptions

VALUE, STATE, FOLDER, LOOKED_AT = "value", "training.state", "model", "elbo_validation"


@dataclass(frozen=True)
class Tuned:
    """What trials found.

    Attributes
    ----------
    best
        The arguments of the best trial.
    table
        A row a trial, the best first: its arguments, its ``value``, its ``epochs``, and whether it ran to its ``end``.
    model
        The model of the best trial, trained.
    """

    best: dict[str, Any]
    table: pd.DataFrame
    model: Any

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.best.items())
        return f"{len(self.table)} trials, {int(self.table['end'].sum())} to the end; the best: {said} ({self.table['value'].iloc[0]:.5g})"


@named
def tune(
    cls: type[Model],
    adata: AnnData | str | Path,
    space: Mapping[str, Any],
    *,
    keys: Mapping[str, Any] | None = None,
    metric: str | Callable[[Any], float] = "elbo_validation",
    highest: bool = False,
    n_trials: int = 20,
    max_epochs: int | None = None,
    stop_early: bool = True,
    grace_epochs: int = 10,
    folder: str | Path | None = None,
    cpus: float = 1,
    gpus: float = 0,
    at_once: int | None = None,
    search: Any = None,
    seed: int | None = None,
    **fixed: Any,
) -> Tuned:
    """Try hyper-parameters, and keep the best model.

    Parameters
    ----------
    cls
        The model's class.
    adata
        Cells in memory that were set up for it; or the place of a file that all workers see, with ``keys``.
    space
        Argument -> what it may be: a list of values, or a range ``{"low": 1e-4, "high": 1e-2, "log": True}`` (of whole numbers, if both
        ends are), or a domain of Ray. Arguments are those of the model, of ``train``, and of its plan (``lr``, ``weight_decay``, ...).
    keys
        Arguments of ``setup_anndata``, for cells in a file.
    metric
        What is minimised: a column of the history, or a function of the trained model, such as :func:`integration`.
    highest
        Maximise it instead.
    n_trials
        How many are tried, at random.
    max_epochs
        Of a trial that is not stopped; by default as ``train`` has it.
    stop_early
        Stop trials that fall behind in the ELBO of held-out cells, whatever the metric, by successive halving (ASHA; Li et al., MLSys
        2020): a third of them goes on each time.
    grace_epochs
        Epochs that each trial has in any case.
    folder
        Where trials are kept. If it holds the trials of an earlier call that was cut short, these go on, to the same end; without it
        a temporary place.
    cpus, gpus
        Of a trial.
    at_once
        Trials that run side by side; by default as many as there is room for.
    search
        A search algorithm of Ray in place of random draws.
    seed
        Of the draws of arguments, and of every trial's training.
    **fixed
        Further arguments of the model, of ``train`` or of its plan, the same for all.

    Returns
    -------
    :class:`Tuned`.

    Raises
    ------
    ArgumentError
        An argument that neither the model nor its training has, or cells that no worker could read.
    BackendError
        Ray is not installed.
    """
    ray, ray_tune = _ray()
    for name in [*space, *fixed]:
        _whose(cls, name)
    if isinstance(adata, AnnData) and stays_on_disk(adata):
        raise ArgumentError(
            "These cells stay on disk, and an open file cannot be sent to workers.", "Give its place: tune(cls, 'atlas.h5ad', ...)."
        )
    if not isinstance(adata, AnnData) and keys is None:
        raise ArgumentError("Cells in a file are set up by each worker.", "Say how: tune(..., keys={'batch_key': 'donor'}).")
    chosen = settings.fresh_seed(seed)
    told = {"max_epochs": max_epochs, "seed": chosen, "check_val_every_n_epoch": 1, **fixed}
    place = adata if isinstance(adata, AnnData) else str(Path(adata).absolute())
    trial = ray_tune.with_resources(
        ray_tune.with_parameters(_trial, cls=cls, data=place, keys=keys, told=told, metric=metric), {"cpu": cpus, "gpu": gpus}
    )
    with _running(ray, folder) as where:
        if ray_tune.Tuner.can_restore(str(where)):
            tuner = ray_tune.Tuner.restore(str(where), trainable=trial, resume_errored=True, resume_unfinished=True)
        else:
            longest = cls.training.epochs(_cells(adata)) if max_epochs is None else max_epochs
            asha = ray_tune.schedulers.ASHAScheduler(
                "epoch", LOOKED_AT, "min", max_t=longest + 1, grace_period=min(grace_epochs, longest), reduction_factor=3
            )
            drawn = ray_tune.search.basic_variant.BasicVariantGenerator(
                max_concurrent=at_once or 0, random_state=np.random.RandomState(chosen)
            )
            tuner = ray_tune.Tuner(
                trial,
                param_space={name: _domain(ray_tune, name, given) for name, given in space.items()},
                tune_config=ray_tune.TuneConfig(
                    num_samples=n_trials, scheduler=asha if stop_early else None,
                    search_alg=search or drawn,
                ),
                run_config=ray_tune.RunConfig(name=where.name, storage_path=str(where.parent), verbose=0),
            )  # fmt: skip
        return _found(tuner.fit(), cls, adata, list(space), highest)


def integration(model: Any, labels_key: str | None = None) -> float:
    """How well batches are mixed and labels kept apart in latent space, from 0 to 1: 0.6 of the one and 0.4 of the other (scib-metrics).

    Silhouettes of labels, and of batches within labels (Luecken et al., Nature Methods 19:41, 2022). As a metric of :func:`tune` it needs
    ``highest=True``.

    Parameters
    ----------
    model
        A trained model that has a latent space and was set up with batches.
    labels_key
        Column of ``obs``; by default the one that the model was set up with.
    """
    try:
        from scib_metrics import silhouette_batch, silhouette_label
    except ImportError as error:
        raise BackendError("This metric needs scib-metrics.", "pip install scib-metrics, or tune by metric='elbo_validation'.") from error
    key = labels_key or model.setup.keys.get("labels_key")
    if key is None or model.setup.keys.get("batch_key") is None:
        raise ArgumentError("This metric compares labels and batches.", "Set up with batch_key=... and labels_key=....")
    obs, z = model.adata.obs, model.get_latent_representation()
    labels, batch = obs[key].astype(str).to_numpy(), obs[model.setup.keys["batch_key"]].astype(str).to_numpy()
    return float(0.6 * silhouette_label(z, labels) + 0.4 * silhouette_batch(z, labels, batch))


# ---------------------------------------------------------------------- one trial
def _trial(config: dict[str, Any], cls: type[Model], data: Any, keys: Any, told: dict[str, Any], metric: Any) -> None:
    """What a worker does: train, report every epoch, save."""
    from ray import tune as ray_tune

    here = Path(ray_tune.get_context().get_trial_dir())
    adata = data if isinstance(data, AnnData) else read_or_leave(data)
    if keys is not None:
        cls.setup_anndata(adata, **keys)
    model, train = _made(cls, adata, {**told, **config})
    last: dict[str, Any] = {}

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["metrics"]:
            seen = event["metrics"].get("validation", np.nan)
            last.update({"epoch": event["done"], LOOKED_AT: seen, VALUE: seen if metric == LOOKED_AT else np.nan, "end": False})
            ray_tune.report(dict(last))

    settings.on_event = listen
    model.train(**train, resume=here / STATE)
    model.save(here / FOLDER, overwrite=True)
    value = float(metric(model)) if callable(metric) else float(model.history[metric][metric].iloc[-1])
    ray_tune.report({**last, VALUE: value, "end": True})


def _whose(cls: type[Model], name: str) -> str:
    """Whether an argument is the model's, of its training, or of its plan."""
    groups = {
        "model": cls.hyperparameters(),
        "train": {p: 0 for p in inspect.signature(cls.train).parameters if p not in ("self", "resume", "progress", "plan_kwargs")},
        "plan": {f.name: 0 for f in dataclasses.fields(PlanOptions)},
    }
    for whose, names in groups.items():
        if name in names:
            return whose
    raise ArgumentError(unknown(f"argument of {cls.__name__} or its training", name, [n for names in groups.values() for n in names]))


def _made(cls: type[Model], adata: AnnData, given: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """A model with its arguments, and those of its training."""
    of: dict[str, dict[str, Any]] = {"model": {}, "train": {}, "plan": {}}
    for name, value in given.items():
        of[_whose(cls, name)][name] = value
    return cls(adata, **of["model"]), {**of["train"], "plan_kwargs": of["plan"]}


# ---------------------------------------------------------------------- Ray
def _ray() -> tuple[Any, Any]:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its tables are not for the people who use a model
    try:
        import ray
        from ray import tune as ray_tune
    except ImportError as error:
        raise BackendError("Tuning needs Ray.", "pip install 'scelbo[tune]'.") from error
    return ray, ray_tune


@contextlib.contextmanager
def _running(ray: Any, folder: str | Path | None) -> Iterator[Path]:
    """A cluster (that which runs, else one of this machine for as long as it is needed), and where trials are kept."""
    import tempfile

    own, before = not ray.is_initialized(), np.random.get_state()  # noqa: NPY002 (Ray draws from it)
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        if folder is not None:
            yield Path(folder).absolute()
        else:
            with tempfile.TemporaryDirectory() as there:
                yield Path(there) / "trials"
    finally:
        np.random.set_state(before)  # noqa: NPY002
        if own:
            ray.shutdown()


def _domain(ray_tune: Any, name: str, given: Any) -> Any:
    """A list of values or a range as Ray knows it."""
    if isinstance(given, list | tuple) and given:
        return ray_tune.choice(list(given))
    if isinstance(given, Mapping) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        whole = all(isinstance(given[end], int) for end in ("low", "high"))
        kind = ("lograndint" if whole else "loguniform") if given.get("log") else ("randint" if whole else "uniform")
        return getattr(ray_tune, kind)(given["low"], given["high"] + whole)  # Ray leaves the end out
    if type(given).__module__.startswith("ray."):
        return given
    raise ArgumentError(f"space[{name!r}]={given!r} is no space.", "Give a list of values, or {'low': 1, 'high': 10}.")


def _cells(adata: AnnData | str | Path) -> int:
    return (adata if isinstance(adata, AnnData) else read_or_leave(adata)).n_obs


def _found(results: Any, cls: type[Model], adata: Any, names: list[str], highest: bool) -> Tuned:
    """The trials as a table, and the best one's model."""
    rows = [
        {**{n: r.config[n] for n in names}, VALUE: r.metrics.get(VALUE, np.nan), "epochs": r.metrics.get("epoch", 0),
         "end": bool(r.metrics.get("end", False)), "folder": r.path}
        for r in results if r.metrics
    ]  # fmt: skip
    ended = [row for row in rows if row["end"]]
    if not ended:
        said = next((str(r.error).strip().splitlines()[-1] for r in results if r.error), "no trial ended")
        raise ArgumentError(f"No trial ran to its end: {said}.", "Try one by hand: the model's constructor, and train().")
    table = pd.DataFrame(rows).sort_values(["end", VALUE], ascending=[False, not highest], kind="stable").reset_index(drop=True)
    best = table.iloc[0]
    model = cls.load(Path(best["folder"]) / FOLDER, adata if isinstance(adata, AnnData) else read_or_leave(adata))
    found = {name: value.item() if isinstance(value, np.generic) else value for name, value in best[names].items()}
    return Tuned(found, table.drop(columns="folder"), model)
