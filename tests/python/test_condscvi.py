"""CondSCVI: what of the models' contract is its own; its types' priors, mixtures and fine labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from tissues import taught, with_states
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from scelbo import CondSCVI, DestVI, errors, settings
from scelbo.module import draw


@pytest.fixture(scope="module")
def tissue():
    return with_states()


@pytest.fixture(scope="module")
def reference(tissue):
    return taught(tissue[0])


def test_the_vamp_prior_is_where_cells_are(reference, tissue):
    prior, z = reference.get_vamp_prior(p=4), reference.get_latent_representation()
    np.testing.assert_allclose(prior.groupby("cell_type")["weight"].sum(), 1)
    for t, rows in prior.groupby("cell_type"):
        here = z[(tissue[0].obs["cell_type"] == t).to_numpy()]
        mean = (rows[[f"mean_{d}" for d in range(5)]].to_numpy() * rows[["weight"]].to_numpy()).sum(0)
        np.testing.assert_allclose(mean, here.mean(0), atol=1e-4)
    assert (prior.filter(like="variance_") > 0).all(axis=None)


def test_states_within_a_type_are_told_apart_and_batches_can_be_exchanged(reference, tissue):
    z, on = reference.get_latent_representation(), tissue[0].obs["on"].to_numpy()
    of_type = (tissue[0].obs["cell_type"] == "type1").to_numpy()
    axis = z[on].mean(0) - z[of_type & ~on].mean(0)
    score = z @ axis
    assert (score[on][:, None] > score[of_type & ~on]).mean() > 0.95
    cells = tissue[0].copy()
    cells.obs["lane"] = np.where(np.arange(cells.n_obs) % 4 < 2, "a", "b")
    CondSCVI.setup_anndata(cells, labels_key="cell_type", batch_key="lane")
    model = CondSCVI(cells, n_hidden=16)
    model.train(3)
    a, b = (model.get_normalized_expression(transform_batch=lane) for lane in "ab")
    assert not np.allclose(a, b, rtol=1e-3)  # scvi-tools takes the argument and changes nothing
    first = (cells.obs["lane"] == "a").to_numpy()
    np.testing.assert_allclose(a[first], model.get_normalized_expression()[first], rtol=1e-4)


@pytest.fixture(scope="module")
def of_mixtures(tissue):
    return taught(tissue[0], prior="mog", num_classes_mog=3)


def test_the_kl_to_a_mixture_is_that_of_torch_at_the_draw_and_of_each_dimension_by_integration(of_mixtures):
    module, cells = of_mixtures.module, next(of_mixtures.batches(indices=range(30)))
    with torch.no_grad(), settings.private_seed(0):
        q, at = module.inference(cells), module.states
        z = draw(q)
        each = Independent(Normal(at.mean(cells), at.log_sd(cells).exp()), 1)
        mixture = MixtureSameFamily(Categorical(logits=at.logit(cells)), each)
        expected = q.z.log_prob(z.z).sum(-1) - mixture.log_prob(z.z)
        np.testing.assert_allclose(module.loss(cells, q, z, module.generative(z, cells)).kl["z"], expected, rtol=1e-4, atol=1e-4)
        grid = (q.z.mean + q.z.stddev * torch.linspace(-8, 8, 2001)[:, None, None])[:, :, None]
        log_p = (Normal(at.mean(cells), at.log_sd(cells).exp()).log_prob(grid) + at.logit(cells).log_softmax(-1)[..., None]).logsumexp(2)
        log_q = q.z.log_prob(grid[:, :, 0])
        integral = torch.trapezoid(log_q.exp() * (log_q - log_p), grid[:, :, 0], dim=0)
    found = module.kl_by_dimension(q, cells)["z"]
    np.testing.assert_allclose(found.detach(), integral, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(of_mixtures.get_latent_kl(indices=range(30)), found.detach().mean(0), rtol=1e-4)


def test_a_mixture_learns_where_the_cells_of_each_type_are_and_can_be_a_reference(of_mixtures, tissue):
    module, cells = of_mixtures.module, next(of_mixtures.batches())
    with torch.no_grad():
        z = of_mixtures.module.inference(cells).z.mean
        own, other = (module.states(cells.replace({"label": (cells.label + i) % 3})).log_prob(z).mean() for i in (0, 1))
    assert own > other + 0.5
    assert own > Normal(0, 1).log_prob(z).sum(-1).mean() + 0.5
    model = DestVI.from_rna_model(tissue[1], of_mixtures, augmentation=False)
    model.train(20, seed=0)
    assert np.corrcoef(model.get_proportions().to_numpy().ravel(), tissue[1].obsm["proportions"].to_numpy().ravel())[0, 1] > 0.85


@pytest.fixture(scope="module")
def with_fine(tissue):
    """Two thirds of the cells of type1 are known to have the program on or off, and those of type2 to be of one kind; the truth."""
    cells, of_type = tissue[0].copy(), tissue[0].obs["cell_type"].astype(str)
    truth = pd.Series(np.where(cells.obs["on"], "on", "off"), cells.obs_names).where(of_type == "type1").mask(of_type == "type2", "two")
    cells.obs["fine"] = truth.where(np.arange(cells.n_obs) % 3 > 0).mask(np.arange(cells.n_obs) % 6 == 0, "unlabeled")
    CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine")
    model = CondSCVI(cells, n_hidden=32)
    model.train(100, seed=0, plan_kwargs={"lr": 5e-3}, progress=False)
    return model, truth


def test_fine_labels_are_found_where_they_are_not_known_and_only_within_their_type(with_fine, tissue, tmp_path):
    model, truth = with_fine
    assert model.setup.categories["fine"] == ["off", "on", "two"]
    assert model.fine_types == {"off": "type1", "on": "type1", "two": "type2"}
    asked = model.adata.obs["fine"].isin(["on", "off", "two"]).to_numpy() == 0
    found = model.predict()
    assert (found.index == tissue[0].obs_names).all()
    pd.testing.assert_series_equal(found.isna(), truth.isna(), check_names=False)
    assert (found[asked & truth.notna()].astype(str) == truth[asked & truth.notna()]).mean() > 0.95
    chance = model.predict(soft=True)
    of_type = tissue[0].obs["cell_type"].to_numpy()
    np.testing.assert_allclose(chance.sum(axis=1), (of_type != "type0").astype(float), rtol=1e-5)
    assert (chance.loc[of_type == "type2", ["on", "off"]] == 0).all(axis=None)
    assert (chance.idxmax(axis=1)[found.notna()] == found.dropna().astype(str)).all()
    model.save(tmp_path / "m")
    again, new = CondSCVI.load(tmp_path / "m"), tissue[0][:40].copy()  # which have no fine labels
    np.testing.assert_allclose(again.predict(new, soft=True), chance[:40], atol=1e-5)
    drawn = [model.predict(soft=True, use_posterior_mean=False, seed=s, indices=range(40)) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


def test_the_classifier_costs_the_cross_entropy_of_what_is_known(with_fine):
    module, cells = with_fine[0].module, next(with_fine[0].batches(indices=range(60)))
    with torch.no_grad(), settings.private_seed(0):
        q = module.inference(cells)
        z = draw(q)
        loss = module.loss(cells, q, z, module.generative(z, cells))
        scores = z.z @ module.fine.logits.weight.T + module.fine.logits.bias
    expected = []
    for row, label, kind in zip(scores.numpy(), cells.fine.tolist(), cells.label.tolist(), strict=True):
        own = {1: row[:2], 2: row[2:]}.get(kind)
        if label >= 0:
            expected.append(np.log(np.exp(own).sum()) - row[label])
    np.testing.assert_allclose(loss.penalty["classification_loss"], np.mean(expected), rtol=1e-4)
    assert 10 < loss.figures["accuracy"].isfinite().sum() == len(expected) < 60
    none = cells.replace({"fine": -1})
    assert module.loss(none, q, z, module.generative(z, none)).penalty["classification_loss"] == 0


def test_fine_types_in_spots_are_those_that_are_there_also_of_a_saved_model(with_fine, tissue, tmp_path):
    model = DestVI.from_rna_model(tissue[1], with_fine[0], augmentation=False)
    model.train(50, seed=0)
    found = model.get_fine_celltypes()
    assert list(found) == ["type1", "type2"] and list(found["type1"]) == ["off", "on"]
    assert (found["type2"] == 1).all(axis=None)
    np.testing.assert_allclose(found["type1"].sum(axis=1), 1, rtol=1e-5)
    has, on = (tissue[1].obsm["proportions"]["type1"] > 0.3).to_numpy(), np.arange(120) < 60
    assert found["type1"]["on"][has & on].mean() > found["type1"]["on"][has & ~on].mean() + 0.5
    model.save(tmp_path / "m")
    again = DestVI.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.get_fine_celltypes(tissue[1][[7, 3]].copy())["type1"], found["type1"].iloc[[7, 3]], atol=1e-5)


def test_fine_labels_that_cannot_be(tissue, reference):
    with pytest.raises(errors.ArgumentError, match="without fine labels"):
        reference.predict()
    cells = tissue[0].copy()
    cells.obs["fine"] = np.where(cells.obs["on"], "on", "rest")
    with pytest.raises(errors.DataError, match=r"'cell_type'\], unlike rest \(in type\d, type\d, type\d\)"):
        CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine")
    CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine", unlabeled_category="rest")
    assert CondSCVI(cells, n_hidden=8).fine_types == {"on": "type1"}
