"""Setting up: every problem is found at once, before training, and named so that the next step is clear."""

import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from scelbo import SCVI, errors
from scelbo.data import Cells, Counts, Loader, Setup, counts_from_log, pbmc68k, split
from scelbo.data.loaders import chunks
from scelbo.data.simulate import counts
from scelbo.errors import unknown


def refused(adata, error=errors.DataError, **keys):
    """The text of the error that set-up raises; the object is unchanged."""
    with pytest.raises(error) as caught:
        SCVI.setup_anndata(adata, **keys)
    assert "scelbo" not in adata.uns
    return str(caught.value)


ADVICE = (
    "Models of counts need raw counts: name their layer, setup_anndata(adata, layer=...). Other layers: log. "
    "For values that are not counts: allow_non_counts=True and gene_likelihood='normal'. "
    "Remove empty cells: scanpy.pp.filter_cells(adata, min_counts=1). "
    "Give cells without a value a category of their own, or remove them. "
    "Name a column of adata.obs. Give numbers; text belongs into categorical_covariate_keys. "
    "A size factor is what a cell's expectation is multiplied with: give one above zero."
)


def test_all_problems_are_listed_at_once(adata):
    x = adata.X.toarray()
    x[7] = 0
    adata.X = sparse.csr_matrix(x)
    adata.X.data[:4] = [-1, 0.5, np.nan, np.inf]
    adata.obs["site"] = pd.Categorical([None, "a", *["b"] * 118])
    adata.obs["size"] = np.r_[0.0, np.ones(119)]
    adata.layers["log"] = np.log1p(abs(np.nan_to_num(adata.X.toarray(), posinf=0)))
    expected = [
        "The data cannot be used as they are (8 problems):",
        "  - adata.X: 2 stored values are NaN or infinite",
        "  - adata.X: 1 stored values are negative",
        "  - adata.X: 1 stored values are not a whole number",
        "  - adata.X: 1 cells have no counts, e.g. cell7",
        "  - batch_key: adata.obs['site']: 1 cells have no value (NaN)",
        "  - categorical_covariate_keys: "
        + unknown("obs column", "doner", ["batch", "cell_type", "donor", "percent_mito", "site", "size"]),
        "  - continuous_covariate_keys: adata.obs['cell_type']: numbers are needed, it holds category",
        "  - size_factor_key: adata.obs['size']: 1 size factors are not above zero",
        "  - batch_key: adata.obs['site']: fewer than 3 cells in a (1)",
        ADVICE,
    ]
    text = refused(
        adata,
        batch_key="site",
        size_factor_key="size",
        categorical_covariate_keys=["doner"],
        continuous_covariate_keys=["percent_mito", "cell_type"],
    )
    assert text.splitlines() == expected


def test_one_bad_value_among_many_is_found():
    x = sparse.random(2000, 100, 0.1, format="csr", random_state=0)
    x = np.ceil(x.toarray() * 5)
    x[:, 0], x[-1, -1] = 1, 1.5
    x = sparse.csr_matrix(x)
    assert "1 stored values are not a whole number" in refused(AnnData(x))


