"""MultiVI: paired, unpaired and mixed cells, what is imputed, and what of the models' contract is its own."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from mudata import MuData, set_options
from scipy import sparse
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from scelbo import MULTIVI, errors, settings
from scelbo.data.simulate import multiome
from scelbo.module import draw

PROTEIN = {"protein_expression_obsm_key": "protein_expression"}


def agree(z, labels):
    """Share of cells that their neighbours' labels get right."""
    at = KNeighborsClassifier(11).fit(z, labels).kneighbors(z, return_distance=False)[:, 1:]
    codes = pd.Categorical(labels).codes
    return (np.array([np.bincount(row).argmax() for row in codes[at]]) == codes).mean()


@pytest.fixture(scope="module")
def model():
    adata = multiome(600, 80, 160, 4, n_types=3, stored=0.4, lacking=0.3, seed=2)
    adata.obsm["protein_expression"].iloc[::3] = 0
    MULTIVI.setup_anndata(adata, batch_key="batch", **PROTEIN)
    model = MULTIVI(adata, n_hidden=32, n_latent=5)
    model.train(max_epochs=60, seed=0, early_stopping=False, progress=False)
    return model


def test_mixed_cells_share_a_space_and_what_they_lack_is_imputed(model):
    adata = model.adata
    z, types = model.get_latent_representation(), adata.obs["cell_type"]
    assert agree(z, types) > 0.9
    for modality, field in (("expression", "Gene Expression"), ("accessibility", "Peaks")):
        own = model.get_latent_representation(modality=modality)
        has = np.asarray(adata.X[:, (adata.var["feature_types"] == field).to_numpy()].sum(1)).ravel() > 0
        np.testing.assert_array_equal(np.isfinite(own).all(1), has)
    truth = multiome(600, 80, 160, 4, n_types=3, stored=0.4, seed=2)
    lacks = (adata.obs["measured"] == "accessibility").to_numpy()
    np.testing.assert_array_equal(adata.X[~lacks][:, :80].toarray(), truth.X[~lacks][:, :80].toarray())  # the same cells
    mean = lambda values: pd.DataFrame(values[lacks]).groupby(types[lacks].to_numpy()).mean().to_numpy()  # noqa: E731
    x = truth.X[:, :80].toarray()
    imputed, seen = mean(model.get_normalized_expression(return_numpy=True)), mean(x / x.sum(1, keepdims=True))
    assert np.corrcoef((imputed - imputed.mean(0)).ravel(), (seen - seen.mean(0)).ravel())[0, 1] > 0.8
    rho = model.get_normalized_protein()
    y = truth.obsm["protein_expression"]
    for marker in range(3):
        hidden = np.arange(600) % 3 == 0
        own = types.cat.codes.to_numpy() == marker
        assert rho.iloc[hidden & own, marker].mean() > 1.5 * rho.iloc[hidden & ~own, marker].mean()
        assert y.iloc[own, marker].mean() > y.iloc[~own, marker].mean()
    p = model.get_protein_foreground_probability()
    assert ((p >= 0) & (p <= 1)).all(axis=None)


def test_each_modality_costs_what_is_measured_in_a_cell(model):
    cells = next(model.batches(indices=np.arange(60)))
    with settings.private_seed(0):
        loss, has = model.module(cells), model.module.measured(cells)
    for i, field in enumerate(("x", "atac", "protein")):
        np.testing.assert_array_equal(loss.nll[field].detach() != 0, has[:, i])
    assert has.all(1).any() and not has.all(1).all()


