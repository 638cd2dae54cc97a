"""CellAssign: what of the models' contract is its own."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from scipy.special import logsumexp
from scipy.stats import dirichlet, nbinom, norm

from scelbo import CellAssign, errors
from scelbo.data.markers import markers_of
from scelbo.likelihoods.trend import LEAST, Trend, log_prob

TYPES = ("A", "B", "C", "other")


def simulated(n_cells=600, n_markers=5, n_others=60, fold=2.5, seed=0):
    """Cells of three types with markers of their own, one gene that marks two of them, and cells of no type."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(0, [f"m{i}" for i in range(3 * n_markers)], list(TYPES))
    for c in range(3):
        table.iloc[c * n_markers : (c + 1) * n_markers, c] = 1
    table.loc["m0", "B"] = 1
    kind, size = rng.integers(4, size=n_cells), rng.lognormal(0, 0.4, n_cells)
    level = rng.normal(-1.5, 0.7, len(table))
    delta = rng.normal(fold, 0.2, table.shape)
    mu = size[:, None] * np.exp(level + (delta * table.to_numpy()).T[kind])
    others = size[:, None] * rng.gamma(2, 1, n_others)
    x = rng.poisson(rng.gamma(3, np.hstack([mu, others]) / 3)).astype(np.float32)
    adata = AnnData(sparse.csr_matrix(x), var=pd.DataFrame(index=[*table.index, *(f"g{i}" for i in range(n_others))]))
    adata.obs["kind"] = pd.Categorical.from_codes(kind, TYPES)
    adata.obs["size"], adata.obs["batch"] = size, rng.choice(["x", "y"], n_cells)
    return adata[:, rng.permutation(adata.n_vars)].copy(), table, delta


@pytest.fixture(scope="module")
def fitted():
    adata, table, delta = simulated()
    CellAssign.setup_anndata(adata)
    model = CellAssign(adata, table)
    model.train(seed=0, progress=False)
    return model, table, delta


def untrained(**arguments):
    adata, table, _ = simulated(40)
    adata.obs["site"], adata.obs["age"] = np.resize(["u", "v", "w"], 40), np.linspace(-1, 1, 40)
    CellAssign.setup_anndata(adata, batch_key="batch", categorical_covariate_keys=["site"], continuous_covariate_keys=["age"])
    model = CellAssign(adata, table, **arguments)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=source))
    model.is_trained = True
    return model, table


def by_the_equations(model, table):
    """log (theta_c p(x_n | c)), cells x types, by scipy, one type after another."""
    m, adata, genes = model.module.double(), model.adata, list(model.setup.var_names)
    n = lambda t: t.detach().double().numpy()  # noqa: E731
    x, table = adata[:, genes].X.toarray(), table.loc[genes]
    total = np.asarray(adata.X.sum(1)).ravel()
    rows = {shift.covariate: n(shift.rows()) for shift in m.shifts}
    level = np.log(total / total.mean())[:, None] + n(m.b) + n(m.slope)[0] * adata.obs["age"].to_numpy(np.float32)[:, None]
    for name, column in (("batch", "batch"), ("extra.site", "site")):
        level = level + rows[name][pd.Categorical(adata.obs[column].astype(str)).codes]
    effects = model.get_marker_effects().pivot(index="gene", columns="cell_type", values="log_fold_change")
    delta = effects.reindex(index=genes, columns=table.columns).fillna(0).to_numpy()
    centre, a = np.linspace(0, x.max(), len(m.log_a)), np.exp(n(m.log_a))
    out = []
    for c in range(table.shape[1]):
        mu = np.exp(level + delta[:, c])
        phi = LEAST + (a * np.exp(-((mu[..., None] - centre) ** 2) / (2 * centre[1] ** 2))).sum(-1)
        out.append(nbinom.logpmf(x, phi, phi / (phi + mu)).sum(1))
    return np.stack(out, 1) + n(m.theta.log_softmax(0))


def test_the_loss_is_what_the_equations_say():
    model, table = untrained()
    joint = by_the_equations(model, table)
    (cells,) = model.batches()
    with torch.no_grad():
        loss, m = model.module(cells.to(torch.float64)), model.module
    np.testing.assert_allclose(-loss.nll["x"], logsumexp(joint, axis=1), rtol=1e-5)
    share = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(loss.penalty["entropy"].item(), -(share * np.log(share.clip(1e-300))).sum(1).mean(), rtol=1e-4)
    theta, mean, log_variance = m.theta.softmax(0).detach().numpy(), m.delta_mean.item(), m.delta_log_variance.item()
    assert float(loss.kl_global["theta"]) == pytest.approx(-dirichlet.logpdf(theta / theta.sum(), np.full(4, 1e-2)), rel=1e-6)
    prior = norm(mean, math.exp(log_variance / 2))
    assert float(loss.kl_global["delta"]) == pytest.approx(-prior.logpdf(np.log(m.delta().detach().numpy())).sum(), rel=1e-6)
    n = len(cells)
    expected = loss.nll["x"].mean() + (loss.kl_global["theta"] + loss.kl_global["delta"]) / n
    assert float(loss.total(n_cells=n, weights=model.plan.weights(1.0))) == pytest.approx(float(expected))  # the entropy does not count
    model.module.float()
    np.testing.assert_allclose(model.predict(), share, atol=1e-5)


