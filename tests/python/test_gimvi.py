"""GIMVI: what of the models' contract is its own."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats
from scipy.special import expit

from scelbo import GIMVI, data, errors
from scelbo.data import Loader
from scelbo.data.dense import dense, seen_through
from scelbo.data.simulate import counts
from scelbo.train.options import PlanOptions

PANEL = [f"gene{g}" for g in range(3, 60, 3)]


def two(n=120, n_spatial=200, seed=0):
    """Dissociated cells of 60 genes, and spatial ones of the same types with every third of these."""
    whole = counts(n + n_spatial, 60, n_batches=2, stored=0.5, batch_effect=0.1, seed=seed)
    whole = whole[np.random.default_rng(0).permutation(whole.n_obs)]
    return whole[:n].copy(), whole[n:, PANEL[::-1]].copy()


def made(seq, spatial, keys=(("batch_key", "batch"),), **arguments):
    for adata in (seq, spatial):
        GIMVI.setup_anndata(adata, **dict(keys))
    return GIMVI(seq, spatial, **{"n_hidden": 16, "n_latent": 4} | arguments)


@pytest.fixture(scope="module")
def pair():
    return two()


@pytest.fixture(scope="module")
def model(pair):
    model = made(*pair)
    model.train(max_epochs=40, seed=0, plan_kwargs={"lr": 5e-3})
    return model


# ------------------------------------------------------------------ what it computes
def test_the_likelihood_is_that_of_the_measured_genes(pair):
    """Against scipy: ZINB of all genes, NB of the panel's, whose proportions sum to one over it; in a minibatch of both."""
    model = made(*pair, dispersion="gene", n_layers_decoder=1)
    module, rows = model.module.double(), [3, 150, 7, 200, 119, 120]
    with torch.no_grad():
        module.factors.table.normal_(generator=torch.Generator().manual_seed(0))
        cells = next(model.batches(indices=rows)).to(torch.float64)
        q = module.inference(cells)
        z = type(q)(*(d.mean for d in q))
        p = module.generative(z, cells).x
        hidden = torch.cat([module.decoder(z.z[[i]], cells.take(torch.tensor([i])), int(row >= 120)) for i, row in enumerate(rows)])
        h, pi = module.rho(hidden) + module.factors(cells), module.pi(hidden)
        theta, found = module.log_theta["all"].detach().exp().numpy(), p.log_prob(cells.x)
        scale = p.scale
    x, panel = cells.x.dense().numpy(), np.isin(model.setup.var_names, PANEL)
    for i, row in enumerate(rows):
        measured = panel if row >= 120 else np.ones(60, bool)
        rho = (h[i].exp() / h[i][measured].exp().sum()).numpy()
        np.testing.assert_allclose(scale[i], rho, rtol=1e-6)
        mu = rho * np.exp(z.log_l[i].item())
        nb = stats.nbinom.pmf(x[i], theta, theta / (theta + mu))
        structural = expit(pi[i].numpy()) if row < 120 else 0
        np.testing.assert_allclose(found[i].item(), np.log(structural * (x[i] == 0) + (1 - structural) * nb)[measured].sum(), rtol=1e-5)
    assert x[1][~panel].sum() == 0
    assert np.exp(z.log_l[1].item()) == pytest.approx(x[1].sum())  # observed; that of dissociated cells is latent


def test_minibatches_have_as_many_of_each_stream(pair):
    model = made(*pair)
    streams = model.streams()
    assert [len(s) for s in streams] == [120, 200]
    seen = [c.index.numpy() for c in Loader(model.read(), streams, 32, np.random.default_rng(0))]
    assert all(((i < 120).sum(), (i >= 120).sum()) in ((28, 28), (29, 29)) for i in seen)
    spans = {c.spans for c in Loader(model.read(), streams, 32, np.random.default_rng(0))}
    assert spans == {(28, 28), (29, 29)} and not any(c.spans for c in Loader(model.read(), np.arange(320), 32))
    times = np.bincount(np.concatenate(seen), minlength=320)
    assert (times[120:] == 1).all() and set(times[:120]) == {1, 2}
    assert len(Loader(model.read(), streams, 32)) == len(seen) == 7