@pytest.mark.parametrize("related", [True, False])
def test_what_is_imputed_is_held_back_as_far_as_held_out_cells_ask(related):
    adata = multiome(900, 60, 150, n_types=3, stored=0.4, lacking=0.25, seed=6)
    x, order = adata.X.toarray(), np.arange(900)
    if not related:  # one modality says nothing of the other
        for rows in adata.obs.groupby("measured", observed=True).indices.values():
            order[rows] = np.random.default_rng(0).permutation(rows)
    adata.X = sparse.csr_matrix(np.hstack([x[:, :60], x[order, 60:]]))
    MULTIVI.setup_anndata(adata, batch_key="batch")
    model = MULTIVI(adata, n_hidden=32, n_latent=5)
    model.train(max_epochs=60, seed=0, train_size=0.7, early_stopping=False, progress=False)
    parts = [model.module.borrowed_of(of) for of in ("x", "atac")]
    trust = [float(part.trust) for part in parts]
    assert min(trust) > 0.4 if related else max(trust) < 0.2, trust
    asked = {"get_normalized_expression": "accessibility", "get_normalized_accessibility": "expression"}
    held_back = {name: getattr(model, name)() for name in asked}
    for name, values in held_back.items():
        np.testing.assert_allclose(getattr(model.minify(), name)(), values, rtol=1e-5)
    for part in parts:
        part.trust.fill_(1)
    for (name, lacks), part, kept in zip(asked.items(), parts, trust, strict=True):
        there = (adata.obs["measured"] == lacks).to_numpy()
        plain = getattr(model, name)()
        np.testing.assert_array_equal(held_back[name][~there], plain[~there])
        mean = part.mean.rows().numpy()[adata.obs["batch"].cat.codes.to_numpy()]
        np.testing.assert_allclose(held_back[name][there], (kept * plain + (1 - kept) * mean)[there], rtol=1e-3, atol=1e-6)


def test_factors_are_of_what_was_measured(model):
    factors = model.get_library_size_factors()
    x = model.adata.X[:, :80].sum(1).A1 if hasattr(model.adata.X.sum(1), "A1") else np.asarray(model.adata.X[:, :80].sum(1)).ravel()
    np.testing.assert_allclose(factors["expression"].dropna(), x[x > 0], rtol=1e-5)
    assert factors["accessibility"].notna().sum() == (model.adata.obs["measured"] != "expression").sum()
    assert ((model.get_region_factors() > 0) & (model.get_region_factors() < 1)).all()


def test_all_groups_are_compared_in_one_call(model):
    regions = model.differential_accessibility(groupby="cell_type", n_samples_overall=500, seed=0)
    assert regions.groupby("group1").size().tolist() == [160] * 3
    assert set(regions.index) == {f"region{r}" for r in range(160)}
    one = regions[regions["group1"] == "type0"]
    assert np.corrcoef(one["effect_size"], one["emp_effect"])[0, 1] > 0.8
    genes = model.differential_expression(groupby="cell_type", mode="change", n_samples_overall=500, seed=0)
    assert genes.groupby("group1").size().tolist() == [80] * 3
    has = (model.adata.obs["measured"] != "accessibility").to_numpy() & (model.adata.obs["cell_type"] == "type0").to_numpy()
    raw = pd.Series(np.asarray(model.adata.X[has][:, :80].mean(0)).ravel(), model.adata.var_names[:80])  # of cells that have RNA
    first = genes[genes["group1"] == "type0"]
    np.testing.assert_allclose(first["raw_mean1"], raw[first.index], rtol=1e-5)


def test_draws_and_elbo(model):
    drawn = model.posterior_predictive_sample(seed=0)
    assert {name: x.shape for name, x in drawn.items()} == {"rna": (600, 80), "atac": (600, 160), "protein": (600, 4)}
    assert set(np.unique(drawn["atac"].toarray())) == {0, 1}
    assert model.get_marginal_ll(n_mc_samples=100, seed=0) > model.get_elbo(seed=0)
    assert model.get_latent_kl().shape == (5,)


def test_the_error_of_each_modality_is_over_the_cells_that_have_it(model):
    whole = model.get_reconstruction_error(return_mean=False, seed=1)
    has = {"rna": model.adata.obs["measured"] != "accessibility", "atac": model.adata.obs["measured"] != "expression"}
    for name, there in has.items():
        np.testing.assert_array_equal(np.isfinite(whole[name]), there)
    parts = [np.nan_to_num(whole[name]) for name in ("rna", "atac", "protein")]
    np.testing.assert_allclose(sum(parts), whole["reconstruction_loss"], rtol=1e-4)
    mean = model.get_reconstruction_error(seed=1)
    assert mean["rna"] == pytest.approx(whole["rna"][has["rna"]].mean(), rel=1e-5)
    assert mean["reconstruction_loss"] == pytest.approx(whole["reconstruction_loss"].mean(), rel=1e-5)


