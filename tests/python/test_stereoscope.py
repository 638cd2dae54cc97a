"""Stereoscope: what of the models' contract is its own."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from mudata import MuData
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from scelbo import SCVI, RNAStereoscope, SpatialStereoscope, errors
from scelbo.data.simulate import spots, sums


@pytest.fixture(scope="module")
def tissue():
    return spots(160, 300, 150, stored=0.4, seed=1)


@pytest.fixture(scope="module")
def reference(tissue):
    RNAStereoscope.setup_anndata(tissue[0], labels_key="cell_type")
    model = RNAStereoscope(tissue[0])
    model.train(seed=0, progress=False)
    return model


@pytest.fixture(scope="module")
def model(tissue, reference):
    model = SpatialStereoscope.from_rna_model(tissue[1], reference)
    model.train(seed=0, progress=False)
    return model


def test_known_mixtures_are_found_and_intervals_cover_them(model, tissue):
    truth, found = tissue[1].obsm["proportions"], model.estimate_proportions(interval=0.9)
    assert list(found.mean.columns) == list(truth.columns)
    assert np.corrcoef(found.mean.to_numpy().ravel(), truth.to_numpy().ravel())[0, 1] > 0.93
    assert 0.85 < ((found.lower <= truth) & (truth <= found.upper)).to_numpy().mean() < 0.98
    narrow = model.estimate_proportions(interval=0.5)
    assert ((narrow.upper - narrow.lower) <= (found.upper - found.lower) + 1e-9).all(axis=None)
    assert 0.4 < ((narrow.lower <= truth) & (truth <= narrow.upper)).to_numpy().mean() < 0.85
    pd.testing.assert_frame_equal(found.mean, model.get_proportions())


def test_networks_are_believed_as_far_as_they_are_right(tissue, reference, model, tmp_path):
    alone = SpatialStereoscope.from_rna_model(tissue[1], reference, augmentation=False)
    alone.train(seed=0)
    trust = model.module.reader.trust.clone()
    assert 0 < float(trust) < 1 and alone.module.reader is None
    found = {}
    for of in (trust, torch.zeros(1), torch.ones(1)):
        model.module.reader.trust.copy_(of)
        found[float(of)] = model.get_proportions().to_numpy()
    model.module.reader.trust.copy_(trust)
    np.testing.assert_allclose(found[0.0], alone.get_proportions(), atol=0.02)
    np.testing.assert_allclose(found[float(trust)], found[0.0] + float(trust) * (found[1.0] - found[0.0]), atol=1e-5)
    reference.save(tmp_path / "reference")
    unseen = SpatialStereoscope.from_rna_model(tissue[1], RNAStereoscope.load(tmp_path / "reference"))
    assert float(unseen.module.reader.trust) == 0 and not unseen.calibration  # without the reference's cells nothing can be mixed


def test_a_network_whose_lessons_would_lack_a_type_is_not_asked(tissue):
    kinds = tissue[0].obs["cell_type"].to_numpy()
    cells = tissue[0][(kinds != "type3") | (np.cumsum(kinds == "type3") == 1)].copy()
    with pytest.warns(errors.DataWarning, match="type3"):
        RNAStereoscope.setup_anndata(cells, labels_key="cell_type")
    reference = RNAStereoscope(cells)
    reference.train(5, seed=0)
    model = SpatialStereoscope.from_rna_model(tissue[1], reference)
    assert model.module.reader.taught.sum() == 3
    model.train(5, seed=0)
    np.testing.assert_allclose(model.get_proportions().sum(axis=1), 1, rtol=1e-5)


def test_mixtures_hold_no_cell_twice_where_they_must_not():
    rng, x = np.random.default_rng(0), sparse.csr_matrix(np.eye(6, dtype=np.float32))
    code = np.array([0, 0, 0, 0, 2, 2])
    for distinct in (False, True):
        counts, shares = sums(x, code, 50, rng, 5, 1.0, distinct=distinct)
        assert (counts.max() > 1) != distinct and (shares[:, 1] == 0).all()
        np.testing.assert_allclose(shares[:, 0], np.asarray(counts[:, :4].sum(1) / counts.sum(1)).ravel())
    thinned, _ = sums(x, code, 50, rng, 5, np.full(6, 1e-9))
    assert (np.asarray(thinned.sum(1)) == 1).all()


def test_new_spots_batches_and_the_order_of_genes(tissue, reference, model):
    held = spots(40, 300, 150, stored=0.4, seed=1)[1]
    new = anndata.AnnData(held.X[:, ::-1], obs=held.obs, var=held.var[::-1])
    assert model.get_proportions(new).shape == (40, 4)
    np.testing.assert_allclose(model.get_proportions(tissue[1][:9].copy()), model.get_proportions(indices=range(9)), atol=1e-5)
    of_slides = tissue[1].copy()
    shifted = of_slides.X.toarray()
    second = (of_slides.obs["batch"] == "slide1").to_numpy()
    shifted[np.ix_(second, np.arange(75))] = np.random.default_rng(0).binomial(shifted[np.ix_(second, np.arange(75))].astype(int), 0.15)
    of_slides.X = sparse.csr_matrix(shifted)
    truth, errs = of_slides.obsm["proportions"].to_numpy(), {}
    for key in (None, "batch"):
        m = SpatialStereoscope.from_rna_model(of_slides, reference, anndata_setup_kwargs={"batch_key": key}, augmentation=False)
        m.train(200, seed=0)
        errs[key] = np.sqrt(((m.get_proportions() - truth) ** 2).to_numpy().mean())
    assert errs["batch"] < errs[None]


def test_validation_and_early_stopping(tissue, reference):
    model = SpatialStereoscope.from_rna_model(tissue[1], reference, augmentation=False)
    model.train(300, train_size=0.8, early_stopping=True, early_stopping_patience=3, early_stopping_min_delta=0.05, seed=0)
    assert len(model.validation_indices) == 32 and len(model.history["elbo_validation"]) < 300
    assert model.get_proportions().shape == (160, 4)  # also of those that did not train


def test_noise_is_a_share_of_the_counts(model, tissue):
    noisy = tissue[1].copy()
    noisy.X = sparse.csr_matrix(noisy.X + np.random.default_rng(0).poisson(3, noisy.shape))
    plain, with_noise = (model.get_proportions(a, keep_noise=True) for a in (tissue[1], noisy))
    assert list(plain) == [*tissue[1].obsm["proportions"], "noise_term"]
    np.testing.assert_allclose(with_noise.sum(axis=1), 1, rtol=1e-5)
    assert with_noise["noise_term"].mean() > plain["noise_term"].mean() + 0.1
    types = plain.drop(columns="noise_term")
    np.testing.assert_allclose(types.div(types.sum(axis=1), axis=0), model.get_proportions(), atol=1e-5)


def test_a_saved_model_needs_no_reference(model, tissue, tmp_path):
    model.save(tmp_path / "m")
    again = SpatialStereoscope.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.get_proportions(tissue[1]), model.get_proportions())
    for ours, theirs in zip(again.estimate_proportions(tissue[1]), model.estimate_proportions(), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    pd.testing.assert_frame_equal(again.get_genes(), model.get_genes())


def test_profiles_and_scales(model, reference, tissue):
    profiles, scale = reference.get_profiles(), model.get_scale_for_ct(["type2", "type0"])
    x, kind = tissue[0].X.toarray(), tissue[0].obs["cell_type"].to_numpy()
    shares = pd.DataFrame(x).groupby(kind).sum().to_numpy()
    assert np.corrcoef(profiles.to_numpy().ravel(), (shares / shares.sum(1, keepdims=True)).ravel())[0, 1] > 0.99
    assert list(scale.index) == ["type2", "type0"]
    ratio = scale.to_numpy() / profiles.loc[scale.index, scale.columns].to_numpy()
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=1e-4)  # a factor of the gene
    with pytest.raises(errors.ArgumentError, match="Did you mean 'type2'"):
        model.get_scale_for_ct("typ2")


def test_trained_as_scvi_tools_amounts_are_as_training_left_them(tissue, reference):
    model = SpatialStereoscope.from_rna_model(tissue[1], reference, start="random", augmentation=False)
    model.train(5, plan="scvi-tools", seed=0)
    left = model.get_proportions(refine=False)
    v = torch.nn.functional.softplus(model.module.V.weight.detach())[:, :-1]
    np.testing.assert_allclose(left, v / v.sum(1, keepdim=True), rtol=1e-5)
    assert np.abs(left - model.get_proportions()).to_numpy().max() > 0.05  # scvi-tools stops far from the optimum
    with pytest.raises(errors.ArgumentError, match="refine"):
        model.get_proportions(tissue[1].copy(), refine=False)


# ------------------------------------------------------------------ neighbours
def on_a_grid(alike=True, side=13):
    """Cells and spots; shares are those of a field over the tissue, or each spot's own (told by more counts); neighbours' sums."""
    cells, _ = spots(10, 300, 150, stored=0.4, seed=1)
    rng, place = np.random.default_rng(0), np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij"), -1).reshape(-1, 2)
    kinds = pd.Categorical(cells.obs["cell_type"])
    profiles = np.stack([np.asarray(cells.X[kinds.codes == z].mean(0)).ravel() for z in range(4)])
    profiles /= profiles.sum(1, keepdims=True)
    waves = np.stack([np.sin(place @ w) for w in ((0.4, 0), (0, 0.4), (0.3, 0.3), (0.3, -0.3))], 1)
    share = np.exp(1.5 * waves)[slice(None) if alike else rng.permutation(side**2)]
    share /= share.sum(1, keepdims=True)
    x = sparse.csr_matrix(rng.poisson((60 if alike else 600) * share @ profiles).astype(np.float32))
    near = kneighbors_graph(place, 8)
    tissue = anndata.AnnData(x, var=cells.var, layers={"smoothed": sparse.csr_matrix(near @ x)})
    return cells, tissue, share


@pytest.mark.parametrize("alike", [True, False])
def test_neighbours_are_believed_as_far_as_they_are_alike(reference, alike, tmp_path):
    _, tissue, share = on_a_grid(alike)
    found = {}
    for layer in (None, "smoothed"):
        model = SpatialStereoscope.from_rna_model(tissue, reference, anndata_setup_kwargs={"smoothed_layer": layer})
        model.train(20, seed=0)
        found[layer] = model.estimate_proportions()
    off = {layer: np.sqrt(((f.mean.to_numpy() - share) ** 2).mean()) for layer, f in found.items()}
    believed = float(model.module.nearby)
    if not alike:
        assert believed < 0.25 and off["smoothed"] < 1.05 * off[None]
        return
    assert 0.6 < believed < 0.95 and off["smoothed"] < 0.75 * off[None]
    covered = (found["smoothed"].lower <= share) & (share <= found["smoothed"].upper)
    assert 0.8 < covered.to_numpy().mean() < 0.99
    model.save(tmp_path / "m")
    again = SpatialStereoscope.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.get_proportions(tissue[7:19].copy()), model.get_proportions(indices=range(7, 19)), atol=1e-5)
    alone = tissue[7:19].copy()
    alone.layers["smoothed"] = sparse.csr_matrix(alone.layers["smoothed"].multiply(np.arange(12)[:, None] != 3))  # one without neighbours
    of_alone = model.get_proportions(alone)
    pd.testing.assert_frame_equal(of_alone.drop("10"), model.get_proportions(indices=range(7, 19)).drop("10"), atol=1e-5)
    del alone.layers["smoothed"]
    with pytest.raises(errors.SetupError, match="smoothed"):
        model.get_proportions(alone)


def test_shares_with_neighbours_are_between_a_spots_own_and_theirs(reference):
    _, tissue, _ = on_a_grid()
    model = SpatialStereoscope.from_rna_model(tissue, reference, anndata_setup_kwargs={"smoothed_layer": "smoothed"})
    model.train(3, seed=0)
    found = {}
    for of in (0.0, 0.25, 1.0):
        model.module.nearby.fill_(of)
        found[of] = model.estimate_proportions()
    around = tissue.copy()
    around.X = around.layers["smoothed"]
    np.testing.assert_allclose(found[1.0].mean, model.get_proportions(around), atol=1e-5)  # whose neighbours are what they are themselves
    np.testing.assert_allclose(found[0.25].mean, 0.75 * found[0.0].mean + 0.25 * found[1.0].mean, atol=1e-5)
    np.testing.assert_allclose(found[0.25].std, np.sqrt(0.75) * found[0.0].std, rtol=1e-4)
    assert (found[1.0].std == 0).all(axis=None)


def test_a_layer_of_means_that_cannot_be(reference):
    _, tissue, _ = on_a_grid()
    for wrong, what in ((np.nan, "NaN or infinite"), (-1.0, "negative")):
        bad = tissue.copy()
        bad.layers["smoothed"] = bad.layers["smoothed"].copy()
        bad.layers["smoothed"].data[:2] = wrong
        with pytest.raises(errors.DataError, match=rf"layers\['smoothed'\]: 2 stored values are {what}.*|Give means"):
            SpatialStereoscope.setup_anndata(bad, smoothed_layer="smoothed")
    with pytest.raises(errors.DataError, match="Did you mean 'smoothed'"):
        SpatialStereoscope.setup_anndata(tissue, smoothed_layer="smoothd")
    halves = tissue.copy()
    halves.X, halves.layers["smoothed"] = halves.X / 2, halves.layers["smoothed"] / 2
    with pytest.raises(errors.DataError, match=r"X: .* not a whole number") as told:  # of the counts, not of their means
        SpatialStereoscope.setup_anndata(halves, smoothed_layer="smoothed")
    assert "smoothed" not in str(told.value).partition("Models of counts")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of mudata's own
        data = MuData({"rna": tissue.copy()})
    SpatialStereoscope.setup_mudata(data, smoothed_layer="smoothed")
    assert SpatialStereoscope(data, cell_types=["a"], n_spots=data.n_obs).read()["smoothed"].size.sum() == tissue.layers["smoothed"].sum()


# ------------------------------------------------------------------ what cannot be
def test_genes_that_only_one_side_has_are_named(tissue, reference):
    own = tissue[1][:, 30:].copy()
    own.X = sparse.csr_matrix(own.X.multiply(np.arange(own.n_vars) != 3))
    new = anndata.AnnData(sparse.csr_matrix(np.ones((own.n_obs, 2), np.float32)), own.obs, pd.DataFrame(index=["x1", "x2"]))
    both = anndata.concat([own, new], axis=1, merge="first")
    model = SpatialStereoscope.from_rna_model(both, reference, augmentation=False)
    table = model.get_genes()
    why = table["left_out"].value_counts()
    assert why["not in the spots"] == 30 and why["not in the reference"] == 2
    assert table.loc["gene33", "left_out"] == "no counts in the spots"
    assert table["used"].sum() == len(model.setup.var_names)
    with pytest.warns(errors.DataWarning, match="So few"):
        SpatialStereoscope.from_rna_model(tissue[1][:, :60].copy(), reference)
    none = own.copy()
    none.var_names = [f"ENS{i}" for i in range(none.n_vars)]
    with pytest.raises(errors.DataError, match=r"share no gene.*gene0"):
        SpatialStereoscope.from_rna_model(none, reference)


def test_what_cannot_be(tissue, reference):
    SpatialStereoscope.setup_anndata(tissue[1])
    with pytest.raises(errors.SetupError, match="from_rna_model"):
        SpatialStereoscope(tissue[1])
    with pytest.raises(errors.NotTrainedError):
        SpatialStereoscope.from_rna_model(tissue[1], RNAStereoscope(tissue[0]))
    SCVI.setup_anndata(tissue[0])
    with pytest.raises(errors.ArgumentError, match="not of SCVI"):
        SpatialStereoscope.from_rna_model(tissue[1], SCVI(tissue[0]))
    with pytest.raises(errors.ArgumentError, match="labels_key is needed"):
        RNAStereoscope.setup_anndata(tissue[0])
    empty = tissue[1].copy()
    empty.X = sparse.csr_matrix(empty.X.multiply((np.arange(empty.n_obs) != 4)[:, None]))
    with pytest.raises(errors.DataError, match=r"1 cells have no counts, e.g. spot4"):
        SpatialStereoscope.from_rna_model(empty, reference, anndata_setup_kwargs={})
    elsewhere = tissue[1].copy()
    elsewhere.X = sparse.csr_matrix(elsewhere.X.multiply((np.arange(150) < 50) | (np.arange(elsewhere.n_obs) != 4)[:, None]))
    elsewhere.var_names = [f"other{i}" if i < 50 else gene for i, gene in enumerate(elsewhere.var_names)]
    with pytest.raises(errors.DataError, match=r"1 cells have no counts in the model's \d+ features, e.g. spot4"):
        SpatialStereoscope.from_rna_model(elsewhere, reference)
    absent = tissue[0].copy()
    absent.obs["cell_type"] = absent.obs["cell_type"].astype("category").cat.add_categories("ghost")
    RNAStereoscope.setup_anndata(absent, labels_key="cell_type")
    assert RNAStereoscope(absent).setup.categories["label"] == ["type0", "type1", "type2", "type3"]  # those that there are
    alone = tissue[0].copy()
    alone.obs["cell_type"] = alone.obs["cell_type"].astype(str).mask(np.arange(alone.n_obs) == 0, "rare")
    with pytest.warns(errors.DataWarning, match=r"fewer than 3 cells in rare \(1\)"):
        RNAStereoscope.setup_anndata(alone, labels_key="cell_type")
