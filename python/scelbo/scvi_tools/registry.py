"""scvi-tools' registry (what it noted of the data) and our set-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from scelbo.data import Setup
from scelbo.data.fields import Batch
from scelbo.data.modalities import MODALITIES, obs_of
from scelbo.errors import StorageError
from scelbo.scvi_tools.arguments import COUNTERPARTS

FIELDS = {"batch": "batch", "label": "labels", "panel": "panel", "fine": "fine_labels"}
"""Our category -> what scvi-tools calls it."""
MATRICES = {"x": "X", "atac": "atac", "protein": "proteins"}
WORDS = {"x": "rna", "atac": "atac", "protein": "protein"}
"""Our matrix -> what scvi-tools calls it; what a MuData's modality is called that our set-up does not name."""
NOT_OF_MODELS = {"modalities", "use_minified", "idx_layer", "index_key"}
"""Arguments of its set-ups that no model reads."""
UNREAD = {"CondSCVI": {"size_factor_key", "unlabeled_category"}}
"""Arguments that a model's set-up takes there, and the model never reads."""


def setup_of(name: str, cells_type: type[Batch], registry: Mapping[str, Any], about: Mapping[str, Any], whole: bool) -> Setup:
    """Our set-up, of what is noted there.

    Parameters
    ----------
    name, cells_type
        Of the model, and what its minibatches hold.
    registry
        ``registry_`` of a saved model.
    about
        ``var_names``, and the arguments that the model was made with.
    whole
        Whether values are counts.

    Raises
    ------
    StorageError
        The data were set up with an argument that ours has no counterpart of, or are minified.
    """
    fields, noted = cells_type.fields(), registry["field_registries"]
    if (noted.get("minify_type") or {}).get("state_registry"):
        raise StorageError("Its cells are minified, and hold q(z | x) in place of counts.", "Save the model with its counts in scvi-tools.")
    several = registry.get("setup_method_name") == "setup_mudata"
    names = {a: a for f in fields.values() for a in f.arguments}
    if several:
        names |= {f.mudata: f.argument for f in fields.values() if f.mudata}
    elif name == "MULTIVI":
        names["layer"] = "rna_layer"
    keys: dict[str, Any] = {}
    for argument, value in registry.get("setup_args", {}).items():
        unread = argument in NOT_OF_MODELS or argument in UNREAD.get(name, ())
        if value is None or unread or (argument.startswith("protein_") and "protein" not in fields):  # 0.15 noted these of any model
            continue
        if argument not in names or names[argument] in COUNTERPARTS[name].without:
            raise StorageError(
                f"Its data were set up with {argument}={value!r}, which scelbo's {name} has no counterpart of.",
                "It would be another model; train it here, or ask it in scvi-tools.",
            )
        keys[names[argument]] = list(map(str, value)) if isinstance(value, list | tuple | np.ndarray) else value
    if several:
        of = registry["setup_args"]["modalities"]
        keys[MODALITIES] = {names[a]: modality for a, modality in of.items() if a in names and modality is not None}
    return Setup(keys, _categories(fields, keys, noted), whole, _features(fields, noted, about))


