"""Models written in Pyro: their ELBO is Pyro's, their posterior the true one, and they are kept like any other."""

import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from model_examples import example
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import stats

from scelbo import AmortizedLDA, errors, settings
from scelbo.data.simulate import counts
from scelbo.likelihoods import Mean, Poisson
from scelbo.model import MODELS
from scelbo.nn import GaussianEncoder
from scelbo.pyro import PyroModel, PyroModule, explains

TopicModel = example("pyro_lda").TopicModel


class Rates(PyroModule):
    """Rate of each gene ~ Gamma(1, 1): its posterior is Gamma(1 + sum of counts, 1 + number of cells)."""

    def model(self, cells):
        rate = pyro.sample("rate", dist.Gamma(torch.ones(cells.x.n_vars), 1.0).to_event(1))
        pyro.deterministic("doubled", 2 * rate, event_dim=1)
        with self.plate(cells):
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=cells.x.dense())


class Depths(PyroModule):
    """Every cell's own depth ~ LogNormal, and a factor of each gene, with parameters for each cell."""

    def model(self, cells):
        rho = pyro.sample("rho", dist.Dirichlet(torch.ones(cells.x.n_vars)))
        with self.plate(cells):
            depth = pyro.sample("depth", dist.LogNormal(4.0, 1.0).expand([len(cells)]))
            pyro.deterministic("log_depth", depth.log(), event_dim=0)
            explains("x", Poisson(Mean(rho.log().expand(len(cells), -1), depth.log()[:, None])), cells.x)


class Encoded(Rates):
    """The same rates in other words: an encoded latent, and the guide that Pyro makes of the rest."""

    def __init__(self, genes):
        super().__init__()
        self.encoder = GaussianEncoder(genes, 2, n_hidden=4, n_layers=1)
        self.auto = AutoNormal(poutine.block(self.model, hide=["z"]), create_plates=self.plate)

    def model(self, cells):
        rate = pyro.sample("rate", dist.Gamma(torch.ones(cells.x.n_vars), 1.0).to_event(1))
        with self.plate(cells):
            pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=cells.x.dense())

    def guide(self, cells):
        self.auto(cells)
        with self.plate(cells):
            pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))

    def observe(self, data):
        super().observe(data)
        with settings.private_seed():
            self.auto(data.take(np.arange(len(data))))


def made(module, adata, **arguments):
    """An untrained model of a module."""

    class Made(PyroModel):
        def build(self, setup):
            return module(**arguments)

    Made.setup_anndata(adata)
    return Made(adata)


@pytest.fixture(autouse=True)
def gone():
    yield
    MODELS.pop("Made", None)


@pytest.fixture
def few():
    return counts(150, 12, stored=0.6, seed=1)


def posterior_of(adata):
    """Of each gene's rate under Rates."""
    x = adata.X.toarray()
    return stats.gamma(1 + x.sum(0), scale=1 / (1 + len(x)))


def fitted(model, epochs, lr):
    """By all cells at once, ever slower, so that what is left of the gradient's noise is small."""
    for pace in (1, 0.3, 0.1):
        plan = {"lr": lr * pace, "eps": 1e-8, "weight_decay": 0, "n_epochs_kl_warmup": 1}
        model.train(max_epochs=epochs, seed=0, batch_size=150, train_size=1.0, plan_kwargs=plan)
    return model


def test_the_posterior_is_the_true_one(few):
    model = fitted(made(Rates, few), 60, 0.1)
    told = model.sample_posterior(n_samples=4000, sites=["rate", "doubled"], quantiles=[0.05, 0.95], seed=1)
    true = posterior_of(few)
    assert np.abs((told["rate"]["mean"] - true.mean()) / true.std()).max() < 0.7
    np.testing.assert_allclose(told["rate"]["sd"], true.std(), rtol=0.4)
    for name, at in (("q05", 0.05), ("q95", 0.95)):
        assert np.abs((told["rate"][name] - true.ppf(at)) / true.std()).max() < 0.9
    np.testing.assert_allclose(told["doubled"]["mean"], 2 * told["rate"]["mean"], rtol=1e-5)


