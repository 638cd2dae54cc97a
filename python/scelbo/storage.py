"""One file format for all models: a folder with ``model.json`` (plain data) and ``weights.safetensors``. Opening it runs no code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from safetensors.torch import load_file, save_file
from torch import Tensor

from scelbo import scvi_tools, settings, transfer
from scelbo.data import Setup
from scelbo.data.disk import write_h5ad
from scelbo.errors import DataError, SetupError, StorageError, unknown
from scelbo.trust import AsLargeAs, check_numbers
from scelbo.whole import whole

if TYPE_CHECKING:
    from scelbo.model import Model

FORMAT = 1
ABOUT, WEIGHTS, DATA, DATA_OF_SEVERAL = "model.json", "weights.safetensors", "data.h5ad", "data.h5mu"
CHECKSUMS = "checksums"
SPLIT = ("train_indices", "validation_indices", "test_indices")


def save(model: Model, folder: str | Path, overwrite: bool = False, save_anndata: bool = False) -> None:
    """Write a model folder, whole or not at all. Of several processes that trained the model together the first writes."""
    if not settings.first_process():
        return
    require_place(folder, overwrite)
    with whole(folder) as new:
        new.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in model.module.state_dict().items()}, new / WEIGHTS)
        (new / ABOUT).write_text(json.dumps(_sealed(_about(model), new / WEIGHTS)), encoding="utf-8")
        if save_anndata:
            if model.adata is None:
                raise StorageError("This model holds no data to save.")
            with mudata.set_options(pull_on_update=False):  # a MuData is written as it is
                if isinstance(model.adata, AnnData):
                    model.adata.strings_to_categoricals()
                    write_h5ad(model.adata, new / DATA)
                else:
                    model.adata.write(new / DATA_OF_SEVERAL)


def require_place(folder: str | Path, overwrite: bool) -> None:
    """Raise where something stands that a model must not replace."""
    folder = Path(folder)
    if folder.exists():
        if not overwrite:
            raise StorageError(f"{str(folder)!r} exists.", "Choose another folder, or overwrite=True.")
        if not (folder / ABOUT).exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{str(folder)!r} is not a model folder, so it is not overwritten.", "Choose another folder.")


def _about(model: Model) -> dict[str, Any]:
    history = {c: [None if not math.isfinite(v) else v for v in model._history[c].astype(float)] for c in model._history}
    return {
        "format": FORMAT,
        "scelbo": importlib.metadata.version("scelbo") if _installed() else "source",
        "model": type(model).__name__,
        "arguments": {k: getattr(model, k) for k in model.hyperparameters()},
        "setup": model.setup.to_dict(),
        "trained_epochs": model.trained_epochs,
        "is_trained": model.is_trained,
        "freeze": model.freeze,
        "outcome": model.outcome,
        "calibration": model.calibration,
        "history": {"epoch": [int(e) for e in model._history.index], "columns": history},
        "split": {name: getattr(model, name).tolist() for name in SPLIT},
    }


def _installed() -> bool:
    try:
        importlib.metadata.version("scelbo")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def about(folder: str | Path) -> dict[str, Any]:
    """What ``model.json`` says, checked for being a model of a format that is known."""
    folder = Path(folder)
    try:
        said = json.loads((folder / ABOUT).read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) if folder.is_dir() else "no such folder"
        hint = "It is a model of scvi-tools: scelbo.load() opens it, save() keeps it as ours." if scvi_tools.found(folder) else ""
        raise StorageError(f"{str(folder)!r} holds no scelbo model: it has no {ABOUT} ({there}).", hint) from None
    except (ValueError, OSError, RecursionError, MemoryError) as error:
        raise StorageError(f"{str(folder / ABOUT)!r} cannot be read: {error}.", "The file is damaged.") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise StorageError(
            f"{str(folder)!r} has format {said.get('format') if isinstance(said, dict) else said!r}; this scelbo reads format {FORMAT}."
        )
    sums = said.get(CHECKSUMS, {})  # which the first models were saved without
    if not isinstance(sums, dict) or (sums and sums.get("about") != _checksum(said)):
        raise StorageError(f"{str(folder / ABOUT)!r} was changed since the model was saved.", "The file is damaged, or was edited.")
    return said


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _checksum(said: dict[str, Any]) -> str:
    """Of what ``model.json`` says, however it is laid out."""
    rest = {key: value for key, value in said.items() if key != CHECKSUMS}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sealed(said: dict[str, Any], weights: Path) -> dict[str, Any]:
    """With the checksums of itself and of the weights, so that neither can change, or be of another model, without notice."""
    plain = json.loads(json.dumps(said, allow_nan=False))
    with weights.open("rb") as file:
        return plain | {CHECKSUMS: {"about": _checksum(plain), "weights": hashlib.file_digest(file, "sha256").hexdigest()}}


def load(folder: str | Path, adata: AnnData | None, models: dict[str, type[Model]], expected: type[Model] | None = None) -> Any:
    """Open a model folder, ours or scvi-tools'; ``models`` are the classes that it may name.

    Raises
    ------
    StorageError
        It is no such folder, or is damaged: it was changed since it was saved, or arguments, set-up and weights do not fit each other.
    """
    theirs = None if (Path(folder) / ABOUT).exists() else scvi_tools.found(folder)
    if theirs is not None:
        return scvi_tools.load(theirs, adata, models, expected)
    folder, said = Path(folder), about(folder)
    name = said.get("model")
    if not isinstance(name, str) or name not in models:
        raise StorageError(unknown("model class", name, models), "Import the package that defines it first.")
    if expected is not None and not issubclass(models[name], expected):
        raise StorageError(f"{str(folder)!r} holds a {name}, not a {expected.__name__}.", f"Call {name}.load({str(folder)!r}).")
    try:
        if adata is None and (folder / DATA).exists():
            adata = read_h5ad(folder / DATA)
        elif adata is None and (folder / DATA_OF_SEVERAL).exists():
            with mudata.set_options(pull_on_update=False):
                adata = mudata.read_h5mu(folder / DATA_OF_SEVERAL)
        model = _restored(said, _weights(folder, said), models[name], adata)
    except Exception as error:  # whatever a damaged folder leads to
        if adata is not None and isinstance(error, DataError | SetupError):
            raise  # of the data that were given
        raise StorageError(
            f"{str(folder)!r} does not hold a whole {name}: {error}.", "The folder is damaged, or from another version."
        ) from error
    if model.adata is not None:
        model.setup.matched(model.adata, models[name].Cells)  # features are matched by name here, before any question
    return model


def _weights(folder: Path, said: dict[str, Any]) -> dict[str, Tensor]:
    """Those that were saved with this ``model.json``, all of them numbers."""
    with (folder / WEIGHTS).open("rb") as file:
        noted, there = said.get(CHECKSUMS, {}).get("weights"), hashlib.file_digest(file, "sha256").hexdigest()
    if noted is not None and noted != there:
        raise ValueError(f"{WEIGHTS} was changed since the model was saved")
    weights = load_file(folder / WEIGHTS)
    check_numbers(weights)
    return weights


def _restored(said: dict[str, Any], weights: dict[str, Tensor], cls: type[Model], adata: AnnData | None) -> Model:
    with AsLargeAs(weights):
        model = cls(adata, setup=Setup.from_dict(said["setup"]), **said["arguments"])
        model.freeze = said.get("freeze")
        if model.freeze is not None and model.freeze["unfrozen"]:
            transfer.freeze(model.module, **model.freeze)  # changes the tables' shapes, so before the weights
    for name, value in model.module.state_dict().items():
        if name in weights and weights[name].dtype != value.dtype:
            raise TypeError(f"its weights {name} are {weights[name].dtype}, where {value.dtype} is expected")
    model.module.load_state_dict(weights)
    if model.freeze is not None and not model.freeze["unfrozen"]:
        transfer.freeze(model.module, **model.freeze)
    model.trained_epochs, model.is_trained = int(said["trained_epochs"]), bool(said["is_trained"])
    model.outcome, model.calibration = dict(said.get("outcome", {})), dict(said.get("calibration", {}))
    epoch = pd.Index(np.asarray(said["history"]["epoch"], dtype=np.int64), name="epoch")
    model._history = pd.DataFrame(said["history"]["columns"], index=epoch, dtype=float)
    for part in SPLIT:
        setattr(model, part, np.asarray(said["split"][part], dtype=np.int64))
    return model


__all__ = ["about", "load", "require_place", "save"]
