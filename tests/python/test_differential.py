"""The differential engine: right on draws whose answer is known, bounded in memory, and clear about wrong questions."""

import numpy as np
import pandas as pd
import pytest

from scelbo import SCVI, errors, settings
from scelbo.analysis import differential as engine
from scelbo.analysis import draws as drawing
from scelbo.analysis.groups import design
from scelbo.data.simulate import counts

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    adata = counts(600, 80, n_types=3, stored=0.4, seed=2)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=32, n_latent=5, gene_likelihood="nb")
    model.train(max_epochs=60, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


def test_probabilities_of_known_normals():
    """e ~ N(1, 1): P(e >= 0.5) and P(e < -0.5) are known."""
    from scipy.stats import norm

    e = RNG.normal(1, 1, (3, 50_000))
    of = {"change_fn": lambda h1, h2: h1 - h2, "intervals": [0.9]}
    three, two = (engine.change(e, np.zeros_like(e), 0.0, 0.5, engine.Test("change", test_mode=m, **of)) for m in ("three", "two"))
    np.testing.assert_allclose(three["proba_de"], norm.sf(-0.5), atol=0.01)
    np.testing.assert_allclose(two["proba_de"], norm.sf(-0.5) + norm.cdf(-1.5), atol=0.01)
    np.testing.assert_allclose(three["lfc_median"], 1, atol=0.03)
    np.testing.assert_allclose(three["lfc_confidence_interval_0.9_min"], norm.ppf(0.05, 1), atol=0.05)


@pytest.mark.parametrize("mode", ["two", "three"])
def test_changes_are_the_same_compiled_and_not(mode, monkeypatch):
    h1, h2 = np.exp(RNG.normal(-9, 2, (2, 7, 1001))).astype(np.float32)
    h1[0], h2[1] = h2[0], 0
    test, wide = engine.Test("change", test_mode=mode, intervals=[0.5]), np.stack([h1, h2], 2)
    found = engine.change(wide[..., 0], wide[..., 1], 1e-6, 0.25, test)  # however they lie in memory
    odd = engine.change(h1, np.where(np.arange(1001) == 5, np.nan, h2), 1e-6, 0.25, test)
    monkeypatch.setattr(settings, "compiled", False)
    for name, values in engine.change(h1, h2, 1e-6, 0.25, test).items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=2e-6, err_msg=name)
        assert found[name].dtype == values.dtype, name
        assert not name.startswith("proba") or (found[name] == values).all(), name  # ties stay ties
    assert np.isnan(odd["lfc_mean"]).all() and np.isnan(odd["lfc_median"]).all()


def test_vanilla_compares_pairs_of_draws(monkeypatch):
    """Exponentials, of which one is then three times as large: where the odds are known; compiled and not."""
    h, n = RNG.exponential(1, (100_000, 2)).astype(np.float32), 50_000
    h[:n, 1] *= 3
    first, second = RNG.permutation(n), n + RNG.permutation(n)
    found = engine.vanilla(h, first, second)
    np.testing.assert_allclose(found["proba_m1"], [0.5, 0.75], atol=0.01)
    np.testing.assert_allclose([found["scale1"], found["scale2"]], [h[:n].mean(0), h[n:].mean(0)], rtol=1e-5)
    monkeypatch.setattr(settings, "compiled", False)
    for name, values in engine.vanilla(h, first, second).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)


def test_discoveries_keep_the_expected_false_share():
    p = RNG.beta(0.5, 0.5, 500)
    called = engine.discoveries(p, 0.1)
    assert (1 - p[called]).mean() <= 0.1
    more = np.argsort(-p)[: called.sum() + 1]
    assert (1 - p[more]).mean() > 0.1 and p[called].min() >= p[~called].max()
    assert not engine.discoveries(np.full(5, 0.5), 0.05).any()


def test_delta_and_pseudocount_from_data():
    means = np.concatenate([RNG.normal(0, 0.05, 300), RNG.normal(2, 0.1, 50), RNG.normal(-2, 0.1, 50)])
    assert engine.estimated_delta(means) == pytest.approx(1.2, abs=0.1)
    assert engine.estimated_delta(means * 0.01) == 0.1
    peak1, peak2 = np.linspace(1, 10, 10), np.linspace(2, 20, 10)
    first, none = np.arange(10) < 5, np.zeros(10, bool)
    assert engine.pseudocount(peak1, peak2, first, none) == pytest.approx(np.quantile(peak1[:5], 0.9) / 10)
    assert engine.pseudocount(peak1, peak2, none, none) == engine.NO_PSEUDOCOUNT


