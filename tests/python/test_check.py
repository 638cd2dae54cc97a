"""Before training: what is wrong, what deserves a look, and how long it will take; and nothing is changed by asking."""

import time

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from cases import CASES, COVARIATES, OfCells, OfTwo
from scipy import sparse

from scelbo import GIMVI, SCVI, errors
from scelbo.data.simulate import cite, counts


def looked(adata, **keys):
    """What check finds, without a forecast; the object is as it was, to the last value."""
    before = adata.copy()
    report = SCVI.check(adata, forecast=False, **keys)
    same(adata, before)
    return report


def same(adata, before):
    assert adata.uns == before.uns and set(adata.layers) == set(before.layers)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    np.testing.assert_array_equal(*(sparse.csr_matrix(a.X).toarray() for a in (adata, before)))


def concerns(adata, **keys):
    return "\n".join(map(str, looked(adata, **keys).concerns))


def test_its_problems_are_those_that_setup_raises(adata):
    x = adata.X.toarray()
    x[7] = 0
    adata.X = sparse.csr_matrix(x)
    adata.X.data[:4] = [-1, 0.5, np.nan, np.inf]
    adata.obs["site"] = pd.Categorical([None, "a", *["b"] * 118])
    adata.obs["size"] = np.r_[0.0, np.ones(119)]
    keys = {"batch_key": "site", "size_factor_key": "size", "categorical_covariate_keys": ["doner"], "layer": None}
    with pytest.raises(errors.DataError) as raised:
        SCVI.setup_anndata(adata, **keys)
    report = looked(adata, **keys)
    assert not report.ok and report.forecast is None
    assert [p.what for p in report.problems] == list(raised.value.problems)[: len(report.problems)]
    assert len(report.problems) == 7
    assert all(p.fix and p.fix in raised.value.hint for p in report.problems)
    assert all(p.what in repr(report) and p.fix in repr(report) for p in report.problems)
    assert "not ready" in repr(report)


@pytest.mark.parametrize(
    ("keys", "says"),
    [({"batch_key": "Batch"}, "Did you mean 'batch'"), ({"layer": "counts"}, "layer 'counts' is unknown")],
)
def test_a_wrong_key_is_a_problem_and_a_wrong_argument_an_error(adata, keys, says):
    assert says in looked(adata, **keys).problems[0].what
    with pytest.raises(errors.ArgumentError, match="Did you mean 'batch_key'"):
        SCVI.check(adata, bacth_key="batch")


def test_no_cells_and_duplicate_names_are_problems(adata):
    assert "0 cells" in looked(adata[:0].copy()).problems[0].what
    adata.var_names = ["a"] * 40
    assert "var_names_make_unique" in SCVI.check(adata).problems[0].fix


def test_good_data_raise_no_concern():
    assert looked(counts(400, 60, stored=0.5, seed=3), **COVARIATES).concerns == []


def test_covariates_that_say_what_the_batch_says_are_named(adata):
    batch = adata.obs["batch"].astype(str)
    row = np.arange(120)
    adata.obs["nested"] = [f"{b}-{i % 2}" for i, b in enumerate(batch)]
    adata.obs["twin"] = batch.map({"batch0": "a", "batch1": "b"})
    adata.obs["coarse"] = ["x" if n.startswith("batch0") else "y" for n in adata.obs["nested"]]
    adata.obs["nearly"] = np.where(row == 0, "b" if batch.iloc[0] == "batch0" else "a", adata.obs["twin"])
    adata.obs["constant"] = "one"
    adata.obs["chip"] = batch.str[-1].astype(float) + 1e-3 * row / 120

    def of(column, argument="categorical_covariate_keys", batch_key="batch"):
        found = looked(adata, batch_key=batch_key, **{argument: [column] if argument != "labels_key" else column}).concerns
        return "\n".join(str(f) for f in found if column in f.what)

    assert "nested, each category occurs in one batch only" in of("nested")
    assert "the same division of the cells as the batch" in of("twin")
    assert "each batch lies in one of its categories only" in of("coarse", batch_key="nested")
    assert "nearly the same as the batch (Cramer's V 0.9" in of("nearly")
    assert "one category only, so it explains nothing" in of("constant")
    assert "accounts for 100% of its variance" in of("chip", "continuous_covariate_keys")
    assert "takes the labels' differences away" in of("twin", "labels_key")
    assert of("donor") == of("percent_mito", "continuous_covariate_keys") == of("cell_type", "labels_key") == ""


def test_batches_of_very_uneven_size_and_a_lone_one_are_named(adata):
    def of_site(adata):
        return "\n".join(str(f) for f in looked(adata, batch_key="site").concerns if "'site'" in f.what)

    adata.obs["site"] = ["small"] * 4 + ["large"] * 116
    assert "from 4 cells in small to 116 in large" in of_site(adata)
    adata.obs["site"] = ["small"] * 6 + ["large"] * 114
    assert of_site(adata) == ""
    adata.obs["site"] = "only"
    assert "nothing to correct" in of_site(adata)
    adata.obs["site"] = ["rare"] + ["often"] * 119
    assert "fewer than 3 cells in rare (1)" in of_site(adata)