@pytest.mark.parametrize("kind", [Rates, Depths, "topics"])
@pytest.mark.parametrize("bound", [TraceMeanField_ELBO, Trace_ELBO])
def test_the_elbo_is_pyros(few, kind, bound):
    """Of a minibatch, scaled to all cells; Trace_ELBO estimates the KL, so that only the mean of many draws agrees."""
    if kind == "topics":
        TopicModel.setup_anndata(few)
        model = TopicModel(few, n_topics=3, n_hidden=8)
    else:
        model = made(kind, few)
    cells, module = next(model.batches(indices=np.arange(20, 80))), model.module
    exact, n = bound is TraceMeanField_ELBO and kind == "topics", 1 if kind == "topics" and bound is TraceMeanField_ELBO else 120
    with torch.random.fork_rng():
        ours, theirs = [], []
        with torch.no_grad():
            for i in range(n):
                torch.manual_seed(i)
                ours.append(float(module(cells).total(n_cells=150)))
                torch.manual_seed(i if exact else i + n)
                theirs.append(bound().loss(module.model, module.guide, cells) / 150)
    if exact:
        assert ours == pytest.approx(theirs, rel=1e-5)
    else:
        spread = (np.var(ours) / n + np.var(theirs) / n) ** 0.5
        assert abs(np.mean(ours) - np.mean(theirs)) < max(4 * spread, 1e-4 * abs(np.mean(ours)))


def test_lda_in_pyro_is_the_native_one(few):
    AmortizedLDA.setup_anndata(few)
    TopicModel.setup_anndata(few)
    native, same = (kind(few, n_topics=3, n_hidden=8) for kind in (AmortizedLDA, TopicModel))
    same.module.encoder.load_state_dict(native.module.z.state_dict())
    with torch.no_grad():
        same.module.free.loc["phi"].copy_(native.module.topic_mean)
        same.module.free.raw_sd["phi"].copy_(native.module.topic_sd)
        cells = next(native.batches(indices=np.arange(40)))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            guide = poutine.trace(same.module.guide).get_trace(cells)
            torch.manual_seed(0)
            ours = same.module(cells)
        q = native.module.inference(cells)
        z = type(q)(*(guide.nodes[name]["value"] for name in q._fields))
        theirs = native.module.loss(cells, q, z, native.module.generative(z, cells))
    torch.testing.assert_close(ours.nll["x"], theirs.nll["x"])
    torch.testing.assert_close(ours.kl["z"], theirs.kl["z"])
    torch.testing.assert_close(ours.kl_global["phi"], theirs.kl_global["phi"])


def test_lda_in_pyro_learns_the_same_topics():
    adata = counts(300, 40, n_types=3, n_batches=1, stored=0.6, seed=2)
    topics = {}
    AmortizedLDA.setup_anndata(adata)
    TopicModel.setup_anndata(adata)
    native, same = (kind(adata, n_topics=3, n_hidden=16) for kind in (AmortizedLDA, TopicModel))
    same.module.free.loc["phi"].data.copy_(native.module.topic_mean.data)  # else each may find its topics in another order
    for kind, model in ((AmortizedLDA, native), (TopicModel, same)):
        model.train(max_epochs=40, seed=0)
        topics[kind] = model.get_feature_by_topic(seed=0)
        shares = model.get_latent_representation(seed=0)
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-4)
    correlation = np.corrcoef(topics[AmortizedLDA].T, topics[TopicModel].T)[:3, 3:]
    assert correlation.diagonal().min() > 0.97, correlation
    assert correlation.diagonal().min() > correlation[~np.eye(3, dtype=bool)].max()


