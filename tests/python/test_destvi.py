"""DestVI: what of the models' contract is its own."""

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from tissues import taught, with_states
from torch.distributions import Categorical, Independent, MixtureSameFamily, NegativeBinomial, Normal

from scelbo import CondSCVI, DestVI, RNAStereoscope, SpatialStereoscope, errors, settings


@pytest.fixture(scope="module")
def tissue():
    return with_states()


@pytest.fixture(scope="module")
def reference(tissue):
    return taught(tissue[0])


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


def test_what_cannot_be(tissue, reference, model):
    RNAStereoscope.setup_anndata(tissue[0], labels_key="cell_type")
    with pytest.raises(errors.ArgumentError, match="made of CondSCVI, not of RNAStereoscope"):
        DestVI.from_rna_model(tissue[1], RNAStereoscope(tissue[0]))
    other = CondSCVI(tissue[0], n_hidden=8, gene_likelihood="nb")
    other.train(1)
    with pytest.raises(errors.ArgumentError, match="add up"):
        DestVI.from_rna_model(tissue[1], other)
    with pytest.raises(errors.ArgumentError, match="Did you mean 'none'"):
        DestVI.from_rna_model(tissue[1], reference, amortization="nonee")
    with pytest.raises(errors.ArgumentError, match="without fine labels"):
        model.get_fine_celltypes()