def _categories(fields: Mapping[str, Any], keys: Mapping[str, Any], noted: Mapping[str, Any]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for field, declared in fields.items():
        asked = keys.get(declared.argument)
        if declared.kind == "category":
            known = ["all"]
            if asked is not None:
                known = _words(noted[FIELDS[field]]["state_registry"]["categorical_mapping"])
            missing = keys.get(declared.missing) if declared.missing else None
            out[field] = [word for word in known if word != str(missing)] if missing is not None else known
        elif declared.kind == "categories" and asked:
            mappings = noted["extra_categorical_covs"]["state_registry"]["mappings"]
            out |= {f"{field}.{column}": _words(mappings[column]) for column in asked}
    return out


def _features(fields: Mapping[str, Any], noted: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    names = about["var_names"]
    out = {}
    for field, theirs in MATRICES.items():
        there = (noted.get(theirs) or {}).get("state_registry") or {}
        if field in fields and "column_names" in there:
            out[field] = tuple(_words(there["column_names"]))
    if "x" not in out or (not isinstance(names, dict) and about.get("n_regions") is None):
        out["x"] = tuple(_words(names))
    if about.get("n_regions") and "atac" not in out:  # genes and regions side by side
        n = about["n_genes"]
        out["x"], out["atac"] = tuple(_words(names)[:n]), tuple(_words(names)[n : n + about["n_regions"]])
    return {field: out[field] for field in fields if field in out}


def _words(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in np.asarray(values).tolist()]


# ------------------------------------------------------------------ ours -> theirs
def registry_of(model: Any, version: str, uuid: str) -> dict[str, Any]:
    """What scvi-tools would have noted of the model's data.

    Raises
    ------
    StorageError
        The data were set up with an argument that scvi-tools' model has no counterpart of.
    """
    name, setup, fields = type(model).__name__, model.setup, model.Cells.fields()
    without = COUNTERPARTS[name].without
    for argument in set(without) - {"labels_key"}:
        if setup.keys.get(argument) is not None:
            raise StorageError(
                f"The data were set up with {argument}={setup.keys[argument]!r}, which scvi-tools' {name} has no counterpart of.",
                "scvi-tools would take it for another model, so nothing was written. model.save() keeps it as it is.",
            )
    several = name == "MULTIVI" or MODALITIES in setup.keys
    arguments = {a: setup.keys.get(a) for f in fields.values() for a in f.arguments if a not in (*without, *UNREAD.get(name, ()))}
    if name == "SCANVI":
        arguments["unlabeled_category"] = unlabeled(setup)
    if several:
        renamed = {f.argument: f.mudata for f in fields.values() if f.mudata}
        parts = {f.argument: word for field, word in WORDS.items() if (f := fields.get(field)) is not None and field in setup.features}
        columns = {a: WORDS["x"] for a, key in arguments.items() if key is not None and a.endswith(("_key", "_keys"))}
        modalities = setup.keys.get(MODALITIES) or columns | parts
        arguments = {renamed.get(a, a): k for a, k in arguments.items() if not a.endswith("_uns_key")}
        if MODALITIES not in setup.keys and "protein_layer" in arguments:
            arguments["protein_layer"] = None
        arguments["modalities"] = {renamed.get(a, a): of for a, of in modalities.items()}
    return {
        "scvi_version": version,
        "model_name": name,
        "setup_args": arguments,
        "setup_method_name": "setup_mudata" if several else "setup_anndata",
        "field_registries": _field_registries(model, arguments),
        "_scvi_uuid": uuid,
    }


def unlabeled(setup: Setup) -> str:
    """The word for cells without a label; where none is set up (they had NaN) one that is no label."""
    word = setup.keys.get("unlabeled_category") or "unlabeled"
    while word in setup.categories["label"]:
        word += "_"
    return word


def _field_registries(model: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was noted of each field: where it is, what it holds, how much."""
    setup, fields = model.setup, model.Cells.fields()
    out: dict[str, Any] = {}
    without = COUNTERPARTS[type(model).__name__].without
    for field, declared in fields.items():
        key = None if declared.argument in without else setup.keys.get(declared.argument)
        if (declared.argument in without and field != "label") or (field == "panel" and key is None):
            continue
        if field in MATRICES and field in setup.features:
            names: Any = setup.features[field]
            names = list(names) if declared.kind == "matrix" else np.array(names, dtype=object)
            state: dict[str, Any] = {"n_obs": 0, "n_vars": len(names), "column_names": names}
            out[MATRICES[field]] = _noted(key, state, {f"n_{'vars' if field == 'x' else MATRICES[field]}": len(names)})
        elif declared.kind == "category" and field in FIELDS and field != "fine":
            given, theirs = isinstance(key, str), FIELDS[field]
            mapping = _as_in_data(model, str(key), setup.categories[field]) if given else np.array([0])
            state = {"categorical_mapping": mapping, "original_key": key if given else f"_scvi_{theirs}"}
            if declared.missing and field == "label":
                word = arguments.get("unlabeled_category")
                if word is not None:
                    state["unlabeled_category"] = word
                    state["categorical_mapping"] = np.array([*mapping, word], dtype=object)
            out[theirs] = _noted(f"_scvi_{theirs}", state, {f"n_{theirs}": len(state["categorical_mapping"])})
        elif declared.kind == "categories":
            columns = key or []
            mappings = {column: _as_in_data(model, column, setup.categories[f"{field}.{column}"]) for column in columns}
            state = {"mappings": mappings, "field_keys": columns, "n_cats_per_key": [len(m) for m in mappings.values()]} if columns else {}
            out["extra_categorical_covs"] = _noted(None, state, {"n_extra_categorical_covs": len(columns)})
        elif declared.kind == "numbers":
            state = {"columns": np.array(key, dtype=object)} if key else {}
            out["extra_continuous_covs"] = _noted(None, state, {"n_extra_continuous_covs": len(key or [])})
        elif declared.kind == "number":
            out["size_factor"] = _noted(key, {}, {})
    return out


def _noted(key: Any, state: dict[str, Any], n: dict[str, int]) -> dict[str, Any]:
    return {"data_registry": {"attr_key": key}, "state_registry": state, "summary_stats": n}


def _as_in_data(model: Any, column: str, categories: list[str]) -> np.ndarray:
    """Categories as the data have them (numbers as numbers), where the model holds its data."""
    values = {} if model.adata is None else {str(v): v for v in obs_of(model.adata, model.setup.keys)[column].dropna().unique()}
    return np.array([values.get(word, word) for word in categories], dtype=object)
