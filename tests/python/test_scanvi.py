"""scANVI: which cells have a label, what labels teach, and how far they can be trusted."""

import numpy as np
import pandas as pd
import pytest
import torch
from cases import LABELS

from scelbo import SCANVI, SCVI, errors
from scelbo.analysis.labels import _quantile, calibrated
from scelbo.data.simulate import counts

SMALL = {"n_hidden": 32, "n_latent": 5}


def made(adata, **arguments):
    SCANVI.setup_anndata(adata, batch_key="batch", **LABELS)
    return SCANVI(adata, **SMALL, **arguments)


@pytest.fixture(scope="module")
def cells():
    """600 cells of 4 types, a type of which is unlabelled, as is every third cell."""
    adata = counts(600, 60, stored=0.4, seed=3)
    adata.obs["known"] = adata.obs["cell_type"].astype(str).where((np.arange(600) % 3 > 0) & (adata.obs["cell_type"] != "type3"), "unknown")
    return adata


@pytest.fixture(scope="module")
def trained(cells):
    SCANVI.setup_anndata(cells, labels_key="known", unlabeled_category="unknown", batch_key="batch")
    model = SCANVI(cells, **SMALL)
    model.train(60, train_size=0.8, seed=0, progress=False)
    return model


def test_cells_without_a_label_have_no_category(adata):
    adata.obs["known"] = adata.obs["cell_type"].astype(str).where(np.arange(120) % 2 == 0)
    adata.obs.loc[adata.obs_names[:10], "known"] = "type3"
    SCANVI.setup_anndata(adata, labels_key="known", unlabeled_category="type3")
    model = SCANVI(adata, **SMALL)
    assert model.setup.categories["label"] == ["type0", "type1", "type2"]
    label = model.read()["label"].numpy()
    known = adata.obs["known"].isin(["type0", "type1", "type2"]).to_numpy()
    assert ((label >= 0) == known).all()
    assert list(np.array(model.setup.categories["label"])[label[known]]) == list(adata.obs["known"][known])


def test_what_is_amiss_with_labels_is_told(adata):
    with pytest.raises(errors.ArgumentError, match="labels_key is needed"):
        SCANVI.setup_anndata(adata)
    with pytest.warns(errors.DataWarning, match="no cell has the value 'typ3'.*'type3'"):
        SCANVI.setup_anndata(adata, labels_key="cell_type", unlabeled_category="typ3")
    adata.obs["one"], adata.obs["none"] = "T", "unknown"
    SCANVI.setup_anndata(adata, labels_key="one")
    with pytest.raises(errors.ArgumentError, match="only 'T' is known"):
        SCANVI(adata)
    with pytest.raises(errors.DataError, match="no cell has a known category"):
        SCANVI.setup_anndata(adata, labels_key="none", unlabeled_category="unknown")


def test_labelled_cells_train_along_with_every_minibatch(adata):
    adata.obs["known"] = adata.obs["cell_type"].astype(str).where(np.arange(120) % 3 == 0, "type3")
    SCANVI.setup_anndata(adata, labels_key="known", unlabeled_category="type3")
    model = SCANVI(adata, **SMALL)
    rng, train = np.random.default_rng(0), np.arange(100)
    label = model.read()["label"].numpy()
    along = model.beside(train)(rng)
    assert sorted(along) == list(np.flatnonzero(label[:100] >= 0))
    model.n_samples_per_label = 5
    few = [model.beside(train)(rng) for _ in range(2)]
    assert np.bincount(label[few[0]]).tolist() == [5, 5, 5]
    assert set(few[0]) != set(few[1])
    model.train(2, n_samples_per_label=5, batch_size=32)
    assert {"classification_loss_train", "accuracy_train", "accuracy_validation"} <= set(model.history)


def test_where_most_cells_have_labels_these_teach_by_themselves(adata):
    model = made(adata)
    assert model.beside(np.arange(100)) is None
    model.n_samples_per_label = 5
    assert model.beside(np.arange(100)) is not None


def test_known_labels_are_observations(adata):
    model = made(adata)
    cells = next(model.batches(indices=np.arange(50)))
    z = model.module.inference(cells).z.mean
    w, kl = model.module.types(z, cells)
    soft, _ = model.module.types(z, cells, known=False)
    known = cells.label >= 0
    assert torch.equal(w[known].argmax(-1), cells.label[known])
    assert (w[known].amax(-1) == 1).all() and torch.equal(w[~known], soft[~known])
    torch.testing.assert_close(kl[known], torch.full_like(kl[known], np.log(3)))
    torch.testing.assert_close(kl[~known], (soft * (soft * 3).log()).sum(-1)[~known])


def test_dispersion_of_an_unlabelled_cell_is_the_mean_over_its_likely_types(adata):
    model = made(adata, dispersion="gene-label", gene_likelihood="nb")
    cells = next(model.batches(indices=np.arange(30)))
    q = model.module.inference(cells)
    z = type(q)(q.z.mean, q.log_l.mean)
    log_theta = model.module.generative(z, cells).x.log_theta
    rows, known = model.module.log_theta.rows(), cells.label >= 0
    torch.testing.assert_close(log_theta[known], rows[cells.label[known]])
    torch.testing.assert_close(log_theta[~known], model.module.classifier(z.z[~known]).softmax(-1) @ rows)


