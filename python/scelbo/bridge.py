"""What only R needs: counts without a transpose, arguments by type, progress, a model as bytes."""

from __future__ import annotations

import inspect
import io
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

import scelbo
from scelbo import kernels, settings, tuning
from scelbo.bridge_cells import (  # noqa: F401 (R asks for them here)
    anndata,
    append_rows,
    as_anndata,
    counts,
    counts_all,
    features_of,
    grouped,
    layers,
    observed,
    obsm_keys,
    optional_columns,
    placed,
    rows_on_disk,
    slots,
    unmeasured,
)
from scelbo.bridge_frames import columns, frame, records  # noqa: F401 (R asks for them here)
from scelbo.bridge_models import (  # noqa: F401 (R asks for them here)
    arguments_of,
    column_kinds,
    hyperparameters,
    model_class,
    posterior,
    questions,
    setup_arguments,
    takes_cells,
)
from scelbo.bridge_objects import (  # noqa: F401 (R asks for them here)
    assemble,
    by_columns,
    by_rows,
    contents,
    exact,
    modalities,
    mudata,
    named_columns,
    obs_of_all,
    opened,
    piece,
    recarray,
    told,
    turned,
    vector,
    write,
)
from scelbo.data import Setup
from scelbo.data.disk import linked, stays_on_disk  # noqa: F401 (R asks for them here)
from scelbo.data.minified import MARK
from scelbo.errors import ArgumentError, unknown
from scelbo.kernels import products
from scelbo.pl.fit import label_unseen  # noqa: F401 (R asks for it here)


# ---------------------------------------------------------------------- calls
def create(
    model: str, adata: AnnData, keys: Mapping[str, Any], fields: Mapping[str, Any], features: Sequence[str] | None = None
) -> tuple[Any, list[str]]:
    """Set ``adata`` up and make the model (of some ``features``, where those on disk are more); returns it and the warnings."""
    kind = model_class(model)

    def make() -> Any:
        kind.setup_anndata(adata, **typed(kind.setup_anndata, keys))
        if features is not None:
            Setup.stored(adata, kind.__name__).bind(adata, kind.Cells, features).store(adata, kind.__name__)
        return kind(adata, **typed(kind, fields))

    return _heard(make)


