"""What each model answers, and of which objects: `python tests/python/capabilities.py` writes docs/capabilities.md, tests run its cells."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anndata import AnnData
from cases import CASES, Case, OfTwo
from mudata import MuData, set_options

from scelbo import Model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capabilities.md"
CONSTRUCTIVE = {"from_scvi_model", "from_rna_model", "prepare_query_anndata", "with_data", "require_reference", "sizes", "take"}
"""Public, and no questions."""
MAPPED = {"transfer_labels", "get_mapping_score"}
"""Asked of a model of a query."""
IN_R = {
    "annotate": "annotate_cells", "get_alphas_betas": "get_zero_inflation", "get_imputed_values": "impute",
}  # fmt: skip
"""R's word for a question, where it is another."""

ASKED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "differential_abundance": lambda model: {"sample_key": "donor"},
    "differential_expression": lambda model: {"groupby": "cell_type", "group1": "type0"},
    "differential_accessibility": lambda model: {"groupby": "cell_type", "group1": "type0"},
    "get_expression_for_ct": lambda model: {"label": model.cell_types[0]},
    "get_feature_correlation_matrix": lambda model: {"n_samples": 2},
    "get_scale_for_ct": lambda model: {"label" if type(model).__name__ == "DestVI" else "y": model.cell_types[0]},
    "get_marginal_ll": lambda model: {"n_mc_samples": 4},
    "posterior_predictive_check": lambda model: {"n_samples": 2},
}
"""Arguments that a question needs, or that keep it short."""


def models() -> list[Case]:
    """Each model's first case."""
    return list({case.model: case for case in reversed(CASES)}.values())[::-1]


def questions(model: type[Model]) -> list[str]:
    """What may be asked of a trained model."""
    own = (name for name in dir(model) if not name.startswith("_") and not hasattr(Model, name) and name not in CONSTRUCTIVE)
    return [name for name in own if inspect.isfunction(value := getattr(model, name)) or inspect.ismethod(value)]


def in_mudata(case: Case, adata: AnnData) -> MuData:
    """The case's cells, a modality for each kind of features."""
    adata = case.data(adata)
    genes = adata.var["feature_types"] == "Gene Expression" if "feature_types" in adata.var else adata.var_names == adata.var_names
    parts = {"rna": adata[:, genes].copy()} | ({"atac": adata[:, ~genes].copy()} if not genes.all() else {})
    key = case.keys.get("protein_expression_obsm_key")
    parts |= {"protein": AnnData(adata.obsm[key])} if key else {}
    with set_options(pull_on_update=False):
        mdata = MuData(parts)
    mdata.obs = adata.obs.copy()
    return mdata


def made(case: Case, data: AnnData | MuData) -> Model:
    """A model that was trained for a moment."""
    embedded = {"batch_representation": "embedding"} if hasattr(case.model, "get_batch_representation") else {}
    if isinstance(data, MuData):
        case.owner.setup_mudata(data, **{k: v for k, v in case.keys.items() if "protein" not in k})
        model = case.of(data, **case.small, **embedded)
    else:
        model = case.make(data, **embedded)
    model.train(max_epochs=1, seed=0, train_size=0.7)
    return model


def answered(case: Case, model: Model, question: str) -> Any:
    """What the model says."""
    ask = getattr(model, question)
    if question in ("load_query_data", *MAPPED):
        query = type(model).load_query_data(case.given(model.adata), model)
        if question == "load_query_data":
            return query
        query.train(max_epochs=1)
        return getattr(query, question)(model, *(["cell_type"] if question == "transfer_labels" else []))
    return ask(**ASKED.get(question, lambda model: {})(model))


def table() -> str:
    """The page."""
    lines = [
        "# What each model answers, and of which objects",
        "",
        "Written by `make capabilities` from the code. Both languages' tests run every cell, those of Seurat 5 in `make test-seurat5`.",
    ]
    for case in models():
        several = not isinstance(case, OfTwo)
        lines += [
            "",
            f"## {case.model.__name__}",
            "",
            "| Python | AnnData | MuData | R | Seurat 4 and 5 | SingleCellExperiment |",
            "|---" * 6 + "|",
        ]
        for question in questions(case.model):
            in_r = IN_R.get(question, question)
            marks = ["x", "x" if several else "", f"`{in_r}()`", "x", "x"]
            lines.append(f"| `{question}` | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(table())
