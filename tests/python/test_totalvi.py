"""RNA and proteins: what was not measured is left out and imputed, questions about both, the forms that data come in."""

import functools

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import roc_auc_score

from scelbo import TOTALVI, errors
from scelbo.data.background import background_prior
from scelbo.data.simulate import cite
from scelbo.module import draw

KEYS = {"protein_expression_obsm_key": "protein_expression", "batch_key": "batch"}


def _model(adata, **arguments):
    TOTALVI.setup_anndata(adata, **KEYS)
    return TOTALVI(adata, **{"n_hidden": 32, "n_latent": 5, **arguments})


@pytest.fixture(scope="module")
def trained():
    model = _model(cite(600, 60, 12, missing="batch1", n_types=3, stored=0.4))
    model.train(max_epochs=80, plan_kwargs={"lr": 0.01}, early_stopping=False, seed=0, progress=False)
    return model


def test_a_protein_that_was_not_measured_is_left_out(trained):
    module, other = trained.module, trained.adata.copy()
    assert module.proteins.some_missing
    np.testing.assert_array_equal(module.proteins.measured.rows()[:, 0], [1, 0])
    there = (other.obs["batch"] == "batch0").to_numpy()
    other.obsm["protein_expression"] = other.obsm["protein_expression"] * 3  # zeros stay zeros
    cells, tripled = (next(trained.batches(data)) for data in (trained.adata, other))
    q = module.inference(cells)
    z = draw(q, mean=True)
    one, two = (module.loss(c, q, z, module.generative(z, c)).nll["protein"] for c in (cells, tripled))
    assert (one != two).numpy()[there[: len(one)]].all()
    assert (one == 0).numpy()[~there[: len(one)]].all()


def test_genes_and_proteins_are_decoded_of_one_encoding(trained, monkeypatch):
    asked, inference, n = [], trained.module.inference, trained.adata.n_obs
    monkeypatch.setattr(trained.module, "inference", functools.wraps(inference)(lambda cells: asked.append(len(cells)) or inference(cells)))
    both = trained.get_normalized_expression(seed=1, n_samples=2)
    assert sum(asked) == n
    apart = trained.get_normalized_expression(indices=np.arange(n), seed=1, n_samples=2)
    assert sum(asked) == 3 * n
    for one, other in zip(both, apart, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_missing_proteins_are_imputed(trained):
    """Where they were not measured, cells of the type that has a protein are told from the others."""
    adata, (_, protein) = trained.adata, trained.get_normalized_expression()
    missing = (adata.obs["batch"] == "batch1").to_numpy()
    probability = trained.get_protein_foreground_probability()
    for rows in (missing, ~missing):
        truth = adata.obsm["foreground"][rows]
        assert np.median([roc_auc_score(truth[:, p], protein.to_numpy()[rows, p]) for p in range(12)]) > 0.9
        assert np.median([roc_auc_score(truth[:, p], probability.to_numpy()[rows, p]) for p in range(12)]) > 0.9
    asked = trained.get_normalized_expression(transform_batch="batch0")[1]
    np.testing.assert_allclose(protein[missing], asked[missing], rtol=1e-4)  # as in the one batch where they were


def test_an_adversary_plays_only_where_something_is_missing():
    assert "fooling_train" in _trained_once(cite(150, 30, missing="batch1")).history
    assert "fooling_train" not in _trained_once(cite(150, 30)).history
    assert "fooling_train" in _trained_once(cite(150, 30), adversarial_classifier=True).history
    assert "fooling_train" not in _trained_once(cite(150, 30, missing="batch1"), adversarial_classifier=False).history


def _trained_once(adata, **arguments):
    model = _model(adata, **arguments)
    model.train(max_epochs=1)
    return model


def test_what_is_read_of_proteins(trained):
    few = {"indices": np.arange(8), "protein_list": ["protein3", "protein0"]}
    own = trained.get_normalized_expression(**few)[1]
    assert list(own.columns) == few["protein_list"]
    back, p = trained.get_protein_background_mean(**few), trained.get_protein_foreground_probability(**few)
    whole = trained.get_normalized_expression(**few, include_protein_background=True)[1]
    np.testing.assert_allclose(whole, own + (1 - p) * back, rtol=1e-4)
    shares = trained.get_normalized_expression(scale_protein=True)[1]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-4)
    drawn = trained.get_normalized_expression(**few, sample_protein_mixing=True, seed=1)[1]
    assert ((drawn == 0) | np.isclose(drawn, own / p, rtol=1e-3)).to_numpy().all()
    assert trained.get_normalized_expression(**few, n_samples=3, return_mean=False)[1].shape == (3, 8, 2)
    with pytest.raises(errors.ArgumentError, match="protein3"):
        trained.get_protein_foreground_probability(protein_list=["protien3"])


def test_genes_and_proteins_that_differ(trained):
    table = trained.differential_expression(groupby="cell_type", group1="type0", group2="type1", n_samples_overall=500, seed=0)
    proteins = table[table["modality"] == "protein"]
    assert set(table["modality"]) == {"rna", "protein"} and len(table) == 72
    marks = [f"protein{p}" for p in range(12) if p % 3 in (0, 1)]
    assert set(proteins.index[:4]) <= set(marks)
    up = proteins.loc[[f"protein{p}" for p in range(0, 12, 3)], "lfc_mean"]
    assert (up > 1).all()
    one = trained.differential_expression(
        groupby="cell_type", group1="type0", group2="type1", use_field="protein", n_samples_overall=500, seed=0
    )
    pd.testing.assert_frame_equal(one, proteins)
    measured = (trained.adata.obs["batch"] == "batch0").to_numpy() & (trained.adata.obs["cell_type"] == "type0").to_numpy()
    seen = trained.adata.obsm["protein_expression"][measured].mean()
    np.testing.assert_allclose(proteins["raw_mean1"], seen[proteins.index], rtol=1e-5)  # of the cells that it was measured in


