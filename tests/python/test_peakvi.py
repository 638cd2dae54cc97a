"""PeakVI: what of the models' contract is its own."""

import numpy as np
import pytest
import torch

from scelbo.data.simulate import counts
from scelbo.models.peakvi import PEAKVI


@pytest.fixture
def regions():
    return counts(160, 100, n_types=3, stored=0.3)


@pytest.mark.parametrize(
    "arguments", [{}, {"model_depth": False, "region_factors": False, "latent_distribution": "ln"}, {"encode_covariates": True}]
)
def test_it_learns_is_saved_and_takes_queries(regions, arguments, tmp_path):
    PEAKVI.setup_anndata(regions, batch_key="batch", categorical_covariate_keys=["donor"], continuous_covariate_keys=["percent_mito"])
    model = PEAKVI(regions, **arguments)
    model.train(max_epochs=20, plan_kwargs={"lr": 5e-3})
    loss = model.history["reconstruction_loss_train"]["reconstruction_loss_train"]
    assert loss.iloc[-1] < 0.95 * loss.iloc[0]
    assert model.get_latent_representation().shape == (160, 3)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(PEAKVI.load(tmp_path / "m", regions).get_latent_representation(), model.get_latent_representation())
    query = regions[:60, 7:].copy()
    query.obs["batch"] = "new"
    mapped = PEAKVI.load_query_data(query, model)
    before = mapped.get_latent_representation()
    mapped.train(max_epochs=3, plan_kwargs={"lr": 5e-2})
    assert not np.allclose(mapped.get_latent_representation(), before)
    np.testing.assert_array_equal(mapped.get_latent_representation(regions), model.get_latent_representation())


def test_only_whether_a_region_was_seen_is_explained(regions):
    """Counts of 1 or 9 have the same likelihood at the same place; what is drawn is 0 or 1."""
    PEAKVI.setup_anndata(regions)
    model = PEAKVI(regions)
    model.is_trained = True
    (cells,) = model.batches()
    with torch.no_grad():
        p = model.module.generative(type(q := model.module.inference(cells))._make(d.mean for d in q), cells).x
        np.testing.assert_array_equal(p.log_prob(cells.x), p.log_prob(cells.x.map(torch.ones_like)))
    assert set(np.unique(model.posterior_predictive_sample().toarray())) == {0, 1}


def test_sizes_follow_from_the_number_of_regions(regions):
    PEAKVI.setup_anndata(regions)
    module = PEAKVI(regions).module
    assert (module.y.in_features, module.z.mean.out_features) == (10, 3)