def test_a_check_looks_at_each_modality_where_it_was_measured(model):
    check = model.posterior_predictive_check(indices=np.arange(200), seed=0)
    table = dict(iter(check.genes.groupby("modality")))
    assert {name: len(part) for name, part in table.items()} == {"rna": 80, "atac": 160, "protein": 4}
    x, measured = model.adata.X[:200].toarray(), model.adata.obs["measured"].to_numpy()[:200]
    np.testing.assert_allclose(table["rna"]["mean_observed"], x[measured != "accessibility", :80].mean(0), rtol=1e-5)
    np.testing.assert_allclose(table["atac"]["zeros_observed"], (x[measured != "expression", 80:] == 0).mean(0), rtol=1e-5)
    y = model.adata.obsm["protein_expression"].iloc[:200]
    np.testing.assert_allclose(table["protein"]["mean_observed"], y[y.sum(axis=1) > 0].mean(), rtol=1e-5)
    assert check.coverage[0.9] == pytest.approx(0.9, abs=0.08)
    report = model.report(n_samples=5, seed=0)
    assert list(report.fit.index) == ["training", "held out"] and np.isfinite(list(report.numbers.values())).all()


def test_the_unknown_kind_scores_low_whatever_was_measured():
    adata = multiome(1500, 120, 300, n_types=4, stored=0.5, lacking=0.35, seed=5)
    new, query = (adata.obs["cell_type"] == "type0").to_numpy(), np.arange(1500) % 3 == 0
    reference = adata[~query & ~new].copy()
    MULTIVI.setup_anndata(reference)
    model = MULTIVI(reference, n_hidden=64, n_latent=10)
    model.train(max_epochs=60, seed=0, train_size=0.7, early_stopping=False, progress=False)
    asked = adata[query].copy()
    table = model.get_mapping_score(model, asked)
    assert table.gt(0).all(axis=None) and table.le(1).all(axis=None)
    for measured, own in table["mapping_score"].groupby(asked.obs["measured"].to_numpy()):
        unknown = new[query][asked.obs["measured"] == measured]
        assert roc_auc_score(unknown, -own) > {"accessibility": 0.6, "expression": 0.75, "both": 0.85}[measured]
        assert 0.35 < own[~unknown].mean() < 0.65, measured  # even between 0 and 1
    some = model.get_mapping_score(model, asked, indices=[7, 3])
    pd.testing.assert_frame_equal(some, table.iloc[[7, 3]])
    only = asked[asked.obs["measured"] == "accessibility"].copy()
    genes = reference[reference.obs["measured"] == "expression"].copy()
    assert model.get_mapping_score(genes, only).isna().all(axis=None)  # nothing in common


def as_mudata(adata):
    """The same cells, each only in the modalities that it has."""
    genes = (adata.var["feature_types"] == "Gene Expression").to_numpy()
    parts = {"rna": adata[:, genes].copy(), "atac": adata[:, ~genes].copy()}
    parts["protein"] = AnnData(sparse.csr_matrix(adata.obsm["protein_expression"].to_numpy()), obs=adata.obs[[]])
    parts["protein"].var_names = adata.obsm["protein_expression"].columns
    parts = {name: part[np.asarray(part.X.sum(1)).ravel() > 0].copy() for name, part in parts.items()}
    with set_options(pull_on_update=False):
        return MuData(parts)


def test_a_mudata_says_what_an_anndata_says(tmp_path):
    adata = multiome(150, 30, 60, 3, lacking=0.3, seed=1)
    adata.obsm["protein_expression"].iloc[::4] = 0
    mdata = as_mudata(adata)
    assert {name: part.n_obs for name, part in mdata.mod.items()} != dict.fromkeys(mdata.mod, 150)
    adata = adata[mdata.obs_names].copy()
    MULTIVI.setup_anndata(adata, batch_key="batch", **PROTEIN)
    MULTIVI.setup_mudata(mdata, batch_key="batch")
    models = [MULTIVI(data, n_hidden=16, n_latent=3) for data in (adata, mdata)]
    for model in models:
        model.train(max_epochs=2, seed=0, progress=False)
    one, other = models
    for question in ("get_latent_representation", "get_normalized_expression", "get_normalized_accessibility", "get_normalized_protein"):
        np.testing.assert_array_equal(np.asarray(getattr(one, question)()), np.asarray(getattr(other, question)()))
    other.save(tmp_path / "m", save_anndata=True)
    again = MULTIVI.load(tmp_path / "m")
    np.testing.assert_array_equal(again.get_latent_representation(), other.get_latent_representation())
    small = other.minify()
    np.testing.assert_array_equal(small.get_normalized_expression(), other.get_normalized_expression())
    np.testing.assert_array_equal(small.get_latent_representation(modality="protein"), other.get_latent_representation(modality="protein"))