def test_what_counts_cannot_tell_is_background():
    r"""Where foreground is what background is (:math:`\alpha = 1`) the likelihood says nothing of which it was."""
    model = _model(cite(300, 40, 12, n_types=3, stored=0.4))
    fore = model.module.proteins.decoder.fore.requires_grad_(False)
    with torch.no_grad():
        fore.weight.zero_()
        fore.bias.fill_(-1)
    model.train(max_epochs=60, plan_kwargs={"lr": 0.05, "eps": 1e-8}, early_stopping=False, seed=0, progress=False)
    said = model.get_likelihood_parameters()
    np.testing.assert_array_equal(said["protein_foreground"], said["protein_background"])
    assert model.get_protein_foreground_probability().to_numpy().max() < 0.3


def test_a_mudata_gives_the_same(tmp_path):
    adata = cite(150, 30, missing="batch1")
    model = _trained_once(adata, n_latent=4)
    proteins = AnnData(
        sparse.csr_matrix(adata.obsm["protein_expression"].to_numpy()),
        obs=adata.obs[[]],
        var=pd.DataFrame(index=adata.obsm["protein_expression"].columns),
    )
    rna = AnnData(adata.X, obs=adata.obs, var=adata.var)
    shuffled = np.random.default_rng(0).permutation(150)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": rna, "adt": proteins[shuffled].copy()})
    TOTALVI.setup_mudata(mdata, batch_key="batch", modalities={"rna_layer": "rna", "protein_layer": "adt", "batch_key": "rna"})
    assert set(mdata.uns) == {"scelbo"}
    again = TOTALVI(mdata, n_hidden=32, n_latent=4)
    again.module.load_state_dict(model.module.state_dict())
    again.is_trained = True
    np.testing.assert_allclose(again.get_latent_representation(), model.get_latent_representation(), rtol=1e-5, atol=1e-6)
    again.save(tmp_path / "m", save_anndata=True)
    loaded = TOTALVI.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.get_latent_representation(), again.get_latent_representation())
    with pytest.raises(errors.ArgumentError, match="Did you mean 'adt'"):
        TOTALVI.setup_mudata(mdata, modalities={"rna_layer": "rna", "protein_layer": "atd"})
    with pytest.raises(errors.SetupError, match="MuData"):
        TOTALVI.setup_mudata(adata)


def test_a_query_of_rna_alone(trained):
    query = cite(200, 60, 12, missing="batch1", n_types=3, stored=0.4, seed=0)
    truth = query.obsm["foreground"]
    query.obs["batch"] = "new"
    query.obsm.clear()
    model = TOTALVI.load_query_data(query, trained)
    before = trained.get_latent_representation()
    model.train(max_epochs=5, seed=0)
    np.testing.assert_array_equal(trained.get_latent_representation(), before)
    protein = model.get_normalized_expression()[1].to_numpy()
    assert np.median([roc_auc_score(truth[:, p], protein[:, p]) for p in range(12)]) > 0.85


def test_bad_input_is_said_before_training():
    adata = cite(100, 30)
    with pytest.raises(errors.ArgumentError, match="protein_expression_obsm_key is needed"):
        TOTALVI.setup_anndata(adata, batch_key="batch")
    with pytest.raises(errors.DataError, match="protein_expression"):
        TOTALVI.setup_anndata(adata, protein_expression_obsm_key="proteins")
    for value, said in ((-1.0, "negative"), (0.5, "not a whole number"), (np.nan, "NaN")):
        bad = adata.copy()
        bad.obsm["protein_expression"].iloc[3, 2] = value
        with pytest.raises(errors.DataError, match=said):
            TOTALVI.setup_anndata(bad, **KEYS)
    twice = adata.copy()
    twice.obsm["protein_expression"].columns = ["CD3", "CD3", "CD4", "CD8", "CD14", "CD19"]
    with pytest.raises(errors.DataError, match="CD3"):
        TOTALVI.setup_anndata(twice, **KEYS)
    plain = adata.copy()
    plain.obsm["protein_expression"] = plain.obsm["protein_expression"].to_numpy()
    plain.uns["names"] = ["CD3", "CD4"]
    with pytest.raises(errors.DataError, match="2 names"):
        TOTALVI.setup_anndata(plain, **KEYS, protein_names_uns_key="names")
    TOTALVI.setup_anndata(adata, **KEYS)
    with pytest.raises(errors.ArgumentError, match="needs labels"):
        TOTALVI(adata, protein_dispersion="protein-label")


def test_the_background_starts_from_the_data():
    rng = np.random.default_rng(0)
    low = rng.poisson(6, (200, 8))
    y = torch.tensor(np.concatenate([low, rng.poisson(400, (200, 4))], 1), dtype=torch.float32)
    mean, log_sd = background_prior(y)
    assert abs(mean - np.log1p(6)) < 0.15 and np.exp(log_sd) < 0.6
    assert background_prior(torch.zeros(10, 12)) is None
    adata = cite(200, 30, 12, missing="batch1")
    rows = _model(adata).module.proteins.back_mean.rows()
    assert (rows[1] == 3).all() and not (rows[0] == 3).any()
    assert (_model(adata, empirical_protein_background_prior=False).module.proteins.back_mean.rows() == 3).all()