def test_each_cell_may_have_parameters_of_its_own(few, tmp_path):
    model = fitted(made(Depths, few), 40, 0.1)
    told = model.sample_posterior(n_samples=300, seed=1, batch_size=40)
    assert list(told) == ["rho", "depth"]
    depth = few.X.toarray().sum(1)
    assert list(told["depth"]["mean"].index) == list(few.obs_names) and list(told["depth"]["mean"].columns) == ["depth"]
    assert np.corrcoef(np.log(told["depth"]["mean"].to_numpy().ravel()), np.log(depth))[0, 1] > 0.95
    np.testing.assert_allclose(told["rho"]["mean"].sum(), 1, rtol=1e-4)
    with pytest.raises(errors.ArgumentError, match="depth have parameters for each cell"):
        model.get_elbo(few[:20].copy())
    model.save(tmp_path / "model")
    again = type(model).load(tmp_path / "model", few)
    assert again.get_elbo(seed=3) == model.get_elbo(seed=3)
    without = type(model).load(tmp_path / "model")
    with pytest.raises(errors.SetupError, match="without data"):
        without.sample_posterior()


def test_draws_go_together_over_minibatches(few):
    model = fitted(made(Depths, few), 3, 0.05)
    order = [17, 3, 3, 90, 0]
    sites = ["rho", "depth", "log_depth", "x"]
    told = model.sample_posterior(indices=order, sites=sites, n_samples=6, return_samples=True, batch_size=2, seed=4)
    draws = {name: told[name]["samples"] for name in sites}
    assert [draws[name].shape for name in sites] == [(6, 12), (6, 5), (6, 5), (6, 5, 12)]
    np.testing.assert_allclose(draws["log_depth"], np.log(draws["depth"]), rtol=1e-4)
    expected = draws["depth"][:, :, None] * draws["rho"][:, None]
    assert ((draws["x"] - expected) ** 2 / expected).mean() == pytest.approx(1, abs=0.3)  # Poisson's variance
    assert (draws["x"] == draws["x"].round()).all()
    many = model.sample_posterior(sites="depth", n_samples=500, seed=0)["depth"]
    few_told = model.sample_posterior(sites="depth", n_samples=500, indices=order, seed=1)["depth"]
    np.testing.assert_allclose(few_told["q50"], many["q50"].iloc[order], rtol=0.1)


def test_a_guide_of_pyros_own_works(few):
    model = fitted(made(Encoded, few, genes=12), 40, 0.1)
    told = model.sample_posterior(n_samples=200, seed=1)
    true = posterior_of(few)
    assert np.abs((told["rate"]["mean"] - true.mean()) / true.std()).max() < 0.9
    assert told["z"]["mean"].shape == (150, 2)
    assert float(model.history["kl_global_train"].iloc[-1, 0]) > 0


def test_what_is_wrong_is_said(few):
    class Forgets(Rates):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def guide(self, cells):
            pass

    with pytest.raises(errors.ArgumentError, match="no q for the latent 'rate'"):
        made(Forgets, few).train(max_epochs=1)
    model = made(Rates, few)
    with pytest.raises(errors.NotTrainedError):
        model.sample_posterior()
    model.train(max_epochs=1)
    with pytest.raises(errors.ArgumentError, match=r"site 'rates' is unknown\. Did you mean 'rate'"):
        model.sample_posterior(sites="rates")
    with pytest.raises(errors.ArgumentError, match="from 0 to 1"):
        model.sample_posterior(quantiles=[5])
    with pytest.raises(errors.ArgumentError, match="above zero"):
        model.sample_posterior(n_samples=0)
    with pytest.raises(TypeError, match="must say its model"):
        made(PyroModule, few)


def test_without_pyro_it_is_said_what_to_install():
    code = "import sys; sys.modules['pyro'] = None\ntry:\n    import scelbo.pyro\nexcept ImportError as e:\n    print(type(e).__name__, e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("BackendError") and "pip install 'scelbo[pyro]'" in done.stdout
