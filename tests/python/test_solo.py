"""SOLO: what of the models' contract is its own."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scelbo import PEAKVI, SCANVI, SCVI, SOLO, errors
from scelbo.data import Counts
from scelbo.data.doublets import Evidence, partners, rates
from scelbo.data.simulate import counts
from scelbo.nn import odds_nearby


def lanes(n=400, planted=40, seed=3):
    """Cells of two lanes, and sums of two kinds within each; obs["truth"] says which."""
    adata, rng = counts(n, 150, n_types=3, stored=0.4, batch_effect=0.1, seed=seed), np.random.default_rng(seed)
    kind, lane = adata.obs["cell_type"].to_numpy(), adata.obs["batch"].to_numpy()
    pairs = rng.integers(n, size=(40 * planted, 2))
    pairs = pairs[(kind[pairs[:, 0]] != kind[pairs[:, 1]]) & (lane[pairs[:, 0]] == lane[pairs[:, 1]])][:planted]
    both = sparse.vstack([adata.X, adata.X[pairs[:, 0]] + adata.X[pairs[:, 1]]]).tocsr()
    obs = pd.concat([adata.obs, adata.obs.iloc[pairs[:, 0]]]).set_axis([f"cell{i}" for i in range(n + planted)])
    out = anndata.AnnData(both, obs=obs, var=adata.var)
    out.obs["truth"] = np.arange(out.n_obs) >= n
    return out


@pytest.fixture(scope="module")
def cells():
    return lanes()


@pytest.fixture(scope="module")
def scvi(cells):
    SCVI.setup_anndata(cells, batch_key="batch", categorical_covariate_keys=["donor"], continuous_covariate_keys=["percent_mito"])
    model = SCVI(cells, n_hidden=32, n_latent=5, encode_covariates=True)
    model.train(max_epochs=20, seed=0, progress=False)
    return model


@pytest.fixture(scope="module")
def solo(scvi):
    model = SOLO.from_scvi_model(scvi, expected_doublet_rate=0.1, seed=0)
    model.train(max_epochs=100, seed=0, plan_kwargs={"lr": 3e-3}, progress=False)
    return model


def test_planted_doublets_are_found_and_probabilities_mean_what_they_say(solo, cells):
    table, truth = solo.get_doublets(), cells.obs["truth"].to_numpy()
    p = table["probability"].to_numpy()
    order = p[truth][:, None] > p[~truth]
    assert order.mean() > 0.93
    called = table["call"].to_numpy()
    assert truth[called].mean() > 0.6
    assert 0.5 * truth.sum() < p.sum() < 1.6 * truth.sum()
    assert abs(p[~truth].mean()) < 0.06
    as_many = solo.get_doublets(threshold=None)
    assert as_many.groupby("lane")["call"].sum().tolist() == [round(0.1 * n) for n in cells.obs["batch"].value_counts(sort=False)]
    assert as_many.loc[as_many["call"], "score"].min() >= as_many["score"].quantile(0.85)


def test_answers_are_of_one_kind(solo, cells):
    soft, hard, logits = solo.predict(), solo.predict(soft=False), solo.predict(return_logits=True)
    assert list(soft.columns) == list(logits.columns) == ["doublet", "singlet"]
    assert list(soft.index) == list(cells.obs_names)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    pd.testing.assert_series_equal(hard == "doublet", soft["doublet"] > 0.5, check_names=False)
    odds = logits["doublet"] - logits["singlet"] - np.log(2) + np.log(0.1 / 0.9)
    np.testing.assert_allclose(np.log(soft["doublet"] / soft["singlet"]), odds, atol=1e-4)
    whole = solo.predict(include_simulated_doublets=True)
    assert len(whole) == 3 * len(soft)
    assert whole["doublet"].iloc[len(soft) :].mean() > 3 * soft["doublet"].mean()
    other = cells[:50, ::-1].copy()  # without those of the reference that they are
    np.testing.assert_allclose(solo.predict(other), soft.iloc[:50], rtol=1e-4, atol=1e-6)


def test_a_rate_for_each_lane_and_one_lane_alone(scvi, cells):
    model = SOLO.from_scvi_model(scvi)
    n = cells.obs["batch"].value_counts()
    assert model.expected_doublet_rate == pytest.approx({lane: 8e-6 * n[lane] for lane in ("batch0", "batch1")})
    model = SOLO.from_scvi_model(scvi, expected_doublet_rate={"batch0": 0.2, "batch1": 0.01})
    model.train(max_epochs=5, seed=1)
    table = model.get_doublets()
    assert table.groupby("lane")["probability"].mean()["batch0"] > 3 * table.groupby("lane")["probability"].mean()["batch1"]
    assert table.groupby("lane")["expected_rate"].first().tolist() == pytest.approx([0.2, 0.01])
    one = SOLO.from_scvi_model(scvi, restrict_to_batch="batch1", expected_doublet_rate=0.1)
    one.train(max_epochs=1)
    assert list(one.predict().index) == list(cells.obs_names[cells.obs["batch"] == "batch1"])
    with pytest.raises(errors.DataError, match="lane 'batch0'"):
        one.predict(cells)


def test_pairs_stay_within_their_lane():
    lane = np.random.default_rng(0).integers(4, size=300)
    lane[lane == 3] = 2
    lane[7] = 3  # alone
    others = partners(lane, 5, np.random.default_rng(1))
    assert (lane[others] == lane[:, None]).all()
    itself = others == np.arange(300)[:, None]
    assert itself[7].all()
    assert not np.delete(itself, 7, axis=0).any()
    drawn = np.bincount(partners(np.zeros(20, int), 2000, np.random.default_rng(2))[4], minlength=20)
    assert drawn[4] == 0
    assert drawn[drawn > 0].min() > 60


def test_sums_of_counts():
    a, b = (sparse.random(30, 20, 0.3, "csr", random_state=s, dtype=np.float32) for s in (0, 1))
    out = Counts.of(a) + Counts.of(b)
    np.testing.assert_allclose(out.dense(), (a + b).toarray())
    np.testing.assert_allclose(out.size[:, 0], np.asarray((a + b).sum(1)).ravel(), rtol=1e-6)
    np.testing.assert_allclose(out.scaled(torch.arange(30.0)[:, None]).dense(), (a + b).toarray() * np.arange(30)[:, None], rtol=1e-6)


def test_neighbours_tell_densities_apart_and_leave_the_cell_itself_out():
    """Cells N(0, 1), sums N(1, 1), twice as many: log-odds log 2 + x - 1/2."""
    rng = torch.Generator().manual_seed(0)
    cells, sums = torch.randn(4000, 1, generator=rng), 1 + torch.randn(8000, 1, generator=rng)
    at = torch.tensor([[-0.5], [0.5], [1.5]])
    np.testing.assert_allclose(odds_nearby(at, cells, sums)[:, 2], np.log(2) + at[:, 0] - 0.5, atol=0.25)
    some, far = torch.randn(60, 8, generator=rng), 50 + torch.randn(60, 8, generator=rng)
    without = torch.cat([some[1:], some[:1] + 0.02])
    assert not torch.equal(odds_nearby(some[:1], some, far), odds_nearby(some[:1], without, far))


def test_the_loss_is_that_of_contaminated_controls(solo):
    """-log of the share of sums (or cells) where r d(u) sums stand beside (1 - rate) s(u) + rate d(u) cells."""
    odds = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    cells = Evidence(index=torch.arange(5), inputs=odds, batch=torch.zeros(5, dtype=torch.int64))
    with torch.no_grad():
        ratio = (solo.module.score(cells).double() - np.log(2)).exp()  # d / s
        got = solo.module(cells).nll["doublet"]
    share = 2 * ratio / (2 * ratio + 0.9 + 0.1 * ratio)
    expected = torch.cat([-(1 - share[:, :1]).log(), -share[:, 1:].log()], 1).mean(1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def published(scvi, **more):
    return SOLO.from_scvi_model(scvi, classifier_reads="latent", seed=0, **more)


def test_as_published_the_classifier_reads_the_latent_and_depth_and_cells_are_singlets(scvi, cells):
    model = published(scvi)
    model.train(max_epochs=3, plan="scvi-tools", seed=0)
    read = model.read()["inputs"]
    z = scvi.get_latent_representation()
    np.testing.assert_allclose(read[:, 0, :-1], z, rtol=1e-5, atol=1e-5)
    lane = cells.obs["batch"]
    other = partners(np.unique(lane, return_inverse=True)[1], 2, np.random.default_rng([0, 1]))[:, 1]
    log_size = lambda x: pd.Series(np.log(np.asarray(x.sum(1)).ravel()), lane.index)  # noqa: E731
    mean = log_size(cells.X).groupby(lane, observed=True).transform("mean")
    np.testing.assert_allclose(read[:, 0, -1], log_size(cells.X) - mean, atol=1e-5)
    np.testing.assert_allclose(read[:, 2, -1], log_size(cells.X + cells.X[other]) - mean, atol=1e-5)

    soft, logits = model.predict(), model.predict(return_logits=True).to_numpy()
    np.testing.assert_allclose(soft, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4)
    given = next(model.batches())
    with torch.no_grad():
        flat = model.module.classifier(given.inputs).reshape(-1, 2)
        sum_or_cell = torch.nn.functional.cross_entropy(flat, torch.tensor([1, 0, 0]).repeat(len(given.inputs)))
        np.testing.assert_allclose(model.module(given).total(), sum_or_cell, rtol=1e-5)


def test_as_published_with_lanes_other_cells_a_file_and_a_rate(scvi, cells, tmp_path):
    model = published(scvi)
    model.train(max_epochs=80, plan="scvi-tools", seed=0)
    steps = len(model.train_indices) // 42 + 1  # of 128 cells and sums
    assert next(iter(model.optimizer_state["state"].values()))["step"] == steps * model.trained_epochs
    table, truth = model.get_doublets(), cells.obs["truth"].to_numpy()
    assert table["expected_rate"].isna().all()
    p = table["probability"].to_numpy()
    assert (p[truth][:, None] > p[~truth]).mean() > 0.75
    assert p.sum() > 2 * truth.sum()  # as common as sums are
    with pytest.raises(errors.ArgumentError, match="singlets"):
        model.get_doublets(threshold=None)
    np.testing.assert_allclose(model.predict(cells[:50, ::-1].copy()), model.predict().iloc[:50], rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "solo")
    pd.testing.assert_frame_equal(SOLO.load(tmp_path / "solo").predict(cells), model.predict())
    one = published(scvi, restrict_to_batch="batch1")
    one.train(max_epochs=1)
    with pytest.raises(errors.DataError, match="lane 'batch0'"):
        one.predict(cells)
    at = published(scvi, expected_doublet_rate=0.1)
    at.train(max_epochs=80, seed=0)
    assert 0.5 * truth.sum() < at.predict()["doublet"].sum() < 1.6 * truth.sum()
    with pytest.raises(errors.ArgumentError, match="'latent'"):
        SOLO.from_scvi_model(scvi, classifier_reads="latnt")


def test_models_that_learn_labels_do_too_and_labels_are_not_asked_for(cells):
    labelled = cells[:200].copy()
    SCANVI.setup_anndata(labelled, labels_key="cell_type", unlabeled_category="type0", batch_key="batch")
    model = SCANVI(labelled, n_hidden=16, n_latent=4)
    model.train(max_epochs=1)
    solo = SOLO.from_scvi_model(model)
    solo.train(max_epochs=1)
    new = labelled[:20].copy()
    del new.obs["cell_type"]
    np.testing.assert_allclose(solo.predict(new), solo.predict(indices=np.arange(20)), rtol=1e-4, atol=1e-6)


def test_the_encoder_is_the_scvis_and_stays(scvi, solo):
    for name, value in solo.module.vae.state_dict().items():
        assert torch.equal(value, scvi.module.state_dict()[name]), name
    assert not any(p.requires_grad for p in solo.module.vae.parameters())
    assert not any("rho" in name or "decoder" in name for name in solo.module.state_dict())


def test_what_cannot_be(scvi, cells):
    with pytest.raises(errors.SetupError, match="from_scvi_model"):
        SOLO.setup_anndata(cells)
    with pytest.raises(errors.SetupError, match="from_scvi_model"):
        SOLO(cells)
    PEAKVI.setup_anndata(cells)
    with pytest.raises(errors.ArgumentError, match="not of PEAKVI"):
        SOLO.from_scvi_model(PEAKVI(cells))
    with pytest.raises(errors.NotTrainedError):
        SOLO.from_scvi_model(SCVI(cells))
    with pytest.raises(errors.ArgumentError, match=r"batch9.*Known: batch0, batch1"):
        SOLO.from_scvi_model(scvi, restrict_to_batch="batch9")
    with pytest.raises(errors.ArgumentError, match="n_hiden"):
        SOLO.from_scvi_model(scvi, n_hiden=3)
    wrong = {"share": 1.5, "nothing of lane 'batch1'": {"batch0": 0.1}, "'b' is unknown": {"batch0": 0, "batch1": 0, "b": 0}}
    for said, given in wrong.items():
        with pytest.raises(errors.ArgumentError, match=said):
            rates(given, {"batch0": 100, "batch1": 50})
