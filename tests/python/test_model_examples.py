"""The models in examples/models keep the contract with no change in the core, are short, and find what is in the cells."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from model_examples import FOLDER, example
from sklearn.metrics import homogeneity_score, roc_auc_score

from scelbo.data.simulate import cite, counts
from scelbo.testing import check_model

SHORT = ["poisson_factors", "contrastive", "protein_factors", "pyro_mixture"]
PROTEINS = {"batch_key": "batch", "protein_expression_obsm_key": "protein_expression"}


def treated(adata):
    """The cells of two donors are treated."""
    adata.obs["treatment"] = pd.Categorical(np.where(adata.obs["donor"] == "donor0", "control", "drug"))
    return adata


@pytest.mark.parametrize(
    ("name", "model", "arguments", "how"),
    [
        ("poisson_factors", "PoissonFactors", {"n_factors": 4, "n_hidden": 16}, {}),
        ("contrastive", "Contrastive", {"n_latent": 3, "n_salient": 2, "n_hidden": 16}, {"cells": treated, "labels_key": "treatment"}),
        ("protein_factors", "ProteinFactors", {"n_latent": 3, "n_hidden": 16}, PROTEINS),
        ("pyro_mixture", "PyroMixture", {"n_clusters": 3}, {}),
    ],
)
def test_it_keeps_the_contract(name, model, arguments, how):
    cells = how.pop("cells", None)
    checked = check_model(getattr(example(name), model), arguments, keys={"batch_key": "batch", **how}, cells=cells)
    assert len(checked.passed) >= 19


@pytest.mark.parametrize("name", SHORT)
def test_it_is_short(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 60


def made(name, model, adata, keys, epochs, **arguments):
    kind = getattr(example(name), model)
    kind.setup_anndata(adata, **keys)
    trained = kind(adata, **arguments)
    trained.train(max_epochs=epochs, seed=0, batch_size=64)
    return trained


@pytest.fixture(scope="module")
def cells():
    return counts(300, 60, stored=0.5, seed=3)


def of_programmes(theta, genes=30):
    """Cells whose counts are Poisson, of programmes in these shares."""
    rng = np.random.default_rng(0)
    return AnnData(rng.poisson(200 * theta @ rng.dirichlet(np.full(genes, 0.5), theta.shape[1])).astype("float32"))


def test_poisson_factors_find_the_programmes():
    theta = np.random.default_rng(1).dirichlet(np.full(3, 0.4), 200)
    model = made("poisson_factors", "PoissonFactors", of_programmes(theta), {}, 60, n_factors=3, n_hidden=32)
    found = model.get_latent_representation()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-4)
    assert np.corrcoef(theta.T, found.T)[:3, 3:].max(1).min() > 0.85
    np.testing.assert_allclose(model.get_programmes().sum(), 1, rtol=1e-4)


def test_salient_latents_show_who_responded(cells):
    adata, rng = treated(cells.copy()), np.random.default_rng(0)
    drug = (adata.obs["treatment"] == "drug").to_numpy()
    responds = drug & (rng.random(300) < 0.5)
    x = adata.X.toarray()
    x[np.ix_(responds, np.arange(10))] += rng.poisson(4, (responds.sum(), 10))
    adata.X = x
    model = made("contrastive", "Contrastive", adata, {"labels_key": "treatment"}, 50, n_latent=4, n_salient=2, n_hidden=32)

    def told(z):
        return max(max(auc, 1 - auc) for auc in (roc_auc_score(responds[drug], z[drug, d]) for d in range(z.shape[1])))

    assert told(model.get_salient_representation()) > 0.85
    with_label, without = (model.get_normalized_expression(transform={"treatment": t}, gene_list=["gene3"]) for t in ("drug", "control"))
    assert with_label[responds].mean().item() > 1.1 * without[responds].mean().item()


def test_protein_factors_keep_what_proteins_say():
    adata = cite(300, 20, 8, seed=3)
    model = made("protein_factors", "ProteinFactors", adata, PROTEINS, 60, n_hidden=32)
    told, seen = model.get_normalized_expression(), np.log1p(adata.obsm["protein_expression"])
    assert list(told.columns) == list(seen.columns)
    assert min(np.corrcoef(told[p], seen[p])[0, 1] for p in seen) > 0.7


def test_a_pyro_mixture_finds_the_types():
    kind = np.random.default_rng(1).integers(3, size=200)
    model = made("pyro_mixture", "PyroMixture", of_programmes(np.eye(3)[kind]), {}, 30, n_clusters=8)
    assert homogeneity_score(kind, model.predict()) > 0.9
    told = model.sample_posterior(sites=["pi", "cluster"], n_samples=50)
    np.testing.assert_allclose(told["pi"]["mean"].sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(told["cluster"]["mean"].sum(axis=1), 1, rtol=1e-4)
