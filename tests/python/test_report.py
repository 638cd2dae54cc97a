"""A report says what a model reached and where it does not fit: planted faults must be seen, and a right model must pass."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from cases import having
from matplotlib import image
from scipy.stats import chisquare

from scelbo import SCVI, errors
from scelbo.data.simulate import counts


def fitted(adata, likelihood="nb", epochs=100, **training):
    SCVI.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = SCVI(adata, n_hidden=32, n_latent=5, gene_likelihood=likelihood)
    model.train(max_epochs=epochs, train_size=0.8, plan_kwargs={"lr": 2e-2}, progress=False, **training)
    return model


@pytest.fixture(scope="module")
def models():
    """The same over-dispersed counts as NB and as Poisson."""
    adata = counts(800, 60, stored=0.5, seed=3)
    return {likelihood: fitted(adata, likelihood) for likelihood in ("nb", "poisson")}


def silent(module, dimensions):
    """The encoder of these dimensions says N(0, 1), whatever the cell."""
    with torch.no_grad():
        for layer in (module.z.mean, module.z.var):
            layer.weight[dimensions] = 0
            layer.bias[dimensions] = 0


# ---------------------------------------------------------------------- draws beside counts
def test_a_poisson_on_overdispersed_counts_is_seen(models):
    nb, poisson = (models[name].posterior_predictive_check() for name in ("nb", "poisson"))
    assert nb.coverage[0.9] == pytest.approx(0.9, abs=0.04)
    assert poisson.coverage[0.9] < 0.83
    assert poisson.miscalibration > 2 * nb.miscalibration
    assert poisson.outside["variance"] > 2 * nb.outside["variance"]
    assert (poisson.genes["variance_drawn"] < poisson.genes["variance_observed"]).mean() > 0.6
    ends = poisson.ranks["expressed"].iloc[[0, -1]].mean()
    assert ends > 1.5 / len(poisson.ranks), "too sure: ranks heap at the ends"


def test_what_was_observed_is_what_the_matrix_holds(models):
    model = models["nb"]
    rows = model.validation_indices[:50]
    genes = model.posterior_predictive_check(indices=rows, n_samples=40).genes
    x = model.adata.X[rows].toarray()
    np.testing.assert_allclose(genes["mean_observed"], x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(genes["variance_observed"], x.var(0, ddof=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(genes["zeros_observed"], (x == 0).mean(0), rtol=1e-5)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(genes["cv_observed"], x.std(0, ddof=1) / x.mean(0), rtol=1e-4)
    drawn = np.stack([d.toarray() for d in model.posterior_predictive_sample(indices=rows, n_samples=200, seed=9)])
    np.testing.assert_allclose(genes["mean_drawn"], drawn.mean((0, 1)), rtol=0.3, atol=0.05)
    np.testing.assert_allclose(genes["zeros_drawn"], (drawn == 0).mean((0, 1)), atol=0.06)


def test_ranks_of_a_right_model_are_uniform():
    """Counts from the model itself, at latents that do not depend on them: each is one more draw."""
    adata = counts(500, 60, stored=0.5, seed=4)
    adata.obs["depth"] = np.asarray(adata.X.sum(1)).ravel()
    SCVI.setup_anndata(adata, size_factor_key="depth")
    model = SCVI(adata, n_hidden=16, n_latent=3, gene_likelihood="nb")
    model.train(max_epochs=5, plan_kwargs={"lr": 5e-3})
    silent(model.module, [0, 1, 2])
    with torch.no_grad():
        model.module.z.var.bias[:] = -20
    own = adata.copy()
    own.X = model.posterior_predictive_sample(seed=5)
    own = own[np.asarray(own.X.sum(1)).ravel() > 0].copy()
    check = model.posterior_predictive_check(own, n_samples=19, seed=6)
    values = len(own) * 60
    assert not check.held_out
    assert chisquare(check.ranks["all"] * values).pvalue > 1e-3
    np.testing.assert_allclose(check.calibration["all"], check.calibration.index, atol=0.01)
    np.testing.assert_allclose(check.calibration["expressed"], check.calibration.index, atol=0.02)
    assert max(check.outside.values()) < 3 * check.expected_outside


def test_cells_are_the_held_out_ones_unless_others_are_named(models):
    model = models["nb"]
    check = model.posterior_predictive_check
    assert (check().n_cells, check().held_out) == (160, True)
    assert (check(indices=model.train_indices).held_out, check(n_cells=30).n_cells) == (False, 30)
    assert check(model.adata[:70].copy()).n_cells == 70
    first, again, other = (check(n_cells=40, seed=s).genes for s in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    whole = check(n_cells=40, batch_size=40, seed=1).genes  # other minibatches, other draws, the same cells
    np.testing.assert_array_equal(whole["mean_observed"], first["mean_observed"])


def test_genes_that_a_query_did_not_measure_are_left_out(models):
    query = SCVI.load_query_data(models["nb"].adata[:60, 3:].copy(), models["nb"])
    genes = query.posterior_predictive_check(n_samples=5).genes
    assert list(genes.index) == list(query.setup.var_names[3:])
    np.testing.assert_allclose(genes["mean_observed"], query.adata.X.toarray().mean(0), rtol=1e-5)


# ---------------------------------------------------------------------- the report
@having("report")
def test_every_model_has_a_report(case, adata):
    model = case.make(adata)
    model.train(max_epochs=2)
    report = model.report(n_samples=5, seed=1)
    assert report.latent_kl.shape == (4,) and (report.latent_kl > 0).all()
    assert list(report.fit.index) == ["training", "held out"] and report.fit["cells"].tolist() == [108, 12]
    np.testing.assert_allclose(report.fit["elbo"], -report.fit["reconstruction"] - report.fit["kl"])
    counted = case.arguments.get("gene_likelihood") != "normal"
    assert report.predictive.statistics == ["mean", "variance", *(["zeros", "cv"] if counted else [])]
    assert all(np.isfinite(v) for v in report.numbers.values())
    assert report.embedding.shape[0] == 120 and np.isfinite(report.embedding[["PC1", "PC2"]]).all().all()
    assert all(v.means and v.advice for v in report.verdicts)
    assert len(report.concerns) == sum(not v.good for v in report.verdicts)


def test_kl_of_dimensions_sums_to_the_kl_of_the_elbo(models):
    model = models["nb"]
    total = -model.get_elbo(seed=1) - model.get_reconstruction_error(seed=1)["reconstruction_loss"]
    assert model.get_latent_kl().sum() == pytest.approx(total, rel=1e-4)
    q, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(model.get_latent_kl(), (0.5 * (q**2 + variance - 1 - np.log(variance))).mean(0), rtol=1e-4)


def test_a_collapsed_dimension_is_listed(adata):
    model = fitted(adata, epochs=30)
    most = int(model.get_latent_kl().argmax())
    assert most not in model.report(n_samples=3).collapsed
    silent(model.module, [most])
    report = model.report(n_samples=3)
    assert most in report.collapsed and report.numbers["Collapsed latent dimensions"] == len(report.collapsed)
    assert any(c.startswith("Collapsed") and str(most) in c.split(": ", 2)[2] for c in report.concerns)
    silent(model.module, [0, 1, 2, 3, 4])
    assert "Nothing is left to see" in "\n".join(model.report(n_samples=3).concerns)


def test_faults_are_said_and_a_good_model_has_none_of_them(models):
    good, misfit = (models[name].report().concerns for name in ("nb", "poisson"))
    assert not any(c.startswith(("KL weight", "Coverage", "Held-out", "Genes off in variance")) for c in good)
    assert any(c.startswith("Coverage") and "gene_likelihood='nb'" in c for c in misfit)
    assert any(c.startswith("Genes off in variance") for c in misfit)


def test_overfitting_and_a_low_kl_weight_are_said_in_words(adata):
    model = SCVI.setup_anndata(adata) or SCVI(adata, n_hidden=64, gene_likelihood="poisson", dropout_rate=0.0)
    model.train(max_epochs=150, train_size=0.5, plan_kwargs={"lr": 1e-2, "n_epochs_kl_warmup": 400})
    report = model.report(n_samples=3)
    said = "\n".join(report.concerns)
    assert "Held-out ELBO: over-fitting" in said and "early_stopping=True" in said
    assert report.numbers["Validation curve"] > 0.01 and "Validation curve" in said
    assert report.numbers["KL weight"] == pytest.approx(149 / 400) and "n_epochs_kl_warmup" in said


def test_early_stopping_is_told_also_after_loading(adata, tmp_path):
    model = fitted(adata, epochs=300, early_stopping=True, early_stopping_patience=5)
    best = model.history["elbo_validation"]["elbo_validation"].idxmin()
    model.save(tmp_path / "model")
    for each in (model, SCVI.load(tmp_path / "model", adata)):
        assert each.outcome == {"reason": "stopped early", "kept_epoch": best}
        assert f"(stopped early, back at epoch {best + 1})" in repr(each.report(n_samples=3))


# ---------------------------------------------------------------------- the page
class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.sources = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("likelihood", ["nb", "normal"])
def test_the_page_stands_alone(likelihood, adata, tmp_path):
    adata.obs["cell_type"] = np.where(np.arange(120) % 2, "<b>T&B</b>", "other")
    report = fitted(adata, likelihood, epochs=2).report(tmp_path / "report.html", labels_key="cell_type", n_samples=5)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and "script" not in page.tags and "link" not in page.tags
    assert len(page.sources) == 5 and all(s.startswith("data:image/png;base64,") for s in page.sources)
    assert not re.search(r"https?://", text)
    assert all(v.name in text for v in report.verdicts)
    for source in page.sources:
        pixels = image.imread(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert pixels.std() > 0.03, "an empty figure"


def test_without_matplotlib_the_numbers_stand_and_the_page_says_what_to_install(models, monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    report = models["nb"].report(n_samples=3)
    assert report.numbers["KL weight"] == 1
    with pytest.raises(errors.BackendError, match="pip install matplotlib"):
        models["nb"].report(tmp_path / "report.html", n_samples=3)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_refused(models):
    with pytest.raises(errors.ArgumentError, match="Did you mean 'cell_type'"):
        models["nb"].report(labels_key="cell_typ")
    with pytest.raises(errors.ArgumentError, match="Did you mean 'umap'"):
        models["nb"].report(embedding="umapp")
