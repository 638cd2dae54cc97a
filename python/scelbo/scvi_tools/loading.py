"""Opening a model that scvi-tools saved: its arguments, what it noted of the data, its weights. No code in the file is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import torch
from anndata import read_h5ad
from torch import Tensor

from scelbo.errors import DataError, SetupError, StorageError, unknown
from scelbo.scvi_tools import blocks, maps, pickles
from scelbo.scvi_tools.arguments import COUNTERPARTS, ours_of
from scelbo.scvi_tools.registry import setup_of
from scelbo.scvi_tools.trees import Tree
from scelbo.trust import AsLargeAs, check_numbers

if TYPE_CHECKING:
    from scelbo.model import Model

FILE, LEGACY = "model.pt", ("model_params.pt", "attr.pkl")
DATA = {"adata.h5ad": read_h5ad, "mdata.h5mu": mudata.read_h5mu}


def found(path: str | Path) -> Path | None:
    """The file of scvi-tools in a folder (``model.pt``, with a prefix or without), or ``path`` if it is one; None if there is none."""
    path = Path(path)
    if path.is_file():
        return path if path.suffix == ".pt" else None
    if not path.is_dir():
        return None
    if any(next(path.glob(f"*{name}"), None) for name in LEGACY):
        pickles.refuse(path)
    there = sorted(path.glob(f"*{FILE}"))
    if len(there) > 1:
        raise StorageError(f"{str(path)!r} holds several models: {', '.join(p.name for p in there)}.", "Name one of these files.")
    return there[0] if there else None


def load(file: Path, adata: Any, models: Mapping[str, type[Model]], expected: type[Model] | None = None) -> Any:
    """A model of ours with what a file of scvi-tools holds.

    Parameters
    ----------
    file
        As :func:`found` gives it.
    adata
        The data, or None: those beside the file, if there are any.
    models
        Our classes.
    expected
        The class, or a base, that the model must be of.

    Raises
    ------
    StorageError
        The file cannot be read, or its model has no counterpart here, for a reason that is named.
    """
    said = pickles.read(file)
    try:
        return _model(file, said, adata, models, expected)
    except StorageError as error:
        raise StorageError(f"{str(file)!r} is not opened. {error.args[0]}", error.hint) from None
    except Exception as error:  # whatever a damaged file leads to
        if adata is not None and isinstance(error, DataError | SetupError):
            raise  # of the data that were given
        raise StorageError(f"{str(file)!r} does not hold a whole model of scvi-tools: {error!r}.", "The file is damaged.") from error


def _model(file: Path, said: Any, adata: Any, models: Mapping[str, type[Model]], expected: type[Model] | None) -> Any:
    weights = {k: v for k, v in said["model_state_dict"].items() if isinstance(v, Tensor)}
    about, registry = said["attr_dict"], said["attr_dict"]["registry_"]
    name = registry["model_name"]
    if name not in COUNTERPARTS:
        raise StorageError(unknown("It is a model of scvi-tools that is not brought over:", name, COUNTERPARTS))
    cls = models[name]
    if expected is not None and not issubclass(cls, expected):
        raise StorageError(f"It holds a {name}, not a {expected.__name__}.", f"Call {name}.load().")
    init = about["init_params_"]
    version = tuple(int(part) for part in re.findall(r"\d+", registry["scvi_version"])[:2])
    arguments = ours_of(name, init, version, weights)
    given = init.get("non_kwargs", init)
    if name == "SpatialStereoscope":
        arguments |= {"cell_types": list(map(str, given["cell_type_mapping"])), "n_spots": weights["V"].shape[1]}
    whole = arguments.get("gene_likelihood") != "normal"
    of_data = {"var_names": said["var_names"], "n_genes": given.get("n_genes"), "n_regions": given.get("n_regions")}
    setup = setup_of(name, cls.Cells, registry, of_data, whole)
    beside = {file.with_name(file.name.removesuffix(FILE) + part): reads for part, reads in DATA.items() if file.name.endswith(FILE)}
    for path, reads in beside.items():
        if adata is None and path.exists():
            adata = reads(path)
    check_numbers(weights)
    with AsLargeAs(weights):
        model = cls(adata, setup=setup, **arguments)
    if adata is not None:
        setup.matched(adata, cls.Cells)
        model.module.observe(model.read())
    elif name == "MULTIVI":
        module: Any = model.module
        module.measured.cells.table.data.fill_(1)  # without data: of every modality in every batch
        module.measured.patterns.fill_(True)
    _take(name, model, Tree(weights), registry)
    model.is_trained = bool(about["is_trained_"])
    model._history = _history(about.get("history_"))
    model.trained_epochs = len(model._history)
    for part in ("train_indices", "validation_indices", "test_indices"):
        indices = about.get(f"{part}_")
        setattr(model, part, np.asarray([] if indices is None else indices, dtype=np.int64))
    return model


@torch.no_grad()
def _take(name: str, model: Any, tree: Tree, registry: Mapping[str, Any]) -> None:
    """Copy all weights; an error if any that matters is left."""
    known, module = COUNTERPARTS[name], model.module
    pairs = known.pairs
    if name == "CondSCVI" and model.gene_likelihood == "additive":
        pairs = maps.condscvi_until_1_4_0
    found = list(pairs(module, tree))
    for p in found:
        here, there = tuple(p.ours.shape), tuple(p.view(p.theirs).shape)
        if here != there:
            raise StorageError(f"Its weights for {p.name} have the shape {there}, where {here} is expected.")
    blocks.copy(found)
    if name == "CondSCVI":
        if model.gene_likelihood == "nb":
            maps.fold_batches(module, tree)
        module.weight.copy_(tree.ct_weight)
    if "y_prior" in tree and tree.y_prior.std() > 1e-6:
        raise StorageError("Its types are not equally likely a priori (y_prior), which scelbo's SCANVI has no counterpart of.")
    left = [weight for weight in tree.left() if not weight.startswith(known.spare) and not weight.endswith("num_batches_tracked")]
    if left:
        raise StorageError(
            f"{len(left)} of its weights have no place in scelbo's {name}: {', '.join(left[:4])}.",
            "It is of a version of scvi-tools, or has settings, not known here.",
        )
    proteins = getattr(module, "proteins", None)
    if proteins is not None:
        mask = (registry["field_registries"]["proteins"].get("state_registry") or {}).get("protein_batch_mask")
        for part in (proteins.measured, proteins.counted):
            rows = part.rows()
            seen = torch.ones_like(rows)
            if mask is not None and part.covariate == "batch" and not proteins.override_missing:
                seen = torch.stack([torch.as_tensor(np.asarray(mask.get(str(b), mask.get(b)))).to(rows) for b in range(len(rows))])
            part.table.copy_(seen)


def _history(noted: Any) -> pd.DataFrame:
    """The tables of a training history as one."""
    tables = [t for t in (noted or {}).values() if isinstance(t, pd.DataFrame) and len(t)] if isinstance(noted, dict) else []
    if not tables:
        return pd.DataFrame()
    out = pd.concat([t.loc[~t.index.duplicated(keep="last")] for t in tables], axis=1)
    out = out.loc[:, ~out.columns.duplicated()].apply(pd.to_numeric, errors="coerce").astype(float)
    return out.set_axis(pd.Index(out.index.astype(np.int64), name="epoch"))