def test_the_gradient_is_that_of_em():
    """Of minus E[log (theta_c p(x | c))] with the responsibilities held fixed."""
    model, _ = untrained()
    (cells,), m = model.batches(), model.module
    m(cells).nll["x"].sum().backward()
    direct = {name: p.grad.clone() for name, p in m.named_parameters() if p.grad is not None}
    m.zero_grad()
    explained = m.explained(cells)
    joint = m.log_joint(explained)
    (-(joint.softmax(1).detach() * joint).sum() - explained.nothing.sum()).backward()
    assert {"b", "log_delta", "log_a", "theta", "slope"} <= set(direct)
    for name, gradient in direct.items():
        torch.testing.assert_close(dict(m.named_parameters())[name].grad, gradient, rtol=1e-4, atol=1e-4)


def test_the_likelihood_against_scipy_and_finite_differences():
    rng = np.random.default_rng(0)
    log_mu = torch.from_numpy(rng.normal(0.5, 1.5, (7, 5))).requires_grad_()
    x = torch.from_numpy(rng.poisson(np.exp(log_mu.detach().numpy())).astype(float))
    trend = Trend(torch.from_numpy(rng.normal(0, 0.7, 6)).requires_grad_(), torch.linspace(0, 12, 6, dtype=torch.float64))
    phi, mu = trend.phi(log_mu.exp()).detach().numpy(), log_mu.detach().exp().numpy()
    value = log_prob(x, log_mu, trend) - torch.lgamma(x + 1)
    np.testing.assert_allclose(value.detach(), nbinom.logpmf(x, phi, phi / (phi + mu)), rtol=1e-9)
    assert torch.autograd.gradcheck(lambda m, a: log_prob(x, m, trend._replace(log_a=a)), (log_mu, trend.log_a))


