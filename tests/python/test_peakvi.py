"""PeakVI: what of the models' contract is its own."""

import numpy as np
import pandas as pd
import pytest
import torch

from scelbo import PEAKVI, errors
from scelbo.data.simulate import counts


@pytest.fixture
def regions():
    return counts(160, 100, n_types=3, stored=0.3)


@pytest.mark.parametrize(
    "arguments", [{}, {"model_depth": False, "region_factors": False, "latent_distribution": "ln"}, {"encode_covariates": True}]
)
def test_it_learns_is_saved_and_takes_queries(regions, arguments, tmp_path):
    PEAKVI.setup_anndata(regions, batch_key="batch", categorical_covariate_keys=["donor"], continuous_covariate_keys=["percent_mito"])
    model = PEAKVI(regions, **arguments)
    model.train(max_epochs=20, plan_kwargs={"lr": 5e-3})
    loss = model.history["reconstruction_loss_train"]["reconstruction_loss_train"]
    assert loss.iloc[-1] < 0.95 * loss.iloc[0]
    assert model.get_latent_representation().shape == (160, 3)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(PEAKVI.load(tmp_path / "m", regions).get_latent_representation(), model.get_latent_representation())
    query = regions[:60, 7:].copy()
    query.obs["batch"] = "new"
    mapped = PEAKVI.load_query_data(query, model)
    before = mapped.get_latent_representation()
    mapped.train(max_epochs=3, plan_kwargs={"lr": 5e-2})
    assert not np.allclose(mapped.get_latent_representation(), before)
    np.testing.assert_array_equal(mapped.get_latent_representation(regions), model.get_latent_representation())


def test_only_whether_a_region_was_seen_is_explained(regions):
    """Counts of 1 or 9 have the same likelihood at the same place; what is drawn is 0 or 1."""
    PEAKVI.setup_anndata(regions)
    model = PEAKVI(regions)
    model.is_trained = True
    (cells,) = model.batches()
    with torch.no_grad():
        p = model.module.generative(type(q := model.module.inference(cells))._make(d.mean for d in q), cells).x
        np.testing.assert_array_equal(p.log_prob(cells.x), p.log_prob(cells.x.map(torch.ones_like)))
    assert set(np.unique(model.posterior_predictive_sample().toarray())) == {0, 1}


def test_sizes_follow_from_the_number_of_regions(regions):
    PEAKVI.setup_anndata(regions)
    module = PEAKVI(regions).module
    assert (len(module.y.weight), module.z.mean.out_features) == (10, 3)


@pytest.fixture(scope="module")
def model():
    adata = counts(600, 120, n_types=3, stored=0.3, seed=1)
    PEAKVI.setup_anndata(adata, batch_key="batch")
    model = PEAKVI(adata, n_hidden=32, n_latent=5)
    model.train(max_epochs=80, plan_kwargs={"lr": 5e-3, "max_kl_weight": 0.1}, progress=False)  # few regions: z would collapse
    return model


def test_accessibility_and_its_factors(model):
    y, cell, region = model.get_normalized_accessibility(), model.get_library_size_factors(), model.get_region_factors()
    assert list(y.index) == list(model.adata.obs_names) and list(y.columns) == list(model.adata.var_names)
    assert cell.shape == (600, 1) and region.shape == (120,)
    assert all(((v > 0) & (v < 1)).all() for v in (y.to_numpy(), cell, region))
    seen = model.get_normalized_accessibility(normalize_cells=True, normalize_regions=True)
    np.testing.assert_allclose(seen, y * cell * region, rtol=1e-5)
    np.testing.assert_allclose(seen.sum(1).mean(), (model.adata.X > 0).sum(1).mean(), rtol=0.05)  # as many as are seen
    some = model.get_normalized_accessibility(region_list=["gene7", "gene2"], indices=[5, 3], transform_batch=["batch0", "batch1"])
    assert list(some.columns) == ["gene7", "gene2"] and list(some.index) == list(model.adata.obs_names[[5, 3]])
    few = model.get_normalized_accessibility(threshold=0.5)
    np.testing.assert_allclose(few.toarray(), np.where(y >= 0.5, y, 0))
    assert model.get_normalized_accessibility(n_samples_overall=30).shape == (30, 120)


