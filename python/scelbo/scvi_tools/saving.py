"""Writing a model for scvi-tools 1.4.2: a folder with ``model.pt``, which ``scvi.model.<class>.load(folder, adata)`` opens."""

from __future__ import annotations

import dataclasses
import io
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scelbo.data import Setup
from scelbo.data.modalities import MODALITIES
from scelbo.errors import StorageError
from scelbo.nn import inverse_softplus
from scelbo.scvi_tools import blocks, maps
from scelbo.scvi_tools.arguments import COUNTERPARTS, theirs_of
from scelbo.scvi_tools.loading import FILE
from scelbo.scvi_tools.registry import registry_of
from scelbo.scvi_tools.trees import Blank
from scelbo.whole import whole

VERSION = "1.4.2"
"""Of scvi-tools, whose files these are."""
OF_PROTEINS = ("py_fore_scale_decoder", "py_background_decoder", "py_back_mean_log_alpha", "py_back_mean_log_beta")


def save(model: Any, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write a folder that scvi-tools 1.4.2 loads, with the same answers: ``scvi.model.SCVI.load(folder, adata)``.

    Weights, arguments, keys and categories, and which cells trained are carried; the training history and the optimiser's state are not,
    nor what scvi-tools has no counterpart of and no weight depends on (a calibration, a penalty's weight).

    Parameters
    ----------
    model
        A model of a class in :data:`~scelbo.scvi_tools.arguments.COUNTERPARTS`, trained.
    folder
        Where to.
    overwrite
        Replace a ``model.pt`` that is there.

    Raises
    ------
    NotTrainedError
        The model was not trained.
    StorageError
        The folder holds such a file, or the model has a setting that scvi-tools has no counterpart of: it is named, and nothing is written.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import scelbo
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=100, n_genes=30)
    >>> scelbo.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scelbo.SCVI(adata, n_hidden=8, n_latent=3)
    >>> model.train(max_epochs=1, progress=False)
    >>> folder = mkdtemp()
    >>> model.save_as_scvi_tools(folder)
    >>> again = scelbo.SCVI.load(folder, adata)  # which reads such folders too
    >>> bool((again.get_latent_representation() == model.get_latent_representation()).all())
    True
    """
    own, more = theirs_of(model)
    model.require_trained()
    folder, name = Path(folder), type(model).__name__
    if (folder / FILE).exists() and not overwrite:
        raise StorageError(f"{str(folder / FILE)!r} exists.", "Choose another folder, or overwrite=True.")
    if model.setup.reference is not None:
        raise StorageError(
            f"This {name} maps a query onto a reference, whose encoder knows the query's batches: scvi-tools' does not.",
            "Save the reference's model instead, and map the query in scvi-tools.",
        )
    about = {
        "init_params_": {"kwargs": {"model_kwargs": more}, "non_kwargs": own | _of_data(model)},
        "is_trained_": True,
        "registry_": registry_of(model, VERSION, str(uuid.uuid4())),
        "history_": None,
        **{f"{part}_": getattr(model, part) for part in ("train_indices", "validation_indices", "test_indices")},
    }
    said = {"model_state_dict": weights_of(model), "var_names": _names(model), "attr_dict": about}
    torch.save(said, buffer := io.BytesIO())  # into a file it would hide what the system says of it
    with whole(folder / FILE) as new:
        new.write_bytes(buffer.getbuffer())


def weights_of(model: Any) -> OrderedDict[str, Tensor]:
    """All weights that scvi-tools' module has, by its names: those that its model does not use are as they start."""
    name, module, blank = type(model).__name__, model.module, Blank({})
    known, setup = COUNTERPARTS[name], _any_model(model.setup)
    if known.fullest:
        if name == "MULTIVI" and "protein" not in setup.features:
            features = setup.features | {"protein": ("none",)}
            setup = dataclasses.replace(setup, features=features)
        arguments = {argument: getattr(model, argument) for argument in model.hyperparameters()} | dict(known.fullest)
        whole = type(model)(None, setup=setup, **arguments)
        blocks.copy_back(pair for pair in known.pairs(whole.module, blank) if not pair.name.startswith("l prior"))
    blocks.copy_back(known.pairs(module, blank))
    out = blank._weights
    for prior in ("library_log_means", "library_log_vars"):
        if getattr(module, "l_prior", None) is None:
            out.pop(prior, None)
    match name:
        case "SCVI" | "SCANVI":
            if model.dispersion == "gene-cell":
                out.pop("px_r", None)
        case "MULTIVI" if "protein" not in model.setup.features:
            for key in out:
                if key.startswith(("py_r", "background_pro_")) or any(part in key for part in OF_PROTEINS):
                    out[key] = out[key][:0]
        case "CondSCVI":
            out["ct_weight"] = module.weight.cpu().clone()
            if not maps.unfold_batches(module, blank):
                raise StorageError(
                    "The batches of this CondSCVI shift deeper layers too, or are more than scvi-tools' embedding has dimensions.",
                    "It can be saved with one batch, with up to 5 and n_layers=1, or as it was brought from scvi-tools.",
                )
        case "RNAStereoscope":
            out["ct_weight"] = torch.ones(len(model.setup.categories["label"]))
    if name == "SCANVI":
        n = len(model.setup.categories["label"])
        out["y_prior"] = torch.full((1, n), 1 / n)
    return OrderedDict(out)


def _any_model(setup: Setup) -> Setup:
    """As if any model could be made of the data, and read their library sizes."""
    return dataclasses.replace(setup, keys={k: v for k, v in setup.keys.items() if k != "size_factor_key"}, whole=True)


def _of_data(model: Any) -> dict[str, Any]:
    """Arguments of scvi-tools' class that say what data and reference say; and what else it cannot have of them."""
    name, module = type(model).__name__, model.module
    if name == "MULTIVI":
        if "atac" not in model.setup.features:
            raise StorageError("This MULTIVI has no regions, which scvi-tools' needs.", "TOTALVI explains genes and proteins.")
        return {"n_genes": len(model.setup.features["x"]), "n_regions": len(model.setup.features["atac"])}
    if name == "SpatialStereoscope":
        w, o = inverse_softplus(module.w).T.cpu().numpy(), module.o.cpu().numpy()
        return {"sc_params": (w, o), "cell_type_mapping": np.array(model.cell_types, dtype=object)}
    return {}


def _names(model: Any) -> Any:
    """Names of the features, of several modalities by the name of each."""
    features, of = model.setup.features, model.setup.keys.get(MODALITIES)
    names = {field: np.array(known, dtype=object) for field, known in features.items()}
    if type(model).__name__ != "MULTIVI" and of is None:
        return names["x"]
    fields = model.Cells.fields()
    words = {"x": "rna", "atac": "atac", "protein": "protein"}
    return {(of[fields[field].argument] if of else words[field]): known for field, known in names.items()}