def test_the_work_is_done_in_parts_and_nothing_changes(monkeypatch):
    model, _ = untrained()
    (cells,), gradients = model.batches(), []
    for at_once in (2**17, 50):
        monkeypatch.setattr("scelbo.likelihoods.trend.VALUES_AT_ONCE", at_once)
        model.module.zero_grad()
        model.module(cells).total().backward()
        gradients.append([p.grad.clone() for p in model.module.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_types_and_effects_are_found(fitted):
    model, table, delta = fitted
    truth = model.adata.obs["kind"]
    found = model.predict(soft=False)
    assert list(found.cat.categories) == list(TYPES) and (found.astype(str) == truth.astype(str)).mean() > 0.94
    assert (model.predict(soft=False, indices=[5, 2]) == found.iloc[[5, 2]]).all()
    shares = pd.Series(model.module.theta.softmax(0).detach().numpy(), TYPES)
    assert (shares - truth.value_counts(normalize=True)).abs().max() < 0.03
    effects = model.get_marker_effects()
    assert list(effects.columns) == ["gene", "cell_type", "log_fold_change", "level"] and len(effects) == table.to_numpy().sum()
    planted = pd.DataFrame(delta, table.index, table.columns)
    expected = [planted.loc[g, c] for g, c in zip(effects["gene"], effects["cell_type"], strict=True)]
    assert np.abs(effects["log_fold_change"] - expected).mean() < 0.15
    assert {"elbo_validation", "entropy_validation", "kl_global_train"} <= set(model.history)
    assert model.trained_epochs < 400 and model.get_elbo() == pytest.approx(
        -model.history["reconstruction_loss_train"].iloc[-1, 0], rel=0.02
    )


def test_answers_carry_the_cells_names_and_do_not_depend_on_the_other_cells(fitted):
    model, _, _ = fitted
    whole = model.predict()
    assert list(whole.index) == list(model.adata.obs_names) and list(whole.columns) == list(TYPES)
    np.testing.assert_allclose(whole.sum(1), 1, rtol=1e-6)
    new = model.adata[[9, 3]].copy()[:, ::-1].copy()
    new.obs_names = ["nine", "three"]
    answer = model.predict(new)
    assert list(answer.index) == ["nine", "three"]
    np.testing.assert_allclose(answer, whole.iloc[[9, 3]], rtol=1e-4, atol=1e-7)


def test_library_sizes_are_of_all_genes_and_cells_without_markers_are_welcome(fitted, tmp_path):
    model, table, _ = fitted
    adata = model.adata.copy()
    assert model.setup.n_vars == len(table) and set(model.setup.var_names) == set(table.index)
    np.testing.assert_allclose(model.read()["x"].size[:, 0], np.asarray(adata.X.sum(1)).ravel())
    bare = adata.copy()
    bare.X = bare.X.multiply(~bare.var_names.isin(table.index)).tocsr()
    assert (model.predict(bare)["other"] > 0.9).mean() > 0.9
    given = adata.copy()
    given.obs["mine"] = np.asarray(adata.X.sum(1)).ravel() / float(adata.X.sum(1).mean())
    CellAssign.setup_anndata(given, size_factor_key="mine")
    same = CellAssign(given, table)
    torch.testing.assert_close(same.module.b, CellAssign(adata, table).module.b)
    model.save(tmp_path / "m")
    assert CellAssign.load(tmp_path / "m").cell_type_markers == model.cell_type_markers


def test_an_effect_of_the_batch_is_told_from_types():
    adata, table, _ = simulated(800, fold=1.5)
    kind, deep = adata.obs["kind"], (adata.obs["batch"] == "x").to_numpy()
    x = adata.X.toarray()
    ours = adata.var_names.isin(table.index[table["A"] == 1])
    x[np.ix_(deep, ours)] *= 6
    adata.X = sparse.csr_matrix(x)
    right = {}
    for keys in ({}, {"batch_key": "batch"}):
        CellAssign.setup_anndata(adata, size_factor_key="size", **keys)
        model = CellAssign(adata, table)
        model.train(seed=0)
        right[len(keys)] = (model.predict(soft=False).astype(str) == kind.astype(str)).mean()
    assert right[1] > right[0] + 0.05


def test_a_table_a_dict_and_a_table_in_another_order_are_the_same():
    adata, table, _ = simulated(100)
    CellAssign.setup_anndata(adata)
    as_dict = {kind: list(table.index[table[kind] == 1]) for kind in table}
    losses = []
    for markers in (table, table.iloc[::-1].astype(bool), as_dict, {**as_dict, "other": None}):
        model = CellAssign(adata, markers)
        model.train(5, seed=1)
        losses.append(model.predict())
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-4, atol=1e-6)


def changed(**cells):
    table = simulated(20)[1].astype(object)
    for gene, value in cells.items():
        table.loc[gene, "A"] = value
    return table


@pytest.mark.parametrize(
    ("markers", "said"),
    [
        (None, "cell_type_markers is needed"),
        (changed(m3=2), "2 for gene m3 and type A: it must be 0 or 1"),
        (changed(m3=float("nan")), "nan for gene m3"),
        (changed().rename(index={"m1": "m2"}), "genes more than once: m2"),
        (changed().rename(columns={"B": "A"}), "types more than once: A"),
        (changed().rename(columns={"other": "D"}), "D: no gene marks it .only a type called 'other' may have none"),
        ({"A": ["m0"]}, "1 types: there is nothing to tell apart"),
        ({"A": ["m0", "m0"], "B": ["m1"]}, "A: m0 more than once"),
        ({"A": ["m0"], "other": [], "Unknown": []}, "more than one type without markers"),
        ({"A": ["m0", "m1"], "B": ["M3"]}, r"M3 is not in adata.var_names. Did you mean 'm3'\?"),
        ({"A": ["m0", "m1", "m2", "m4", "m5"], "B": ["nothing"]}, "none of the genes of B is left"),
        (changed().T, r"table\.T"),
    ],
)
def test_mistakes_in_the_markers_are_errors(markers, said):
    adata = simulated(20)[0]
    CellAssign.setup_anndata(adata)
    with pytest.raises(errors.ArgumentError, match=said):
        CellAssign(adata, markers)


def test_a_few_genes_that_were_not_measured_are_said_and_left_out():
    adata, table, _ = simulated(50)
    CellAssign.setup_anndata(adata)
    with pytest.warns(errors.DataWarning, match="TRAC is not in adata.var_names"):
        model = CellAssign(adata, table.rename(index={"m4": "TRAC"}))
    assert model.setup.n_vars == len(table) - 1 and "TRAC" not in model.cell_type_markers["A"]


def test_other_arguments():
    adata, table, _ = simulated(50)
    CellAssign.setup_anndata(adata)
    with pytest.raises(errors.ArgumentError, match="min_log_fold_change=0 "):
        CellAssign(adata, table, min_log_fold_change=0)
    model = CellAssign(adata, table, min_log_fold_change=3.0)
    model.train(20, plan_kwargs={"lr": 0.1})
    assert model.get_marker_effects()["log_fold_change"].min() >= 3 - 1e-5
    assert markers_of({"A": "m1", "B": ["m2"]}) == {"A": ["m1"], "B": ["m2"]}


def test_priors_that_have_no_bound_do_not_run_away():
    """A type without cells, and effects that are all the same."""
    adata, table, _ = simulated(60)
    CellAssign.setup_anndata(adata)
    model = CellAssign(adata[adata.obs["kind"] != "C"].copy(), table)
    model.train(200, plan_kwargs={"lr": 0.2}, early_stopping=False)
    assert np.isfinite(model.history["train_loss"]).all().item()
    assert model.module.delta_log_variance.item() >= math.log(1e-2) - 0.3
    assert np.isfinite(model.predict()).all(axis=None)
