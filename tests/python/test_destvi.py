"""CondSCVI and DestVI: what of the models' contract is their own."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from torch.distributions import Categorical, Independent, MixtureSameFamily, NegativeBinomial, Normal

from scelbo import CondSCVI, DestVI, RNAStereoscope, SpatialStereoscope, errors, settings
from scelbo.data.simulate import spots
from scelbo.module import draw


def with_states(seed=0):
    """Cells of 3 types, and spots; half of the cells of type1 have a program of 15 genes on, and so have those of the first 60 spots."""
    cells, tissue = spots(120, 400, 120, n_types=3, stored=0.5, seed=seed)
    rng, program = np.random.default_rng(seed), np.arange(15)
    on = (cells.obs["cell_type"] == "type1").to_numpy() & (np.arange(cells.n_obs) % 2 == 0)
    x = cells.X.toarray()
    x[np.ix_(on, program)] += rng.poisson(0.02 * x[on].sum(1, keepdims=True), (on.sum(), 15))
    y = tissue.X.toarray()
    amount = tissue.obsm["proportions"]["type1"].to_numpy() * y.sum(1) * (np.arange(120) < 60)
    y[:, program] += rng.poisson(0.02 * amount[:, None], (120, 15))
    obs = cells.obs.assign(on=on)
    tissue = AnnData(sparse.csr_matrix(y), obs=tissue.obs, var=tissue.var, obsm=dict(tissue.obsm))
    return AnnData(sparse.csr_matrix(x), obs=obs, var=cells.var), tissue


@pytest.fixture(scope="module")
def tissue():
    return with_states()


@pytest.fixture(scope="module")
def reference(tissue):
    CondSCVI.setup_anndata(tissue[0], labels_key="cell_type")
    model = CondSCVI(tissue[0], n_hidden=32)
    model.train(100, seed=0, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


@pytest.fixture(scope="module")
def model(tissue, reference):
    model = DestVI.from_rna_model(tissue[1], reference)
    model.train(100, seed=0, progress=False)
    return model


def test_what_is_in_each_spot_and_in_which_state(model, tissue):
    truth, found = tissue[1].obsm["proportions"], model.get_proportions()
    assert np.corrcoef(found.to_numpy().ravel(), truth.to_numpy().ravel())[0, 1] > 0.9
    has = (truth["type1"] > 0.3).to_numpy()
    program = model.get_scale_for_ct("type1").iloc[:, :15].sum(axis=1).to_numpy()
    on = np.arange(120) < 60
    assert (program[has & on][:, None] > program[has & ~on]).mean() > 0.85
    gamma = model.get_gamma()
    assert list(gamma) == ["type0", "type1", "type2"] and gamma["type1"].shape == (120, 5)
    np.testing.assert_allclose(model.get_gamma(return_numpy=True, indices=[3, 1])[2], gamma["type2"].iloc[[3, 1]], atol=1e-5)


def test_mixtures_of_known_cells_teach_what_mean_profiles_cannot_tell(tissue):
    RNAStereoscope.setup_anndata(tissue[0], labels_key="cell_type")
    reference = RNAStereoscope(tissue[0])
    reference.train(seed=0)
    truth, off = tissue[1].obsm["proportions"], {}
    for augmentation in (True, False):
        model = SpatialStereoscope.from_rna_model(tissue[1], reference, augmentation=augmentation)
        model.train(seed=0)
        off[augmentation] = np.sqrt(((model.get_proportions() - truth) ** 2).to_numpy().mean())
    assert off[True] < 0.9 * off[False]


def test_expression_of_all_types_and_noise_is_what_is_expected(model):
    cells = next(model.batches(indices=range(20)))
    with torch.no_grad():
        v, w = model.module.informed(model.module.solved(cells), cells), model.module.profiles(cells)
        whole = model.module.explained(v, cells, w).mean
        noise = model.module.noise_share(v, cells)[:, None] * whole.sum(1, keepdim=True)
    parts = sum(model.get_expression_for_ct(t, indices=range(20)).to_numpy() for t in model.cell_types)
    np.testing.assert_allclose(parts.sum(1) + noise[:, 0].numpy(), whole.sum(1), rtol=1e-4)
    assert (parts <= whole.numpy() + 1e-4).all()


def test_the_loss_is_that_of_the_page(model):
    cells, module = next(model.batches(indices=range(10))), model.module
    with torch.no_grad():
        gamma = module.gamma(cells)
        w = torch.stack([module.decoded(gamma[[z]], torch.tensor([z]), cells)[0] for z in range(3)], 1)
        beta, noise = torch.nn.functional.softplus(module.beta.rows()[0]), torch.nn.functional.softplus(module.noise["eta"])
        v = module.solved(cells)
        r = (v[:, :3, None] * w).sum(1) * beta + v[:, 3:] * noise
        expected = -NegativeBinomial(r, logits=module.o).log_prob(cells.x.dense()).sum(1)
        loss = module(cells)
        mixtures = [
            MixtureSameFamily(Categorical(logits=lw), Independent(Normal(m, s), 1))
            for lw, m, s in zip(module.prior_log_weight, module.prior_mean, module.prior_sd, strict=True)
        ]
    np.testing.assert_allclose(loss.nll["x"], expected, rtol=1e-4)
    np.testing.assert_allclose(loss.kl["gamma"], -sum(p.log_prob(g) for p, g in zip(mixtures, gamma, strict=True)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss.penalty["variance"], 5 * np.log(beta).var(), rtol=1e-4)


@pytest.mark.parametrize("amortization", ["both", "latent", "proportion", "none"])
def test_each_amortisation_learns_and_only_amortised_states_are_known_of_new_spots(tissue, reference, amortization, tmp_path):
    model = DestVI.from_rna_model(tissue[1], reference, amortization=amortization, augmentation=False)
    model.train(20, seed=0)
    loss = model.history["reconstruction_loss_train"]["reconstruction_loss_train"]
    assert loss.iloc[-1] < loss.iloc[0]
    assert np.corrcoef(model.get_proportions().to_numpy().ravel(), tissue[1].obsm["proportions"].to_numpy().ravel())[0, 1] > 0.7
    new = tissue[1][:7].copy()
    model.save(tmp_path / "m")
    again = DestVI.load(tmp_path / "m", tissue[1])
    pd.testing.assert_frame_equal(again.get_proportions(), model.get_proportions())
    if amortization in ("both", "latent"):
        np.testing.assert_allclose(model.get_proportions(new), model.get_proportions(indices=range(7)), atol=1e-5)
    else:
        with pytest.raises(errors.ArgumentError, match="amortization='latent'"):
            model.get_proportions(new)
    if amortization in ("both", "proportion"):  # as read off the counts
        assert (model.get_proportions(refine=False, indices=[5, 2]).index == ["spot5", "spot2"]).all()


def test_a_network_may_pass_through_few_dimensions(tissue, reference, tmp_path):
    model = DestVI.from_rna_model(tissue[1], reference, amortization="both", n_latent_amortization=1, augmentation=False)
    model.train(20, seed=0)
    cells = next(model.batches())
    for net, n in ((model.module.states, 15), (model.module.V, 4)):
        with torch.no_grad():
            h = net.latent(net.body(cells.x.map(torch.log1p), cells))
            assert h.shape[1] == 1
            order = h[:, 0].argsort()
            assert net(cells).shape[1] == n
            line, jumps = net(cells)[order], h[order].diff(dim=0)[:, 0]
        assert (line.diff(dim=0).norm(dim=1)[jumps < 1e-6] < 1e-3).all()  # all that they know of a spot is one number
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(DestVI.load(tmp_path / "m").get_proportions(tissue[1]), model.get_proportions(), atol=1e-5)
    assert not any("wide" in name for name, _ in DestVI.from_rna_model(tissue[1], reference).module.named_parameters())


def test_entropy_of_shares_is_told_and_less_of_it_is_left_where_it_is_weighed(tissue, reference):
    left = {}
    for weight in (0.0, 50.0):
        model = DestVI.from_rna_model(tissue[1], reference, augmentation=False)
        cells = next(model.batches(indices=range(20)))
        model.module.train()
        with torch.no_grad(), settings.private_seed(0):
            shares = model.module.shares(model.module.learnt(cells)).numpy()
            np.testing.assert_allclose(model.module(cells).penalty["entropy"], -(shares * np.log(shares)).sum(1).mean(), rtol=1e-4)
        with torch.no_grad(), settings.private_seed(0):
            model.module.l1_penalty = 3.0
            expected = 3 * (model.module.learnt(cells) / cells.x.size).sum(1).mean()
            np.testing.assert_allclose(model.module(cells).penalty["l1"], expected, rtol=1e-5)
            model.module.l1_penalty = 0.0
        model.train(20, seed=0, plan_kwargs={"lr": 0.05, "entropy_weight": weight})
        trained = model.get_proportions(refine=False)
        left[weight] = -(trained * np.log(trained.clip(1e-12))).sum(axis=1).mean()
    assert left[50.0] < 0.9 * left[0.0]


def test_neighbours_tell_of_shares_here_too(tissue, reference):
    spots = tissue[1].copy()
    spots.X = sparse.csr_matrix(np.random.default_rng(0).binomial(spots.X.toarray().astype(int), 0.2))
    spots.layers["again"] = sparse.csr_matrix(tissue[1].X - spots.X)  # as if there were a neighbour that held the same
    found = {}
    for layer in (None, "again"):
        model = DestVI.from_rna_model(spots, reference, anndata_setup_kwargs={"smoothed_layer": layer}, n_states_per_label=2)
        model.train(20, seed=0)
        found[layer] = np.sqrt(((model.get_proportions() - tissue[1].obsm["proportions"]) ** 2).to_numpy().mean())
    assert found["again"] < 0.9 * found[None]
    shares = model.get_proportions(indices=range(9))
    with torch.no_grad():
        cells = next(model.batches(indices=range(9)))
        v = model.module.informed(model.module.solved(cells), cells)
    np.testing.assert_allclose(model.module.shares(v), shares, atol=1e-5)
    np.testing.assert_allclose(v.sum(1), model.module.solved(cells).detach().sum(1), rtol=1e-4)  # as much as before of all


def test_with_a_normal_prior_the_state_of_a_type_that_is_not_there_is_near_0(tissue, reference, model):
    normal = DestVI.from_rna_model(tissue[1], reference, prior_mode="normal", augmentation=False)
    start = normal.module.states.value.bias.detach().clone()
    torch.testing.assert_close(start, DestVI.from_rna_model(tissue[1], reference, augmentation=False).module.states.value.bias.detach())
    normal.train(100, seed=0)
    cells = next(normal.batches(indices=range(10)))
    with torch.no_grad():
        gamma, loss = normal.module.gamma(cells), normal.module(cells)
    expected = (gamma**2 / 2 + np.log(2 * np.pi) / 2).sum((0, 2))
    np.testing.assert_allclose(loss.kl["gamma"], expected, rtol=1e-4)
    lacks = (tissue[1].obsm["proportions"] == 0).to_numpy().T
    far = [np.linalg.norm(m.get_gamma(return_numpy=True)[lacks], axis=1).mean() for m in (normal, model)]
    assert far[0] < 0.7 * far[1]


def in_two_states():
    """Cells of types A and B, of A in two states; spots that hold both, their shares (A in one state, in the other, B), and profiles."""
    rng, n = np.random.default_rng(0), 450
    mean = rng.gamma(2, 1, (2, 60))[[0, 0, 1]]
    mean[0, :12] *= 6
    mean[1, 12:24] *= 6
    mean /= mean.sum(1, keepdims=True)
    kind, share = rng.integers(0, 3, n), rng.dirichlet([1, 1, 1], 120)
    x, y = rng.poisson(mean[kind] * rng.gamma(20, 20, (n, 1))), rng.poisson(share @ mean * 3000)
    obs = pd.DataFrame({"cell_type": np.array(list("AAB"))[kind], "fine": np.array(["A0", "A1", "unlabeled"])[kind]}, map(str, range(n)))
    cells, tissue = (AnnData(sparse.csr_matrix(counts.astype(np.float32))) for counts in (x, y))
    cells.obs = obs
    return cells, tissue, share, mean


def test_several_states_of_a_type_in_one_spot(tmp_path):
    cells, tissue, share, mean = in_two_states()
    CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine")
    reference = CondSCVI(cells, n_hidden=32)
    reference.train(100, seed=0, plan_kwargs={"lr": 5e-3})
    of_a = share[:, :2].sum(1)
    there, true = of_a > 0.2, share[:, :2] / of_a[:, None]
    off, wrong = {}, {}
    for n in (1, 2):
        model = DestVI.from_rna_model(tissue, reference, n_states_per_label=n, augmentation=n == 2)
        model.train(100, seed=0)
        off[n] = np.sqrt(((model.get_fine_celltypes()["A"] - true)[there] ** 2).to_numpy().mean())
        scale = model.get_scale_for_ct("A").to_numpy()
        wrong[n] = np.sqrt(((scale / scale.sum(1, keepdims=True) - true @ mean[:2])[there] ** 2).mean())
    assert off[2] < 0.1
    assert off[2] < off[1] / 2
    assert wrong[2] < 0.8 * wrong[1]
    module, spots = model.module, next(model.batches())
    found = model.estimate_proportions()
    np.testing.assert_allclose(found.mean["A"], of_a, atol=0.15)
    assert ((found.lower["A"] <= of_a) & (of_a <= found.upper["A"])).mean() > 0.7
    with torch.no_grad():
        v, gamma = module.solved(spots)[:, :4].unflatten(1, (2, 2)), module.gamma(spots).unflatten(0, (2, 2))
        informed = module.informed(module.solved(spots), spots)
        whole = module.explained(informed, spots, module.profiles(spots)).mean
        noise = informed[:, -1:] * torch.nn.functional.softplus(module.noise["eta"]) * module.o.exp()
    mean_state = (v[:, 0, :, None] * gamma[0].transpose(0, 1)).sum(1) / v[:, 0].sum(1, keepdim=True)
    here = there[: len(spots)]
    np.testing.assert_allclose(model.get_gamma()["A"][: len(spots)][here], mean_state[here], atol=1e-4)
    parts = sum(model.get_expression_for_ct(t, indices=range(len(spots))).to_numpy() for t in "AB")
    np.testing.assert_allclose(parts + noise.numpy(), whole, rtol=1e-3, atol=1e-3)
    model.save(tmp_path / "m")
    again = DestVI.load(tmp_path / "m")
    new = tissue[[5, 2]].copy()
    pd.testing.assert_frame_equal(again.get_proportions(new), model.get_proportions(indices=[5, 2]), atol=1e-5)
    pd.testing.assert_frame_equal(again.get_fine_celltypes(new)["A"], model.get_fine_celltypes(indices=[5, 2])["A"], atol=1e-4)


@pytest.mark.parametrize("p", [1, 2, 15])
def test_states_of_a_type_start_apart_however_few_its_prior_has(tissue, reference, p):
    model = DestVI.from_rna_model(tissue[1], reference, n_states_per_label=3, vamp_prior_p=p, augmentation=False, amortization="none")
    at = model.module.states.weight.detach()[0].view(3, 3, 5)
    assert all(torch.pdist(states).min() > 0.1 for states in at)


def test_validation_and_early_stopping(tissue, reference):
    model = DestVI.from_rna_model(tissue[1], reference, augmentation=False)
    model.train(30, train_size=0.8, early_stopping=True, early_stopping_patience=3, seed=0)
    assert "elbo_validation" in model.history
    assert len(model.validation_indices) == 24


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
    CondSCVI.setup_anndata(tissue[0], labels_key="cell_type")
    model = CondSCVI(tissue[0], n_hidden=32, prior="mog", num_classes_mog=3)
    model.train(100, seed=0, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


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


def test_fine_labels_that_cannot_be(with_fine, tissue, reference, model):
    with pytest.raises(errors.ArgumentError, match="without fine labels"):
        reference.predict()
    with pytest.raises(errors.ArgumentError, match="without fine labels"):
        model.get_fine_celltypes()
    cells = tissue[0].copy()
    cells.obs["fine"] = np.where(cells.obs["on"], "on", "rest")
    with pytest.raises(errors.DataError, match=r"'cell_type'\], unlike rest \(in type\d, type\d, type\d\)"):
        CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine")
    CondSCVI.setup_anndata(cells, labels_key="cell_type", fine_labels_key="fine", unlabeled_category="rest")
    assert CondSCVI(cells, n_hidden=8).fine_types == {"on": "type1"}


def test_what_cannot_be(tissue, reference):
    RNAStereoscope.setup_anndata(tissue[0], labels_key="cell_type")
    with pytest.raises(errors.ArgumentError, match="made of CondSCVI, not of RNAStereoscope"):
        DestVI.from_rna_model(tissue[1], RNAStereoscope(tissue[0]))
    other = CondSCVI(tissue[0], n_hidden=8, gene_likelihood="nb")
    other.train(1)
    with pytest.raises(errors.ArgumentError, match="add up"):
        DestVI.from_rna_model(tissue[1], other)
    with pytest.raises(errors.ArgumentError, match="Did you mean 'none'"):
        DestVI.from_rna_model(tissue[1], reference, amortization="nonee")
