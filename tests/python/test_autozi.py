"""AUTOZI: what of the models' contract is its own."""

import numpy as np
import pandas as pd
import pytest
import torch
from cases import COVARIATES
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from scelbo import AUTOZI, errors
from scelbo.data.simulate import counts
from scelbo.models.autozi import structural_zero
from scelbo.nn import Fraction

BATCH = {"batch_key": "batch"}


def made(adata, keys=BATCH, **arguments):
    AUTOZI.setup_anndata(adata, **keys)
    return AUTOZI(adata, **{"n_hidden": 16, "n_latent": 4} | arguments)


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.5])
def test_the_mixture_is_a_zinb(adata, floor):
    """log p(x) of the module against delta NB + (1 - delta) ZINB, term by term with scipy's NB, at mild and at extreme parameters."""
    model = made(adata, minimal_dropout=floor, zero_inflation="gene-batch")
    module, cells = model.module.double(), next(model.batches(indices=np.arange(8))).to(torch.float64)
    with torch.no_grad():
        q = module.inference(cells)
        delta = torch.rand(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        delta[:, :6] = torch.tensor([1e-6, 1 - 1e-6, 1e-6, 1 - 1e-6, 0.5, 0.5])
        module.pi.bias[:6] = torch.tensor([30.0, 30, -30, -30, 30, -30])
        z = type(q)(*(d.mean for d in q))._replace(delta=delta)
        x, ours = cells.x.dense(), module.generative(z, cells).x
        f = module.decode(z.z, cells).pi
    of_cell, theta = delta[cells.batch], ours.log_theta.detach().exp()
    nb = stats.nbinom.pmf(x, theta, theta / (theta + ours.mean))
    pi = floor + (1 - floor) * f.sigmoid()
    zinb = pi * (x == 0) + (1 - pi) * nb
    np.testing.assert_allclose(
        ours.log_prob(cells.x).detach(), np.log(of_cell * nb + (1 - of_cell) * zinb).sum(-1), rtol=1e-7
    )  # log x! is summed in float32


def test_the_logit_keeps_its_digits_and_its_gradient():
    f, delta = torch.meshgrid(
        torch.tensor([-35.0, -3, 0, 4, 30], dtype=torch.float64),
        torch.tensor([1e-6, 0.2, 1 - 1e-6], dtype=torch.float64),
        indexing="ij",
    )
    for floor in (0.0, 0.01):
        p = (1 - delta) * (floor + (1 - floor) * f.sigmoid())
        rest = delta + (1 - delta) * (1 - floor) * (-f).sigmoid()
        exact = p.log() - rest.log()
        torch.testing.assert_close(structural_zero(f, delta, floor), exact, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(structural_zero(f.float(), delta.float(), floor).double(), exact, rtol=1e-5, atol=0.05)
        leaves = (f[1:4].clone().requires_grad_(), delta[1:4, 1:2].clone().requires_grad_())
        assert torch.autograd.gradcheck(lambda f, delta, floor=floor: structural_zero(f, delta, floor), leaves)
        wide = (torch.tensor([[-1e4, 1e4]], requires_grad=True), torch.tensor([[1e-6, 1 - 1e-6]], requires_grad=True))
        structural_zero(*wide, floor).sum().backward()
        assert all(torch.isfinite(leaf.grad).all() for leaf in wide)


def test_draws_of_a_fraction_stay_clear_of_its_ends():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alpha, beta = (torch.full((20_000,), value, requires_grad=True) for value in (0.002, 0.003))
        drawn = Fraction(alpha, beta).rsample((2,))
    drawn.sum().backward()
    drawn = drawn.detach()
    assert 0 < float(drawn.min()) < 1e-5 and 1 - 1e-5 < float(drawn.max()) < 1
    assert float(drawn.mean()) == pytest.approx(0.4, abs=0.01)
    assert torch.isfinite(alpha.grad).all() and torch.isfinite(beta.grad).all()


@pytest.mark.parametrize("inflation", ["gene", "gene-batch", "gene-label"])
def test_the_kl_of_delta_counts_once_and_has_both_priors(adata, inflation):
    """Against numerical integration: beta_prior is beta's, whatever delta depends on."""
    model = made(adata, COVARIATES, zero_inflation=inflation, alpha_prior=0.3, beta_prior=0.6)
    with torch.no_grad():
        for p in model.module.posterior_logits.parameters():
            p.normal_(0, 0.5, generator=torch.Generator().manual_seed(p.numel()))
    cells = next(model.batches())
    q = model.module.inference(cells)
    kl = model.module.kl_global(q, cells)["delta"]
    t, total = np.linspace(-150, 150, 60_001), 0.0  # delta = sigmoid(t), as the densities are infinite at both ends
    log_density = lambda a, b: -a * np.logaddexp(0, -t) - b * np.logaddexp(0, t) - special.betaln(a, b)  # noqa: E731
    for a, b in zip(*(getattr(q.delta, f"concentration{i}").detach().double().flatten() for i in (1, 0)), strict=True):
        own = log_density(float(a), float(b))
        total += (np.exp(own) * (own - log_density(0.3, 0.6))).sum() * (t[1] - t[0])
    assert kl.item() == pytest.approx(total, rel=1e-3)
    with torch.random.fork_rng():
        loss = model.module(cells)
    assert (loss.total(n_cells=120) - loss.per_cell().mean()).item() == pytest.approx(total / 120, rel=1e-2)


@pytest.mark.parametrize("inflation", ["gene", "gene-batch"])
def test_priors_can_be_learnt(adata, inflation):
    model = made(adata, zero_inflation=inflation, alpha_prior=None, beta_prior=0.2)
    start = model.module.prior_logits["alpha"].item()
    model.train(max_epochs=3, plan_kwargs={"lr": 0.05})
    assert model.module.prior_logits["alpha"].item() != start
    found = model.get_alphas_betas()
    assert found["alpha_prior"].shape == (1,) and found["beta_prior"] == pytest.approx([0.2])


@pytest.fixture(scope="module")
def inflated():
    """Every other gene of well counted ones, in the first batch only, loses 40 % of its counts."""
    adata = counts(700, 60, n_types=2, stored=0.85, seed=2)
    x, struck = adata.X.toarray(), np.random.default_rng(0).random(adata.shape) < 0.4
    struck[:, 1::2] = struck[(adata.obs["batch"] == "batch1").to_numpy()] = False
    adata.X = np.where(struck, 0, x)
    return adata


@pytest.fixture(scope="module")
def trained(inflated):
    model = made(inflated, zero_inflation="gene-batch")
    model.train(max_epochs=60, plan_kwargs={"lr": 1e-2}, seed=0)
    return model


def test_planted_zeros_are_found_where_they_are(inflated, trained):
    table = trained.get_zero_inflation()
    assert list(table) == ["batch", "alpha", "beta", "probability", "zero_inflated", "mean", "zeros"]
    planted = np.arange(60) % 2 == 0
    for batch, part in table.groupby("batch"):
        well = (part["mean"] > 2).to_numpy()
        if batch == "batch0":
            assert roc_auc_score(planted[well], part["probability"][well]) > 0.9
            assert part["zero_inflated"][planted & well].mean() > 0.7
        else:
            assert part["zero_inflated"][well].mean() < 0.2


def test_the_table_follows_from_the_posterior_and_the_counts(inflated, trained):
    table, found = trained.get_zero_inflation(threshold=0.9), trained.get_alphas_betas()
    assert found["alpha_posterior"].shape == (60, 2) and list(table.index) == [*inflated.var_names] * 2
    for i, batch in enumerate(trained.setup.categories["batch"]):
        part, x = table[table["batch"] == batch], inflated.X[(inflated.obs["batch"] == batch).to_numpy()]
        of_delta = stats.beta(found["alpha_posterior"][:, i], found["beta_posterior"][:, i])
        np.testing.assert_allclose(part["probability"], of_delta.cdf(0.5), rtol=1e-6)
        np.testing.assert_array_equal(part["zero_inflated"], part["probability"] > 0.9)
        np.testing.assert_allclose(part["mean"], x.mean(0), rtol=1e-6)
        np.testing.assert_allclose(part["zeros"], (x == 0).mean(0), rtol=1e-6)
    only = np.flatnonzero(inflated.obs["batch"] == "batch0")[:9]
    some = trained.get_zero_inflation(indices=only)
    np.testing.assert_allclose(some["mean"][some["batch"] == "batch0"], inflated.X[only].mean(0), rtol=1e-6)
    assert some["mean"][some["batch"] == "batch1"].isna().all()
    pd.testing.assert_frame_equal(trained.minify().get_zero_inflation(), trained.get_zero_inflation().drop(columns=["mean", "zeros"]))


def test_inherited_questions_answer(trained):
    """Those that scvi-tools' AutoZI fails at, and those that draw delta."""
    rows = np.arange(40)
    table = trained.differential_expression(idx1=rows[:10], idx2=rows[10:20], n_samples_overall=100, mode="change", weights="importance")
    assert table["proba_de"].between(0, 1).all()
    assert trained.get_marginal_ll(indices=rows, n_mc_samples=100) > trained.get_elbo(indices=rows)
    check = trained.posterior_predictive_check(n_samples=10)
    assert check.genes["zeros_drawn"].corr(check.genes["zeros_observed"]) > 0.9
    dropout = trained.get_likelihood_parameters(n_samples=3, indices=rows)["dropout"]
    assert dropout.shape == (40, 60) and np.isfinite(dropout).all()


def test_a_query_has_a_delta_of_its_own_and_leaves_the_others(inflated, trained):
    query = inflated[:200].copy()
    query.obs["batch"] = "new"
    model = AUTOZI.load_query_data(query, trained)
    model.train(max_epochs=3, plan_kwargs={"lr": 0.05})
    before, after = (m.module.rows("alpha").detach().numpy() for m in (trained, model))
    np.testing.assert_array_equal(after[:2], before)
    assert after.shape == (3, 60) and not np.allclose(after[2], before.mean(0), atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gene_likelihood": "nb"}, "gene_likelihood='nb' is not allowed"),
        ({"alpha_prior": 1.5}, "alpha_prior=1.5 .* between 0 and 1, or None"),
        ({"beta_prior": 0.0}, "beta_prior=0.0 .* between 0 and 1"),
        ({"minimal_dropout": 1.0}, "minimal_dropout=1.0 .* below 1"),
        ({"zero_inflation": "gene-label"}, r"zero_inflation='gene-label' needs labels.*AUTOZI.setup_anndata\(adata, labels_key"),
        ({"zero_inflation": "cell"}, "zero_inflation='cell'"),
    ],
)
def test_what_makes_no_sense_is_refused(adata, arguments, said):
    with pytest.raises(errors.ArgumentError, match=f"(?s){said}"):
        made(adata, **arguments)