def tune(model: str, adata: AnnData, keys: Mapping[str, Any], space: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Set ``adata`` up and try hyper-parameters; R's whole numbers are doubles."""
    kind = model_class(model)

    def run() -> Any:
        kind.setup_anndata(adata, **typed(kind.setup_anndata, keys))
        return tuning.tune(kind, adata, {name: _whole(given) for name, given in space.items()}, **typed(tuning.tune, given))

    return _heard(run)


def create_pair(
    model: str, adatas: Sequence[AnnData], keys: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    """The same of a model that reads several data sets, each with its keys."""
    kind = model_class(model)

    def make() -> Any:
        for adata, own in zip(adatas, keys, strict=True):
            kind.setup_anndata(adata, **typed(kind.setup_anndata, own))
        return kind(*adatas, **typed(kind, fields))

    return _heard(make)


def ask(target: Any, question: str, arguments: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Call a method with arguments as R gives them; returns its answer and the warnings."""
    method = getattr(target, question)
    return _heard(lambda: method(**typed(method, arguments)))


def _heard(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """R does not see Python's stderr: warnings that are meant for users come back as text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        answer = call()
    return answer, list(dict.fromkeys(str(w.message) for w in caught))


def typed(called: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as ``called`` declares them: R's numbers are doubles, and its one string may stand for a list of one.

    >>> def fit(n_latent: int = 10, lr: float = 0.1): ...
    >>> typed(fit, {"n_latent": 20.0, "lr": 1.0})
    {'n_latent': 20, 'lr': 1.0}
    """
    parameters = inspect.signature(called).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    out = {}
    for name, value in arguments.items():
        if name not in parameters and not takes_any:
            raise ArgumentError(unknown(f"{called.__name__}() argument", name, parameters))
        out[name] = _typed(name, value, _words(parameters[name].annotation)) if name in parameters else _whole(value)
    return out


def _words(annotation: Any) -> set[str]:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return set(re.findall(r"\w+", text))


def _typed(name: str, value: Any, words: set[str]) -> Any:
    if isinstance(value, float) and "int" in words and "float" not in words:
        if not value.is_integer():
            raise ArgumentError(f"{name}={value} must be a whole number.")
        return int(value)
    if isinstance(value, str) and words & {"list", "Sequence"}:
        return [value]
    return value


def _whole(value: Any) -> Any:
    """What a method passes on has no type here: a whole number serves as either, alone or among others."""
    if isinstance(value, Mapping):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ---------------------------------------------------------------------- progress
def listen(callback: Callable[[dict[str, Any]], Any] | None, seconds: float = 0.1) -> None:
    """Send events to R: each start, end and message, and at most one step in ``seconds``."""
    if callback is None:
        settings.on_event = None
        return
    last = 0.0

    def send(event: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if event["event"] == "step" and now - last < seconds:
            return
        last = now
        callback({k: ({n: float(v) for n, v in value.items()} if k == "metrics" else value) for k, value in event.items()})

    settings.on_event = send


# ---------------------------------------------------------------------- models
def pack(model: Any) -> bytearray:
    """The model's saved folder as bytes, for R to keep inside an R object."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        model.save(folder, save_anndata=is_minified(model))
        with zipfile.ZipFile(buffer, "w") as archive:  # unlike tar's, its members cannot be written elsewhere when unpacked
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
    return bytearray(buffer.getbuffer())


def unpack(state: bytes, adata: AnnData | None = None, origin: str | None = None) -> Any:
    """The inverse of :func:`pack`; ``origin`` is the class of a model of another package."""
    if origin is not None:
        model_class(origin)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(bytes(state))) as archive:
            archive.extractall(folder)
        return scelbo.load(folder, adata)


def is_minified(model: Any) -> bool:
    """Whether the model's cells have no counts, so that they fit beside its weights."""
    return model.adata is not None and not model.adata.uns.get(MARK, {"counts": True})["counts"]


def cells_of(model: Any) -> list[str]:
    """Names of the cells that the model holds."""
    return [] if model.adata is None else list(model.adata.obs_names)


def history(model: Any) -> pd.DataFrame:
    """All of the history as one frame: an ``epoch`` column and one column a metric."""
    parts = [part.iloc[:, 0].rename(name) for name, part in (model.history or {}).items()]
    if not parts:
        return pd.DataFrame({"epoch": np.array([], "int32")})
    table = pd.concat(parts, axis=1)
    return table.rename_axis("epoch").reset_index()


def about(model: Any) -> dict[str, Any]:
    """What ``summary()`` shows and ``load_model()`` needs to know."""
    arguments = {name: getattr(model, name) for name in model.hyperparameters()}
    return {
        "class": type(model).__name__,
        "trained": bool(model.is_trained),
        "arguments": arguments,
        "changed": [name for name, value in arguments.items() if value != getattr(type(model), name)],
        "epochs": model.trained_epochs,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "loops": kernels.in_words(*model.module.parameters()),
        "keys": model.setup.keys,
        "features": list(model.setup.var_names),
        "absent": list(model.setup.absent.get("x", ())),
        "beside": {field: len(names) for field, names in model.setup.features.items() if field != "x"},
        "sources": [{"keys": source.keys, "features": list(source.features)} for source in model.setup.sources],
        "lacking": [field for field, names in model.setup.absent.items() if len(names) == len(model.setup.features[field])],
    }


def modest_threads() -> None:
    """Half of the cores and at most four threads, unless the user said how many by ``OMP_NUM_THREADS``.

    An OpenMP thread without a core of its own holds up all others: with two threads on two cores, one of them busy with other
    work, an epoch was seen to take thirteen times as long, while it gains nothing from the second thread when both are free.
    ``OMP_WAIT_POLICY=passive`` would cure that too, but R has loaded OpenMP long before us.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, min(4, cores() // 2)))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(n: int) -> int:
    """Set torch's number of threads; returns what it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    return before


def status() -> dict[str, Any]:
    """Versions, device, threads and who compiled the loops, for ``backend_status()``."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    return {
        "python": platform.python_version(),
        "scelbo": scelbo.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name() if cuda else "Apple GPU (mps)" if mps else "CPU",
        "cuda": torch.version.cuda,
        "idle_gpu": not cuda and sys.platform != "darwin" and (os.path.exists("/dev/nvidia0") or bool(shutil.which("nvidia-smi"))),
        "loops": {"numba": version("numba") if kernels.present() else None, "compiled": settings.compiled},
        "onednn": settings.compiled and products.onednn() is not None,
        "threads": torch.get_num_threads(),
        "cores": cores(),
    }