@pytest.mark.parametrize(
    ("keys", "error", "says"),
    [
        ({"bacth_key": "batch"}, errors.ArgumentError, "Did you mean 'batch_key'?"),
        ({"batch_key": "Batch"}, errors.DataError, "Did you mean 'batch'?"),
        ({"layer": "counts"}, errors.DataError, "layer 'counts' is unknown"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(adata, keys, error, says):
    assert says in refused(adata, error, **keys)


def test_duplicate_names_no_cells_and_other_types_are_refused(adata):
    with pytest.warns(UserWarning, match="not unique"):
        twice = AnnData(adata.X, var=pd.DataFrame(index=["a"] * 2 + [f"g{i}" for i in range(38)]))
    assert "var_names_make_unique" in refused(twice)
    assert "0 cells" in refused(adata[:0].copy())
    with pytest.raises(errors.SetupError, match="needs an AnnData, not DataFrame"):
        SCVI.setup_anndata(adata.to_df())
    with pytest.raises(errors.SetupError, match=r"Call SCVI\.setup_anndata"):
        SCVI(adata)


def test_values_that_are_no_counts_need_the_normal_likelihood(adata):
    adata.X = adata.X / 3
    SCVI.setup_anndata(adata, allow_non_counts=True)
    with pytest.raises(errors.DataError, match="gene_likelihood='normal'"):
        SCVI(adata)
    SCVI(adata, gene_likelihood="normal").train(max_epochs=1)


def test_concerns_are_one_warning(adata):
    adata.obs["site"] = ["rare"] + ["often"] * 119
    adata.obs["constant"] = 1.0
    adata.obs["large"] = np.arange(120) * 1000.0
    with pytest.warns(errors.DataWarning) as caught:
        SCVI.setup_anndata(adata, batch_key="site", continuous_covariate_keys=["constant", "large"])
    assert len(caught) == 1
    assert all(word in str(caught[0].message) for word in ("rare (1)", "explains nothing", "scale it"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"n_latnet": 5}, "Did you mean 'n_latent'?"),
        ({"n_latent": 2.5}, "whole number above zero"),
        ({"n_latent": 0}, "whole number above zero"),
        ({"gene_likelihood": "znib"}, "Did you mean 'zinb'?"),
        ({"dropout_rate": 1.0}, "from 0 up to"),
        ({"encode_covariates": "yes"}, "True or False"),
        ({"dispersion": "gene-label"}, "labels_key"),
    ],
)
def test_a_wrong_hyperparameter_is_refused(adata, given, says):
    SCVI.setup_anndata(adata)
    with pytest.raises(errors.ArgumentError, match=says.replace("?", r"\?")):
        SCVI(adata, **given)


def test_unseen_categories_and_missing_genes_are_named(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=1)
    other = adata.copy()
    other.obs["batch"] = "new"
    with pytest.raises(errors.DataError, match="not seen: new"):
        model.get_latent_representation(other)
    with pytest.raises(errors.DataError, match=r"2 of the model's 40 features are not .*: gene0, gene1"):
        model.get_latent_representation(adata[:, 2:].copy())


def test_an_unknown_word_is_answered_with_what_is_known():
    assert unknown("gene", "MS4A", ["CD79A", "MS4A1"]) == "gene 'MS4A' is unknown. Did you mean 'MS4A1'? Known: CD79A, MS4A1."
    assert unknown("gene", "x", range(20)).endswith("10, 11, ... (20 in all).")


def test_cells_that_are_empty_in_the_models_genes_are_named(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=1)
    other = counts(30, 60)
    x = other.X.toarray()
    x[4, :40] = 0
    other.X = x
    with pytest.raises(errors.DataError, match=r"1 cells have no counts in the model's 40 features, .* cell4"):
        model.get_latent_representation(other)


def test_categories_keep_their_order_and_numbers_sort_as_numbers(adata):
    adata.obs["number"] = np.arange(120) % 12
    adata.obs["order"] = pd.Categorical(np.where(np.arange(120) % 2, "low", "high"), categories=["low", "high", "unused"], ordered=True)
    setup = Setup.of(adata, Cells, {"batch_key": "number", "labels_key": "order"})
    assert setup.categories["batch"] == [str(i) for i in range(12)]
    assert setup.categories["label"] == ["low", "high"]


def test_counts_changed_in_place_are_noticed_and_replaced_ones_do_no_harm(adata):
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=1)
    before = model.get_latent_representation()
    adata.X = adata.X.log1p()
    np.testing.assert_array_equal(model.get_latent_representation(), before)
    other = counts(50, 40)
    SCVI.setup_anndata(other)
    model = SCVI(other, n_hidden=8)
    other.X.data *= 2
    with pytest.raises(errors.DataError, match="changed in place"):
        model.train(max_epochs=1)