@pytest.mark.parametrize("lacking", [0.0, 0.5])
def test_paired_and_unpaired_cells_learn(lacking):
    adata = multiome(200, 40, 80, lacking=lacking, seed=3)
    MULTIVI.setup_anndata(adata, batch_key="batch")
    model = MULTIVI(adata, n_hidden=16, n_latent=4)
    model.train(max_epochs=15, seed=0, progress=False)
    loss = model.history["elbo_train"]["elbo_train"]
    assert loss.iloc[-3:].mean() < loss.iloc[:3].mean()
    assert ("adversary_train" in model.history) == (lacking > 0)  # nothing to tell where all cells have both


def test_dispersion_may_differ_by_batch():
    adata = multiome(150, 30, 60, seed=1)
    MULTIVI.setup_anndata(adata, batch_key="batch")
    model = MULTIVI(adata, dispersion="gene-batch", n_hidden=16, n_latent=3)
    model.train(max_epochs=2, seed=0, progress=False)
    cells = next(model.batches())
    theta = model.module.likelihood_of("x", draw(model.module.inference(cells), mean=True), cells).log_theta
    same = cells.batch == cells.batch[0]
    assert torch.equal(theta[same][0], theta[same][-1]) and not torch.allclose(theta[same][0], theta[~same][0])


def test_a_batch_without_a_modality_is_decoded_as_one_that_has_it():
    adata = multiome(200, 40, 80, seed=3)
    x = adata.X.toarray()
    x[np.ix_((adata.obs["batch"] == "batch1").to_numpy(), np.arange(40))] = 0
    adata.X = sparse.csr_matrix(x)
    MULTIVI.setup_anndata(adata, batch_key="batch")
    model = MULTIVI(adata, n_hidden=16, n_latent=4)
    model.train(max_epochs=2, seed=0, progress=False)
    np.testing.assert_array_equal(
        model.get_normalized_expression(transform_batch="batch1"), model.get_normalized_expression(transform_batch="batch0")
    )
    y = [model.get_normalized_accessibility(transform_batch=b) for b in ("batch0", "batch1")]
    assert not np.allclose(*y, rtol=1e-3)


def test_a_query_with_one_modality_finds_its_place(model):
    whole = multiome(600, 80, 160, 4, n_types=3, stored=0.4, seed=2)
    rows = np.flatnonzero((model.adata.obs["measured"] == "both").to_numpy())[:80]
    query = whole[rows, :80].copy()
    del query.obsm["protein_expression"]
    query.obs["batch"] = "new"
    mapped = MULTIVI.load_query_data(query, model)
    assert set(mapped.setup.absent["atac"]) == set(model.setup.features["atac"])
    mapped.train(max_epochs=5, seed=0, progress=False)
    labels = mapped.transfer_labels(model.adata, "cell_type")
    assert (labels["label"].astype(str).to_numpy() == query.obs["cell_type"].astype(str).to_numpy()).mean() > 0.7  # by chance 0.33
    y = mapped.get_normalized_accessibility()
    assert y.shape == (80, 160) and np.isfinite(y).all(axis=None)
    before = model.get_latent_representation()
    np.testing.assert_array_equal(mapped.get_latent_representation(model.adata), before)


def test_what_cannot_be_is_said():
    adata = multiome(60, 20, 30)
    with pytest.raises(errors.DataError, match="feature_types"):
        MULTIVI.setup_anndata(AnnData(adata.X, obs=adata.obs), batch_key="batch")
    genes = adata[:, :20].copy()
    MULTIVI.setup_anndata(genes)
    with pytest.raises(errors.DataError, match="needs genes, and regions or proteins"):
        MULTIVI(genes)
    MULTIVI.setup_anndata(adata)
    with pytest.raises(errors.ArgumentError, match="needs labels"):
        MULTIVI(adata, dispersion="gene-label")
    model = MULTIVI(adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, progress=False)
    with pytest.raises(errors.ArgumentError, match="modality"):
        model.get_latent_representation(modality="protein")


def test_a_question_about_what_was_not_measured_is_refused():
    bare = multiome(100, 40, 60, stored=0.4)
    MULTIVI.setup_anndata(bare)
    model = MULTIVI(bare, n_hidden=8, n_latent=3)
    model.train(max_epochs=1)
    for ask in (model.get_normalized_protein, model.get_protein_foreground_probability):
        with pytest.raises(errors.ArgumentError, match="have no protein: it explains rna, atac"):
            ask()