def test_true_markers_come_first_with_the_right_sign(model):
    adata = model.adata
    own = (adata.obs["cell_type"] == "type0").to_numpy()
    share = adata.X.toarray() / adata.X.toarray().sum(1, keepdims=True)
    truth = np.log2((share[own].mean(0) + 1e-4) / (share[~own].mean(0) + 1e-4))
    table = model.differential_expression(groupby="cell_type", group1="type0", mode="change", fdr_target=0.2)
    assert np.corrcoef(table["lfc_mean"], truth[adata.var_names.get_indexer(table.index)])[0, 1] > 0.8
    called = table.index[table["is_de_fdr_0.2"]]
    assert len(called) and (np.abs(truth[adata.var_names.get_indexer(called)]) > 0.25).mean() > 0.8
    up = model.differential_expression(groupby="cell_type", group1="type0")
    assert truth[adata.var_names.get_loc(up.index[0])] > 0.5 and truth[adata.var_names.get_loc(up.index[-1])] < -0.5


def test_columns(model):
    raw = [f"{n}{s}" for n in ("raw_mean", "non_zeros_proportion", "raw_normalized_mean") for s in "12"]
    vanilla = model.differential_expression(groupby="cell_type", group1="type0", group2="type1")
    assert list(vanilla) == ["proba_m1", "proba_m2", "bayes_factor", "scale1", "scale2", *raw, "comparison", "group1", "group2"]
    change = model.differential_expression(idx1=np.arange(100), mode="change", cred_interval_lvls=[0.9])
    lfc = ["lfc_mean", "lfc_median", "lfc_std", "lfc_min", "lfc_max", "lfc_confidence_interval_0.9_min", "lfc_confidence_interval_0.9_max"]
    head = ["proba_de", "proba_not_de", "bayes_factor", "scale1", "scale2", "pseudocounts", "delta"]
    assert list(change) == [*head, *lfc, *raw, "is_de_fdr_0.05"]
    assert "raw_mean1" not in model.differential_expression(idx1=np.arange(100), all_stats=False)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_raw_statistics_are_those_of_the_counts(compiled, model, monkeypatch):
    monkeypatch.setattr(settings, "compiled", compiled)
    adata = model.adata
    table = model.differential_expression(groupby="cell_type", group1="type1", n_samples_overall=50).loc[adata.var_names]
    x, own = adata.X.toarray(), (adata.obs["cell_type"] == "type1").to_numpy()
    for side, cells in (("1", own), ("2", ~own)):
        np.testing.assert_allclose(table[f"raw_mean{side}"], x[cells].mean(0), rtol=1e-6)
        np.testing.assert_allclose(table[f"non_zeros_proportion{side}"], (x[cells] > 0).mean(0), rtol=1e-6)
        np.testing.assert_allclose(
            table[f"raw_normalized_mean{side}"], (x[cells] / x[cells].sum(1, keepdims=True)).mean(0) * 1e4, rtol=1e-5
        )


def test_groups_masks_numbers_and_queries_are_the_same_question(model):
    own = (model.adata.obs["cell_type"] == "type0").to_numpy()
    ask = lambda **k: model.differential_expression(n_samples_overall=500, seed=1, **k)  # noqa: E731
    tables = [ask(idx1=i) for i in (own, np.flatnonzero(own), np.where(own), "cell_type == 'type0'")]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_all_groups_at_once_say_what_each_says_alone(model):
    together = model.differential_expression(groupby="cell_type", mode="change", n_samples_overall=4000)
    assert together.groupby("group1").size().tolist() == [80] * 3
    alone = model.differential_expression(groupby="cell_type", group1="type2", mode="change", n_samples_overall=4000, seed=9)
    both = together[together["group1"] == "type2"].loc[alone.index]
    np.testing.assert_allclose(both["proba_de"], alone["proba_de"], atol=0.06)
    np.testing.assert_allclose(both["scale2"], alone["scale2"], rtol=0.15)