def test_a_view_is_set_up_and_its_parent_is_not(adata):
    view = adata[:50]
    SCVI.setup_anndata(view)
    assert "scelbo" in view.uns and "scelbo" not in adata.uns


def test_counts_take_sums_and_dense_agree_with_scipy():
    x = sparse.random(30, 20, 0.3, format="csr", random_state=0)
    x.data = np.ceil(x.data * 4)
    x.data[3] = 0  # a stored zero
    rows = [4, 4, 29, 0]
    taken = Counts.of(x).take(torch.tensor(rows))
    np.testing.assert_array_equal(taken.dense().numpy(), x.toarray()[rows])
    np.testing.assert_array_equal(taken.size[:, 0].numpy(), x.toarray()[rows].sum(1))
    assert (taken.val > 0).all() and x.data[3] == 0
    weight = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (taken.map(torch.log1p) @ weight).square().sum().backward()
    dense = weight.detach().clone().requires_grad_()
    (taken.dense().log1p() @ dense).square().sum().backward()
    torch.testing.assert_close(weight.grad, dense.grad)


def test_minibatches_hold_every_cell_once_and_are_of_one_size():
    for n in range(1, 40):
        parts = chunks(np.arange(n), 8)
        sizes = [len(part) for part in parts]
        assert np.concatenate(parts).tolist() == list(range(n))
        assert max(sizes) <= 8 and max(sizes) - min(sizes) <= 1
    assert [len(part) for part in chunks(np.arange(2306), 128)] == [122] * 7 + [121] * 12  # no step of 2 cells
    assert len(Loader(None, np.arange(129), 128)) == 2


def test_split_sizes():
    rng = np.random.default_rng(0)
    train, validation, test = split(100, 0.7, 0.2, True, rng)
    assert [len(train), len(validation), len(test)] == [70, 20, 10]
    assert sorted(np.r_[train, validation, test]) == list(range(100))
    for bad in ({"train_size": 1.2}, {"train_size": 0.9, "validation_size": 0.3}, {"train_size": 0.0}, {"train_size": 0.001}):
        with pytest.raises(errors.ArgumentError):
            split(100, bad["train_size"], bad.get("validation_size"), True, rng)


def test_counts_come_back_from_log_values(adata):
    logged = adata.copy()
    logged.X = sparse.csr_matrix(np.log1p(adata.X.toarray() * (10_000 / adata.X.sum(1).A)))
    back = counts_from_log(logged)
    alone = np.asarray(adata.X.max(1).todense()).ravel() > 0
    smallest = np.array([row.data.min() for row in adata.X])
    same = alone & (smallest == 1)
    assert same.mean() > 0.9
    np.testing.assert_array_equal(back.X.toarray()[same], adata.X.toarray()[same])
    logged.X = sparse.random(120, 40, 0.3, format="csr", random_state=0)
    with pytest.raises(errors.DataError, match="whole count"):
        counts_from_log(logged)


def test_the_demos_cells_are_counts():
    pytest.importorskip("scanpy", reason="scanpy is not installed, and it brings these cells along")
    cells = pbmc68k()
    assert cells.shape == (700, 765) and cells.uns["counts_from_log"] > 0.98
    SCVI.setup_anndata(cells)


def test_a_mudata_of_several_modalities_is_asked_which_to_read(adata):
    with mudata.set_options(pull_on_update=False):
        one = mudata.MuData({"rna": adata.copy()})
        several = mudata.MuData({"rna": adata.copy(), "atac": AnnData(adata.X, obs=adata.obs)})
    SCVI.setup_mudata(one)
    assert list(SCVI(one).setup.var_names) == list(adata.var_names)
    with pytest.raises(errors.ArgumentError, match="'rna', 'atac'") as caught:
        SCVI.setup_mudata(several)
    assert "modalities={'layer': 'rna'}" in str(caught.value)
    SCVI.setup_mudata(several, modalities={"layer": "rna"})
    SCVI(several)