def test_the_prior_of_z_integrates_over_types_and_what_differs_within(adata):
    SCANVI.setup_anndata(adata, **LABELS)
    model = SCANVI(adata, n_hidden=8, n_latent=1)
    module = model.module.double()
    cells = next(model.batches(indices=[0, 1])).to(torch.float64)
    q = module.inference(cells)
    point = torch.tensor([[0.3], [-0.8]], dtype=torch.float64)
    latents = type(q)(point.expand(20_000, 2, 1), q.log_l.mean)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        drawn = module.log_prior(q, latents, cells)["z"].logsumexp(0) - np.log(20_000)
        u = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        exact = torch.zeros(2, dtype=torch.float64)
        for c in range(3):
            p = module.z_of_u(u[:, None], cells.replace({"label": torch.full((4001,), c)}))
            density = (p.log_prob(point.T) + torch.distributions.Normal(0, 1).log_prob(u)[:, None]).exp()
            exact += torch.trapezoid(density, u, dim=0) / 3
    torch.testing.assert_close(drawn, exact.log(), rtol=0, atol=0.02)


def test_labels_are_learnt(trained, cells):
    known = cells.obs["known"] != "unknown"
    hidden = ~known & (cells.obs["cell_type"] != "type3")
    label = pd.Series(trained.predict(), cells.obs_names)
    assert (label == cells.obs["cell_type"])[hidden].mean() > 0.9
    chance = trained.predict(soft=True)
    np.testing.assert_allclose(chance.sum(axis=1), 1, rtol=1e-5)
    assert (chance.idxmax(axis=1) == label).all()
    raw = trained.predict(soft=True, calibrated=False)
    assert (raw.idxmax(axis=1) == label).all() and not np.allclose(raw, chance)


def test_the_temperature_fits_held_out_labels(trained):
    kept = calibrated(trained)
    held_out = trained.validation_indices
    label = trained.read()["label"].numpy()[held_out]
    rows = np.flatnonzero(label >= 0)
    raw = np.log(trained.predict(indices=held_out, soft=True, calibrated=False).to_numpy())

    def loss(t):
        logits = raw / t - np.log(np.exp(raw / t).sum(1, keepdims=True))
        return -logits[rows, label[rows]].mean()

    assert loss(kept["temperature"]) < min(loss(kept["temperature"] * f) for f in (0.9, 1.1))


@pytest.mark.parametrize("n", [25, 40, 200])
def test_sets_cover_what_they_state(n):
    rng = np.random.default_rng(n)
    for coverage in (0.8, 0.9):
        inside = [(rng.random(50) <= _quantile(sorted(rng.random(n)), coverage)).mean() for _ in range(2000)]
        assert np.mean(inside) == pytest.approx(coverage, abs=0.005)
    assert _quantile(sorted(rng.random(n)), 0.999) == np.inf


def test_a_lower_coverage_gives_smaller_sets(trained):
    large, small = (trained.predict_sets(coverage=c) for c in (0.95, 0.5))
    assert (small <= large).to_numpy().all() and small.to_numpy().sum() < large.to_numpy().sum()
    assert (trained.annotate(coverage=0.95)["set_size"] == large.sum(axis=1)).all()


def test_cells_of_an_unknown_type_are_novel():
    cells = counts(600, 300, stored=0.4, seed=3)
    unlike = (cells.obs["cell_type"] == "type3").to_numpy()
    others = cells[~unlike].copy()
    SCANVI.setup_anndata(others, labels_key="cell_type")
    model = SCANVI(others, **SMALL)
    model.train(30, train_size=0.7, seed=0)
    assert model.annotate(cells, unlike)["novelty"].median() > 0.9
    assert 0.3 < model.annotate(indices=model.validation_indices)["novelty"].median() < 0.7


def test_without_held_out_labels_there_are_no_sets(adata):
    model = made(adata)
    model.train(1, train_size=1.0)
    with pytest.raises(errors.ArgumentError, match="held out"):
        model.predict_sets()
    table = model.annotate()
    assert table["novelty"].isna().all() and table["probability"].notna().all()


def test_trust_is_saved_with_the_model(trained, cells, tmp_path):
    trained.save(tmp_path / "model")
    again = SCANVI.load(tmp_path / "model", cells)
    pd.testing.assert_frame_equal(again.annotate(), trained.annotate())


def test_it_starts_from_a_trained_scvi_model(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    base = SCVI(adata, **SMALL, gene_likelihood="nb")
    with pytest.raises(errors.NotTrainedError):
        SCANVI.from_scvi_model(base, "type3", "cell_type")
    base.train(2)
    model = SCANVI.from_scvi_model(base, "type3", "cell_type", linear_classifier=True)
    assert (model.n_hidden, model.gene_likelihood, model.linear_classifier) == (32, "nb", True)
    model.is_trained = True
    np.testing.assert_array_equal(model.get_latent_representation(), base.get_latent_representation())
    model.train()
    assert model.trained_epochs == 10


def test_a_query_needs_no_labels_and_may_not_bring_unknown_ones(trained, cells):
    query = cells[:80].copy()
    query.obs["batch"] = "new"
    del query.obs["known"]
    model = SCANVI.load_query_data(query, trained)
    model.train(2)
    assert set(model.predict()) <= {"type0", "type1", "type2"}
    assert model.annotate()["novelty"].notna().all()  # by the reference's held-out cells
    query.obs["known"] = "typ1"
    with pytest.raises(errors.DataError, match=r"'typ1'.*Did you mean 'type1'"):
        SCANVI.load_query_data(query, trained)