def test_tiles_change_nothing(model, monkeypatch):
    whole = model.differential_expression(groupby="cell_type", mode="change", delta=None, n_samples_overall=300)
    monkeypatch.setattr(drawing, "BYTES", 4 * 900 * 7)  # seven genes at once
    tiled = model.differential_expression(groupby="cell_type", mode="change", delta=None, n_samples_overall=300)
    pd.testing.assert_frame_equal(whole, tiled, rtol=1e-4)


def test_batch_correction_takes_the_batch_out(model):
    """Cells against copies of themselves in the other batch: the difference is the batch's, and goes."""
    batch = (model.adata.obs["batch"] == "batch0").to_numpy()
    ask = lambda **k: model.differential_expression(idx1=batch, mode="change", n_samples_overall=4000, **k)["lfc_mean"].abs().mean()  # noqa: E731
    assert ask(batch_correction=True) < 0.6 * ask()


def test_own_effect(model):
    table = model.differential_expression(
        idx1=np.arange(300), mode="change", delta=0.0, change_fn=lambda a, b: a - b, n_samples_overall=500
    )
    np.testing.assert_allclose(table["lfc_mean"], table["scale1"] - table["scale2"], atol=1e-6)


def test_own_domain_of_change(model):
    ask = lambda **k: model.differential_expression(idx1=np.arange(300), mode="change", n_samples_overall=500, **k)  # noqa: E731
    mine = ask(m1_domain_fn=lambda e: (e >= 0.25) | (e < -0.25))
    np.testing.assert_allclose(mine["proba_de"], ask(test_mode="two").loc[mine.index, "proba_de"])


def test_random_pairs_say_the_same_with_more_draws(model):
    ask = lambda **k: model.differential_expression(groupby="cell_type", group1="type0", group2="type1", batch_correction=True, **k)  # noqa: E731
    pairs, plain = ask(use_permutation=True, m_permutation=20_000), ask()
    np.testing.assert_allclose(pairs["proba_m1"], plain.loc[pairs.index, "proba_m1"], atol=0.05)
    few = ask(use_permutation=True, m_permutation=50)
    assert np.allclose(few["proba_m1"] * 50, (few["proba_m1"] * 50).round())


def test_outlying_cells_can_be_left_out(model):
    """Half a dozen cells of another type among those of one: without them the group is itself again."""
    kind = model.adata.obs["cell_type"].to_numpy()
    own, strangers = np.flatnonzero(kind == "type0"), np.flatnonzero(kind == "type1")[:6]
    mixed = np.concatenate([own, strangers])
    ask = lambda **k: model.differential_expression(idx1=mixed, idx2=kind == "type2", n_samples_overall=50, **k)["raw_mean1"]  # noqa: E731
    kept = drawing.without_outliers(model, None, design(model.adata, idx1=mixed)).pools[0]
    assert len(kept) < len(mixed) and np.isin(strangers, kept).sum() <= 2  # a tenth of all go
    filtered = ask(filter_outlier_cells=True)
    np.testing.assert_allclose(filtered[list(model.setup.var_names)], model.adata.X[kept].toarray().mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({}, "Say which cells to compare"),
        ({"groupby": "celltype"}, "Did you mean 'cell_type'"),
        ({"groupby": "cell_type", "group1": "type9"}, "group of cell_type 'type9' is unknown"),
        ({"groupby": "cell_type", "group1": "type0", "mode": "chnge"}, "Did you mean 'change'"),
        ({"idx1": np.zeros(600, bool)}, "selects no cells"),
        ({"idx1": np.ones(600, bool)}, "nothing is left to compare with"),
        ({"idx1": np.ones(5, bool)}, "mask of length 5"),
        ({"idx1": [0, 1], "batch_correction": True, "batchid1": ["batch7"]}, "category of batch 'batch7' is unknown"),
        ({"idx1": [0, 1], "batchid1": ["batch0"]}, "batch_correction=True"),
        ({"idx1": [0, 1], "fdr_target": 5}, "between 0 and 1"),
    ],
)
def test_wrong_questions_are_answered_clearly(model, ask, says):
    with pytest.raises(errors.ArgumentError, match=says):
        model.differential_expression(**ask)


def test_unknown_genes_batches_and_covariates_are_named(model):
    for ask in ({"gene_list": ["gene1", "gene999"]}, {"transform_batch": "batch9"}, {"transform": {"donor": "d1"}}):
        with pytest.raises(errors.ArgumentError, match="is unknown"):
            model.get_normalized_expression(**ask)