def test_each_stream_is_split_by_itself(model):
    for part, share in ((model.train_indices, 0.9), (model.validation_indices, 0.1)):
        assert (part < 120).sum() == 120 * share and (part >= 120).sum() == 200 * share
    assert {"fooling_train", "adversary_train", "elbo_validation"} < set(model.history)


def test_batches_of_one_name_are_two_and_others_keep_theirs(pair):
    seq, spatial = pair
    assert made(seq, spatial).setup.categories["batch"] == ["seq: batch0", "seq: batch1", "spatial: batch0", "spatial: batch1"]
    assert made(seq, spatial, keys=()).setup.categories["batch"] == ["seq", "spatial"]
    renamed = spatial.copy()
    renamed.obs["batch"] = "section"
    assert made(seq, renamed).setup.categories["batch"] == ["batch0", "batch1", "section"]


# ------------------------------------------------------------------ what it answers
def test_answers_come_for_each_data_set_and_new_cells_of_either(pair, model):
    seq, spatial = pair
    for ask in (model.get_latent_representation, model.get_imputed_values):
        both = ask()
        assert [len(values) for values in both] == [120, 200]
        for i, part in enumerate((seq, spatial)):
            np.testing.assert_allclose(ask(part), both[i], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(ask(part[10:15].copy(), [1, 0]), both[i][[11, 10]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ask(indices=[130, 2]), [both[1][10], both[0][2]], rtol=1e-4, atol=1e-5)
    means, variances = zip(*model.get_latent_representation(return_dist=True), strict=True)
    assert [m.shape == v.shape for m, v in zip(means, variances, strict=True)] == [True, True]
    assert np.isfinite(model.get_elbo(spatial)) and np.isfinite(model.get_marginal_ll(seq, n_mc_samples=20))


def test_modes_of_imputation(pair, model):
    own, dissociated, counted = (
        model.get_imputed_values(**how)[1] for how in ({}, {"decode_mode": "seq"}, {"normalized": False, "decode_mode": "spatial"})
    )
    panel = np.isin(model.setup.var_names, PANEL)
    np.testing.assert_allclose(own[:, panel].sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(dissociated.sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(model.get_imputed_values(pair[1], decode_mode=0), dissociated, rtol=1e-4)
    np.testing.assert_allclose(counted[:, panel].sum(1), np.asarray(pair[1].X.sum(1)).ravel(), rtol=1e-3)
    drawn = [model.get_imputed_values(pair[1], deterministic=False, seed=s) for s in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2], rtol=1e-3)


def test_imputation_comes_with_uncertainty(pair, model):
    found = model.impute(["gene1", "gene3"], n_samples=200, interval=0.8, seed=0)
    assert list(found.mean) == ["gene1", "gene3"] and len(found.mean) == 200
    assert ((found.lower <= found.mean) & (found.mean <= found.upper)).to_numpy().mean() > 0.99
    assert (found.std > 0).all(axis=None)
    wider = model.impute(["gene1"], n_samples=200, interval=0.95, seed=0)
    assert (wider.upper >= found.upper[["gene1"]]).all(axis=None)
    drawn = model.get_normalized_expression(pair[1], gene_list=["gene1", *PANEL], n_samples=200, seed=1)
    np.testing.assert_allclose(found.mean["gene1"].mean(), drawn["gene1"].mean(), rtol=0.05)
    for of in (None, "seq", 1):
        np.testing.assert_allclose(model.impute(PANEL, measured_by=of, n_samples=5).mean.sum(axis=1), 1, rtol=1e-4)  # units of the panel
    assert list(model.impute(n_samples=2).mean) == [g for g in model.setup.var_names if g not in PANEL]
    sized = model.impute(["gene1"], adata=pair[1], indices=[4, 2], library_size="latent", n_samples=200, seed=0)
    assert list(sized.mean.index) == list(pair[1].obs_names[[4, 2]])
    ratio = sized.mean["gene1"].to_numpy() / found.mean["gene1"].to_numpy()[[4, 2]]
    np.testing.assert_allclose(ratio, np.asarray(pair[1].X.sum(1)).ravel()[[4, 2]], rtol=0.2)


def test_unmeasured_genes_follow_the_truth():
    """Genes that were struck from the spatial data are found again, a good part of the way to the means of their types."""
    whole = counts(700, 60, n_types=3, n_batches=1, stored=0.7, seed=3)
    seq, spatial = whole[:300].copy(), whole[300:].copy()
    held = [g for g in spatial.var_names if g not in PANEL and spatial[:, g].X.mean() > 3]
    model = made(seq, spatial[:, PANEL].copy(), keys=(), n_hidden=64)
    model.train(max_epochs=150, seed=0)
    size = np.asarray(spatial.X.sum(1))
    truth = pd.DataFrame(spatial[:, held].X.toarray() / size, columns=held, index=spatial.obs["cell_type"].to_numpy())
    means = truth.groupby(level=0).mean()
    of_type, between = means.loc[truth.index], means.std() / truth.mean()
    best = {g: stats.spearmanr(of_type[g], truth[g]).statistic for g in held}  # by who knows the types and their means
    assert sum(found > 0.4 for found in best.values()) >= 5
    differ = list(between.index[between > 0.3])
    found = model.impute(differ, n_samples=30).mean
    assert np.median([stats.spearmanr(found[g], truth[g]).statistic / best[g] for g in differ]) > 0.4


def test_a_model_opens_with_both_data_sets_or_the_saved_ones(pair, model, tmp_path):
    model.save(tmp_path / "a", save_anndata=True)
    model.save(tmp_path / "b")
    for again in (
        GIMVI.load(tmp_path / "a"),
        GIMVI.load(tmp_path / "b", *pair),
        GIMVI.load(tmp_path / "b", adata_seq=pair[0], adata_spatial=pair[1]),
    ):
        assert again.get_elbo(seed=1) == model.get_elbo(seed=1)
        np.testing.assert_array_equal(again.train_indices, model.train_indices)
        again.train(max_epochs=1)
    assert GIMVI.load(tmp_path / "b").get_latent_representation(pair[1]).shape == (200, 4)


def test_questions_of_all_models_answer(model):
    assert model.minify().get_imputed_values()[1] == pytest.approx(model.get_imputed_values()[1], rel=1e-4)
    assert model.posterior_predictive_sample(gene_list=["gene0", "gene1"]).shape == (320, 2)
    parameters = model.get_likelihood_parameters(indices=[0, 319])
    assert np.isfinite(parameters["dropout"][0]).all() and (parameters["dropout"][1] == -np.inf).all()
    assert model.get_feature_correlation_matrix(gene_list=["gene0", "gene1"], n_samples=2).shape == (2, 2)
    table = model.differential_expression(groupby="cell_type", group1="type0", n_samples_overall=100, mode="change", batch_correction=True)
    assert table["proba_de"].between(0, 1).all() and len(table) == 60
    assert model.get_reconstruction_error()["reconstruction_loss"] > 0


# ------------------------------------------------------------------ training
def test_as_scvi_tools_trains():
    assert GIMVI.plans["scvi-tools"] == PlanOptions(n_epochs_kl_warmup=400, scale_adversarial_loss=5.0)


def test_dissociated_cells_are_seen_through_the_panel(pair):
    """As a part of what is minimised in training, and nowhere else: the spatial head learns from them, the ELBO is that of the paper."""
    found = {}
    for seen in (True, False):
        model = made(*pair, panel_view=seen)
        cells = next(model.batches(indices=np.arange(40)))  # dissociated
        with torch.random.fork_rng():
            torch.manual_seed(0)
            assert "panel" not in model.module(cells).penalty
            model.module.train()(cells).total().backward()
        grad = model.module.encoder.heads[1].linear[0].weight.grad
        found[seen] = 0.0 if grad is None else float(grad.abs().sum())
        assert len(model.module.encoder.standard[0].running_mean) == 2 + seen
    assert found[True] > 0 and found[False] == 0


def test_the_panels_genes_are_read_at_one_scale(pair):
    """A gene that one technology counts ten times better makes no difference to where its cells are, once the norms know it."""
    model = made(*pair)
    encoder = model.module.encoder.train()
    x = next(model.batches(indices=np.arange(120, 200))).x.only(model.module.panel(1))
    read = encoder.standard[0](x.scaled(x.n_vars / x.size).map(torch.log1p).dense(), 1)
    counted = x.dense().std(0) > 0
    assert counted.sum() >= 15
    torch.testing.assert_close(read.mean(0), torch.zeros(19), atol=1e-5, rtol=0)
    torch.testing.assert_close(read.std(0, unbiased=False)[counted], torch.ones(int(counted.sum())), atol=1e-2, rtol=0)


def test_counts_with_their_zeros_are_read_alike(pair):
    """As a GPU reads them: dissociated cells through the panel, among them one of which it shows nothing; and minibatches of both."""
    seq = pair[0].copy()
    seq.X = sparse.csr_matrix(seq.X.toarray() * ~(np.arange(120)[:, None] == 5) + (np.arange(60) == 0))
    model = made(seq, pair[1])
    encoder, panel = model.module.encoder, model.module.panel(1)
    x = next(model.batches(indices=np.arange(40))).x
    assert int(x.within(panel).size[5]) == 0
    read = [encoder(seen_through(counted, panel), 1, 2).loc for counted in (x, dense(x))]
    assert read[0].isfinite().all()
    torch.testing.assert_close(*read)
    cells = next(iter(Loader(model.read(), model.streams(), 32)))
    torch.testing.assert_close(*(model.module.inference(some).z.loc for some in (cells, dense(cells))))


# ------------------------------------------------------------------ what is refused
def test_genes_that_were_not_dissociated_are_named(pair):
    seq, spatial = pair
    strange = spatial.copy()
    strange.var_names = ["Blank1", "Blank2", *spatial.var_names[2:]]
    with pytest.raises(
        errors.DataError, match=r"(?s)2 of the 19 features of the spatial data are not in the seq data: Blank1, Blank2.*Leave them out"
    ):
        made(seq, strange)


def test_the_users_data_stay_as_they_were(pair):
    seq, spatial = (a.copy() for a in pair)
    before = [a.copy() for a in (seq, spatial)]
    made(seq, spatial).train(max_epochs=1)
    for old, new in zip(before, (seq, spatial), strict=True):
        pd.testing.assert_frame_equal(new.obs, old.obs)
        assert list(new.var_names) == list(old.var_names) and (new.X != old.X).nnz == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"generative_distributions": ["nb"]}, "generative_distributions=.* a pair"),
        ({"generative_distributions": ["nb", "gauss"]}, "'gauss' is not allowed"),
        ({"model_library_size": [1, 0]}, "must be True or False"),
        ({"n_layer_decoder": 2}, "n_layer_decoder.*Did you mean 'n_layers_decoder'"),
        ({"dispersion": "gene-label"}, "needs labels"),
    ],
)
def test_what_makes_no_sense_is_refused(pair, arguments, said):
    with pytest.raises(errors.ArgumentError, match=f"(?s){said}"):
        made(*pair, **arguments)


