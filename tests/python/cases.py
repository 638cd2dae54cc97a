"""A row for each model (and each setting that takes another path): what the contract is checked on."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scelbo
from scelbo import (
    AUTOZI,
    GIMVI,
    MULTIVI,
    PEAKVI,
    SCANVI,
    SCVI,
    SOLO,
    TOTALVI,
    AmortizedLDA,
    CellAssign,
    CondSCVI,
    DestVI,
    LinearSCVI,
    RNAStereoscope,
    SpatialStereoscope,
)
from scelbo.data.simulate import cite
from scelbo.testing import DECODED, DIFFERENTIAL, Case, arrays, decoded, differential, per_cell

__all__ = ["CASES", "COVARIATES", "DECODED", "DIFFERENTIAL", "LABELS", "Case", "arrays", "decoded", "differential", "having", "per_cell"]


class OfTwo(Case):
    """A model of two data sets: those of the second batch come with the half of the genes that has more counts."""

    def given(self, adata):
        adata = adata.to_memory() if adata.isbacked else adata
        first, sums = (adata.obs["batch"] == "batch0").to_numpy(), np.asarray(adata.X.sum(0)).ravel()
        panel = sums >= np.median(sums)
        return [adata[first].copy(), adata[~first][:, panel].copy()]

    def of(self, adata, **sizes):
        return self.model(*self.given(adata), **{**sizes, **self.arguments})


class OfSCVI(Case):
    """A model that is made of a trained SCVI."""

    owner = scelbo.SCVI

    def of(self, adata, **sizes):
        scvi = scelbo.SCVI(adata, **sizes)
        scvi.train(max_epochs=2, seed=0)
        return self.model.from_scvi_model(scvi, **self.arguments)


class OfCells(Case):
    """A model of spots, made of a trained model of cells of known types."""

    def of(self, adata, **sizes):
        return self.model.from_rna_model(adata, trained_reference(self.model.Reference, **sizes), **self.arguments)


@cache
def trained_reference(reference, **sizes):
    """Of cells of known types, until these are told apart, so that shares have one answer."""
    cells = cite(150, 40, 5, seed=2)
    fine = {"fine_labels_key": "cell_type"} if "fine" in reference.Cells.fields() else {}
    reference.setup_anndata(cells, labels_key="cell_type", **fine)
    known = reference(cells, **sizes)
    known.train(max_epochs=40, seed=0)
    return known


@dataclass(frozen=True)
class OfSeveral(Case):
    """A model of several modalities, which some cells lack: the last features are regions, and there are proteins."""

    __str__ = Case.__str__

    def data(self, adata):
        n, genes = adata.n_obs, adata.n_vars * 5 // 8
        x, which = adata.X.toarray(), np.arange(n) % 5
        x[np.ix_(which == 0, np.arange(genes))] = 0
        x[np.ix_(which == 1, np.arange(genes, adata.n_vars))] = 0
        for step in range(5):  # none is empty, also without four features
            x[np.arange(n), np.where(which == 1, 0, genes) + (np.arange(n) + 3 * step) % (adata.n_vars - genes)] += 1
        out = AnnData(sparse.csr_matrix(x), obs=adata.obs, var=adata.var.copy())
        out.var["feature_types"] = ["Gene Expression"] * genes + ["Peaks"] * (adata.n_vars - genes)
        proteins = np.random.default_rng(0).poisson(3, (n, 4)).astype(np.float32) * (which != 2)[:, None]
        out.obsm["protein"] = pd.DataFrame(proteins, adata.obs_names, list("pqrs"))
        return out

    def make(self, adata, **more):
        return super().make(adata if "feature_types" in adata.var else self.data(adata), **more)


def having(*questions):
    """The cases of models that answer one of these questions."""
    return pytest.mark.parametrize("case", [c for c in CASES if any(hasattr(c.model, q) for q in questions)], ids=str)


COVARIATES = {
    "batch_key": "batch",
    "labels_key": "cell_type",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["percent_mito"],
}
LABELLED = {"batch_key": "batch", "labels_key": "cell_type"}
PAIRED = {"adversarial_mixing": False}
LABELS = {"labels_key": "cell_type", "unlabeled_category": "type3"}
TOPICS: dict[str, Any] = {"keys": {}, "small": {"n_hidden": 16, "n_topics": 4}}
PROTEINS = {"protein_expression_obsm_key": "protein_expression"}
MARKERS = {"A": ["gene0", "gene3", "gene9"], "B": ["gene9", "gene12"], "C": ["gene5", "gene30"], "other": []}

CASES = [
    Case(SCVI),
    Case(SCVI, keys={}),
    Case(SCVI, {"gene_likelihood": "nb", "n_layers": 2, "encode_covariates": True}, COVARIATES),
    Case(SCVI, {"dispersion": "gene-batch", "use_observed_lib_size": False}),
    Case(SCVI, {"dispersion": "gene-label", "gene_likelihood": "nb"}, COVARIATES),
    Case(SCVI, {"dispersion": "gene-cell", "batch_representation": "embedding", "encode_covariates": True}, COVARIATES),
    Case(SCVI, {"gene_likelihood": "poisson", "latent_distribution": "ln", "deeply_inject_covariates": False, "n_layers": 2}, COVARIATES),
    Case(SCVI, {"gene_likelihood": "normal", "use_batch_norm": "none", "use_layer_norm": "both", "var_activation": "softplus"}),
    Case(
        SCVI,
        {"gene_likelihood": "nb", "log_variational": False, "activation": "gelu"},
        {"batch_key": "batch", "size_factor_key": "percent_mito"},
    ),
    Case(SCANVI, keys={"batch_key": "batch", **LABELS}),
    Case(SCANVI, {"linear_classifier": True, "labels_in_elbo": False, "dispersion": "gene-label", "n_layers": 2}, {**COVARIATES, **LABELS}),
    Case(LinearSCVI),
    Case(LinearSCVI, {"gene_likelihood": "zinb", "bias": True, "dispersion": "gene-cell", "use_observed_lib_size": True}, COVARIATES),
    Case(LinearSCVI, {"use_batch_norm": "encoder", "bias": True, "latent_distribution": "ln", "batch_representation": "embedding"}),
    Case(AUTOZI),
    Case(AUTOZI, {"zero_inflation": "gene-batch", "alpha_prior": None, "beta_prior": None, "use_observed_lib_size": False}, COVARIATES),
    Case(AUTOZI, {"zero_inflation": "gene-label", "minimal_dropout": 0.0, "dispersion": "gene-batch"}, COVARIATES),
    Case(PEAKVI),
    Case(PEAKVI, {"encode_covariates": True, "deeply_inject_covariates": True}, COVARIATES),
    Case(PEAKVI, {"model_depth": False, "region_factors": False, "latent_distribution": "ln", "use_batch_norm": "both"}, {}),
    OfTwo(GIMVI),
    OfTwo(GIMVI, {"model_library_size": [True, True], "generative_distributions": ["nb", "zinb"], "dispersion": "gene-label"}, LABELLED),
    OfTwo(GIMVI, {"model_library_size": [False, False], "generative_distributions": ["zinb", "poisson"], "n_layers_decoder": 1}),
    OfSeveral(
        MULTIVI,
        {"modality_weights": "cell", "dispersion": "gene-batch", "encode_covariates": True} | PAIRED,
        {**COVARIATES, "protein_expression_obsm_key": "protein"},
    ),
    OfSeveral(MULTIVI, {"adversarial_mixing": False}),
    OfSeveral(
        MULTIVI, {"modality_weights": "universal", "modality_penalty": "MMD", "latent_distribution": "ln", "mixing": "scvi-tools"} | PAIRED
    ),
    OfSCVI(SOLO),
    OfSCVI(SOLO, {"classifier_reads": "latent"}),
    OfSCVI(SOLO, {"doublet_ratio": 1, "expected_doublet_rate": 0.1}, COVARIATES, {"n_hidden": 16, "encode_covariates": True}),
    Case(TOTALVI, keys={"batch_key": "batch", **PROTEINS}),
    Case(
        TOTALVI,
        {"gene_likelihood": "zinb", "gene_dispersion": "gene-label", "protein_dispersion": "protein-batch", "protein_efficiency": True},
        {**COVARIATES, **PROTEINS, "panel_key": "donor"},
    ),
    Case(
        TOTALVI,
        {"gene_likelihood": "poisson", "latent_distribution": "ln", "use_observed_lib_size": False, "adversarial_classifier": True},
        {"batch_key": "batch", **PROTEINS},
    ),
    Case(AmortizedLDA, **TOPICS),
    Case(
        AmortizedLDA, {"n_topics": 3, "cell_topic_prior": [0.1, 0.2, 0.3], "topic_feature_prior": 0.5, "encoder_reads": "counts"}, **TOPICS
    ),
    Case(RNAStereoscope, keys={"labels_key": "cell_type"}, small={}),
    Case(RNAStereoscope, {"start": "random"}, {"labels_key": "cell_type", "batch_key": "batch"}, {}),
    Case(CondSCVI, {"prior": "mog", "num_classes_mog": 3}, {**LABELLED, "fine_labels_key": "cell_type", "unlabeled_category": "type3"}),
    Case(CondSCVI, keys=LABELLED),
    Case(CondSCVI, {"weight_obs": True, "encode_covariates": True, "n_layers": 1}, {**LABELLED, "size_factor_key": "percent_mito"}),
    OfCells(DestVI, {"augmentation": False}),
    OfCells(DestVI, {"amortization": "both", "l1_penalty": 1.0, "n_states_per_label": 2}, {}),
    OfCells(SpatialStereoscope, {"augmentation": False}, {}, {}),
    OfCells(SpatialStereoscope, {"start": "random", "prior_weight": "minibatch", "augmentation": False}, {}, {}),
    Case(CellAssign, {"cell_type_markers": MARKERS}, small={}),
    Case(CellAssign, {"cell_type_markers": MARKERS, "n_basis": 4}, {}, {}),
    Case(
        CellAssign,
        {"cell_type_markers": MARKERS},
        {
            "size_factor_key": "percent_mito",
            "categorical_covariate_keys": ["donor", "cell_type"],
            "continuous_covariate_keys": ["percent_mito"],
        },
        {},
    ),
]