def test_a_large_table_is_made_only_where_it_was_asked_for(model, monkeypatch):
    monkeypatch.setattr("scelbo.analysis.accessibility.DENSE", 1000)
    with pytest.raises(errors.ArgumentError, match=r"(?s)600 cells x 120 regions would be a dense table.*threshold"):
        model.get_normalized_accessibility()
    assert model.get_normalized_accessibility(return_numpy=True).shape == (600, 120)


COLUMNS = ["prob_da", "is_da_fdr", "bayes_factor", "effect_size", "emp_effect", "est_prob1", "est_prob2", "emp_prob1", "emp_prob2"]


def test_differential_accessibility_finds_what_differs(model):
    adata = model.adata
    own = (adata.obs["cell_type"] == "type0").to_numpy()
    table = model.differential_accessibility(groupby="cell_type", group1="type0")
    assert list(table) == [*COLUMNS, "comparison", "group1", "group2"]
    seen = adata.X.toarray() > 0
    truth = pd.Series(seen[own].mean(0) - seen[~own].mean(0), index=adata.var_names)
    np.testing.assert_allclose(table["emp_effect"], truth[table.index], atol=1e-6)
    np.testing.assert_allclose(table["effect_size"], table["est_prob1"] - table["est_prob2"])
    assert np.corrcoef(table["effect_size"], table["emp_effect"])[0, 1] > 0.8
    called = table[table["is_da_fdr"]]
    assert len(called) and (called["emp_effect"].abs() > 0.03).mean() > 0.9


def test_cells_by_mask_numbers_or_where_and_one_side(model):
    own = (model.adata.obs["cell_type"] == "type1").to_numpy()
    ask = lambda **k: model.differential_accessibility(n_samples_overall=500, seed=1, **k)  # noqa: E731
    tables = [ask(idx1=i) for i in (own, np.flatnonzero(own), np.where(own), pd.Series(own))]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
    assert list(tables[0]) == COLUMNS
    up = ask(idx1=own, two_sided=False)
    assert (up["prob_da"] <= tables[0].loc[up.index, "prob_da"] + 1e-9).all()
    assert up["effect_size"].iloc[:5].min() > 0 and tables[0].loc[up["prob_da"].idxmin(), "effect_size"] < 0.05


def test_groups_alike_are_not_called_though_their_cells_differ(model):
    """Random halves of cells of all types: most pairs of cells differ, in one direction as often as in the other."""
    half = np.random.default_rng(0).permutation(600) < 300
    ask = lambda **k: model.differential_accessibility(idx1=half, fdr_target=0.3, seed=1, **k)  # noqa: E731
    table, pairs, up = ask(), ask(test_mode="two"), ask(two_sided=False)
    assert table["prob_da"].max() < 0.55 and not table["is_da_fdr"].any()
    assert pairs["prob_da"].max() > 0.75 and pairs["is_da_fdr"].any()
    rose = up["prob_da"][table.index]
    np.testing.assert_allclose(table["prob_da"], np.maximum(rose, pairs["prob_da"][table.index] - rose), atol=1e-9)
    with pytest.raises(errors.ArgumentError, match="one direction"):
        ask(two_sided=False, test_mode="two")


def test_all_groups_at_once_can_be_told_apart(model):
    table = model.differential_accessibility(groupby="cell_type", n_samples_overall=300)
    assert table.groupby("group1").size().tolist() == [120] * 3 and (table["group2"] == "Rest").all()
    whole = model.differential_accessibility(groupby="cell_type", n_samples_overall=300, all_stats=False)
    assert not {"emp_effect", "emp_prob1"} & set(whole)


def test_a_typo_is_named_and_a_size_has_a_type(model, regions):
    with pytest.raises(errors.ArgumentError, match="fdr_target"):
        model.differential_accessibility(groupby="cell_type", fdr_taget=0.1)
    with pytest.raises(errors.ArgumentError, match="test_mode"):
        model.differential_accessibility(groupby="cell_type", test_mode="one")
    with pytest.raises(errors.ArgumentError, match="n_hidden=-1"):
        PEAKVI(model.adata, n_hidden=-1)
    with pytest.raises(errors.ScelboError, match="size_factor_key"):
        PEAKVI.setup_anndata(regions, size_factor_key="percent_mito")


def test_replicates_say_how_they_agree(model):
    table = model.differential_accessibility(groupby="cell_type", contrast="batch", replicates="donor", n_samples_overall=300)
    assert {"effect_replicates_mean", "effect_replicates_std", "replicates_agree", "n_replicates"} <= set(table)
    assert np.corrcoef(table["effect_replicates_mean"], table["effect_size"])[0, 1] > 0.5