def test_cells_that_cannot_be_read(pair, model):
    seq, spatial = pair
    with pytest.raises(errors.SetupError, match="two data sets"):
        GIMVI(seq)
    with pytest.raises(errors.SetupError, match="the same object"):
        GIMVI(seq, seq)
    with pytest.raises(errors.SetupError, match=r"GIMVI\.setup_anndata"):
        GIMVI(counts(20, 10), spatial)
    with pytest.raises(errors.DataError, match=r"(?s)lack features of every data set.*spatial: 1 are missing, e.g. gene57"):
        model.get_elbo(spatial[:, 1:].copy())
    other = spatial.copy()
    other.obs["batch"] = "batch00"
    with pytest.raises(errors.DataError, match=r"batch of the spatial data 'batch00' is unknown. Did you mean 'batch0'"):
        model.get_elbo(other)
    empty = spatial.copy()
    empty.X = sparse.csr_matrix(np.where(np.arange(200)[:, None] == 3, 0, empty.X.toarray()))
    with pytest.raises(errors.DataError, match="1 cells of the spatial data have no counts"):
        model.get_elbo(empty)
    with pytest.raises(errors.ArgumentError, match="Did you mean 'gene30'"):
        model.impute(["gene300"])
    with pytest.raises(errors.ArgumentError, match=r"data set 'spacial' is unknown\. Did you mean 'spatial'"):
        model.get_imputed_values(decode_mode="spacial")
    with pytest.raises(errors.ArgumentError, match="interval=90"):
        model.impute(["gene1"], interval=90)
    with pytest.raises(errors.ArgumentError, match="3 data sets"):
        model.get_elbo([seq, spatial, spatial])
    with pytest.raises(errors.ArgumentError, match="as an AnnData"):
        data.kind_of(model.setup.sources, spatial.X)
