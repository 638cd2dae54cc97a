"""Query cells on a reference: known kinds are labelled rightly and score evenly, an unknown kind scores low."""

import numpy as np
import pandas as pd
import pytest
from cases import having
from sklearn.metrics import roc_auc_score

from scelbo import SCVI, errors
from scelbo.data.simulate import counts


@pytest.fixture(scope="module")
def cells():
    adata = counts(1200, 80, n_types=5, n_batches=1, stored=0.5, seed=4)
    adata.obs["batch"] = pd.Categorical(np.where(np.arange(1200) % 3, "reference", "query"))
    return adata


@pytest.fixture(scope="module")
def reference(cells):
    known = cells[(cells.obs["batch"] == "reference") & (cells.obs["cell_type"] != "type0")].copy()
    SCVI.setup_anndata(known, batch_key="batch")
    model = SCVI(known, n_hidden=64, n_latent=5, gene_likelihood="nb")
    model.train(max_epochs=80, train_size=0.7, plan_kwargs={"lr": 5e-3})
    return model


@pytest.fixture(scope="module")
def query(cells, reference):
    model = SCVI.load_query_data(cells[cells.obs["batch"] == "query"].copy(), reference)
    model.train(max_epochs=20, progress=False)
    return model


def test_the_unknown_kind_scores_low_and_known_ones_evenly(query, reference):
    table, new = query.get_mapping_score(reference), (query.adata.obs["cell_type"] == "type0").to_numpy()
    score = table["mapping_score"]
    assert list(table.index) == list(query.adata.obs_names) and table.gt(0).all(axis=None) and table.le(1).all(axis=None)
    assert roc_auc_score(new, -score) > 0.7
    assert (score[new] < 0.05).mean() > 4 * (score[~new] < 0.05).mean()
    assert abs(score[~new] - score[~new].rank(pct=True)).max() < 0.15  # even between 0 and 1
    pd.testing.assert_frame_equal(query.get_mapping_score(reference, indices=[5, 2]), table.iloc[[5, 2]])


def test_depth_is_no_surprise(query, reference):
    """A deep and a shallow cell of known kinds have the same chance of a low score."""
    known = (query.adata.obs["cell_type"] != "type0").to_numpy()
    score = query.get_mapping_score(reference)["mapping_score"][known]
    depth = np.asarray(query.adata.X.sum(1)).ravel()[known]
    assert abs(np.corrcoef(score, np.log(depth))[0, 1]) < 0.3


@having("get_mapping_score")
def test_every_likelihood_scores(case, adata):
    model = case.make(adata)
    model.train(max_epochs=1)
    score = case.model.load_query_data(adata[:50].copy(), model).get_mapping_score(model)
    assert score.shape == (50, 3) and score.gt(0).all(axis=None) and score.le(1).all(axis=None)


def test_labels_come_from_neighbours(query, reference):
    labels = query.transfer_labels(reference.adata, "cell_type")
    truth = query.adata.obs["cell_type"].astype(str)
    known = truth != "type0"
    right = labels["label"].astype(str)[known] == truth[known]
    assert right.mean() > 0.9 and labels["probability"][known][right].mean() > labels["probability"][known][~right].mean()


def test_genes_that_the_query_lacks_are_left_out_of_both(cells, reference):
    fewer = cells[cells.obs["batch"] == "query"].copy()
    fewer = fewer[:, 10:].copy()
    score = SCVI.load_query_data(fewer, reference).get_mapping_score(reference)["mapping_score"]
    assert score[(fewer.obs["cell_type"] != "type0").to_numpy()].median() > 0.3


def test_what_cannot_be_asked_is_said(query, reference, tmp_path):
    reference.save(tmp_path / "m")
    with pytest.raises(errors.SetupError, match="without its data"):
        query.get_mapping_score(SCVI.load(tmp_path / "m"))
    with pytest.raises(errors.ArgumentError, match="Did you mean 'cell_type'"):
        query.transfer_labels(reference.adata, "celltype")
    alone = SCVI.load(tmp_path / "m", reference.adata)
    alone.validation_indices = alone.test_indices = np.array([], int)
    with pytest.raises(errors.ArgumentError, match="train_size below 1"):
        query.get_mapping_score(alone)