def test_log_normalised_values_are_told_from_the_counts_beside_them(adata):
    raw = adata.X.copy()
    adata.X = sparse.csr_matrix(np.log1p(raw.toarray() * 1e4 / raw.sum(1).A))
    adata.raw = AnnData(raw, var=adata.var)
    assert "looks log-normalised, and adata.raw holds counts" in concerns(adata)
    adata.layers["umi"] = raw
    assert "Call setup_anndata(adata, layer='umi')." in concerns(adata)
    assert not looked(adata).ok and looked(adata, layer="umi").ok
    assert "log-normalised" not in concerns(adata, layer="umi")


def test_features_and_cells_that_say_little_are_named():
    adata = counts(400, 60, stored=0.5, seed=3)
    x = adata.X.toarray()
    x[5], x[:, 9] = 0, 0
    x[5, 0] = 3
    adata.X = sparse.csr_matrix(x)
    found = concerns(adata)
    assert "1 features have no count in any cell, e.g. gene9." in found
    assert "1 cells have very few counts" in found and "e.g. cell5." in found
    wide = AnnData(sparse.csr_matrix(np.full((3, 10_001), 1, np.float32)))
    assert "10,001 features" in concerns(wide) and "highly_variable_genes" in concerns(wide)
    wide.var_names = [f"chr1:{i}-{i + 1}" for i in range(wide.n_vars)]
    assert "filter_genes" in concerns(wide)
    assert "highly_variable_genes" not in concerns(wide[:, 1:].copy())


# ---------------------------------------------------------------------- the forecast
@pytest.mark.parametrize("case", [c for c in CASES if c.owner is c.model and not isinstance(c, OfTwo | OfCells)], ids=str)
def test_every_model_has_a_forecast_and_leaves_the_data_alone(case, adata):
    before, epochs = adata.copy(), case.model.training.max_epochs or 400
    report = case.model.check(adata, **case.keys, model_kwargs={**case.small, **case.arguments})
    same(adata, before)
    assert report.ok and report.forecast.epochs == epochs and report.forecast.minibatches == 1
    assert 0 < report.forecast.wall < 5 and report.forecast.seconds == epochs * report.forecast.wall
    assert f"{epochs} epochs" in repr(report)


def test_one_of_two_data_sets_is_looked_at_without_a_forecast():
    assert GIMVI.check(counts(200, 40, stored=0.5), batch_key="batch").ok
    report = GIMVI.check(counts(200, 40, stored=0.5), batch_key="bacth")
    assert not report.ok and report.forecast is None and "Did you mean 'batch'" in report.problems[0].what


def test_it_forecasts_what_training_takes():
    adata = counts(600, 1500, seed=2)
    forecast = SCVI.check(adata, batch_key="batch").forecast
    assert forecast.minibatches == 5  # 540 cells by 128
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata)
    model.train(max_epochs=1)  # imports Lightning
    start = time.process_time()
    model.train(max_epochs=6, validation_size=0.0)
    assert 0.5 < (time.process_time() - start) / (30 * forecast.cpu) < 2


def test_memory_is_that_of_the_parts():
    adata = cite(300, 100)
    memory = {width: SCVI.check(adata, model_kwargs={"n_hidden": width}).forecast.memory for width in (8, 80)}
    assert memory[8]["matrix"] == memory[80]["matrix"] == 8 * adata.X.nnz
    assert memory[80]["weights"] > 5 * memory[8]["weights"]
    assert sum(p.numel() for p in _made(adata, n_hidden=8).module.parameters()) * 4 * 7 == memory[8]["weights"]


def _made(adata, **arguments):
    SCVI.setup_anndata(adata)
    return SCVI(adata, **arguments)


def test_values_that_are_no_counts_are_a_problem_of_the_model_that_explains_counts(adata):
    adata.X = adata.X / 3
    report = SCVI.check(adata, allow_non_counts=True)
    assert not report.ok and "gene_likelihood='normal'" in report.problems[0].fix
    assert SCVI.check(adata, allow_non_counts=True, model_kwargs={"gene_likelihood": "normal"}).ok


def test_data_on_disk_are_timed_from_disk(adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    report = SCVI.check(backed, batch_key="batch")
    assert report.ok and report.forecast.memory["matrix"] == 0 and report.forecast.wall > 0
    assert not backed.uns
    backed.file.close()


def test_cells_without_a_value_are_no_category(adata):
    adata.obs["site"] = pd.Categorical([None, *["a", "b"] * 59, "b"])
    adata.obs["half"] = adata.obs["site"].where(np.arange(120) > 5)
    report = looked(adata, batch_key="site", categorical_covariate_keys=["half"])
    assert [p.what.partition(":")[0] for p in report.problems] == ["batch_key", "categorical_covariate_keys"]
    said = "\n".join(f.what for f in report.concerns if "obs" in f.what)
    assert "nan" not in said and "'half']: the same division of the cells as the batch (Cramer's V 1.00)" in said
