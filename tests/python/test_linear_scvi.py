"""LinearSCVI: what of the models' contract is its own."""

import copy

import numpy as np
import pytest
import torch
from cases import COVARIATES
from torch import nn

from scelbo import LinearSCVI, errors
from scelbo.nn import NormalisedLinear


def made(adata, keys=COVARIATES, **arguments):
    LinearSCVI.setup_anndata(adata, **keys)
    return LinearSCVI(adata, **{"n_hidden": 16, "n_latent": 4} | arguments)


def minibatch(model):
    return next(model.batches(indices=np.arange(30))).to(torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("draws", [(), (3,)])
def test_the_folded_norm_is_a_linear_layer_and_a_batch_norm(adata, bias, draws):
    """Values, gradients and running statistics, while it trains and as it stands; sample axes are more rows."""
    cells, generator = minibatch(made(adata)), torch.Generator().manual_seed(0)
    covariates = {"batch": 2, "extra.donor": 3}
    with torch.random.fork_rng():
        folded = NormalisedLinear(4, 40, categories=covariates, n_continuous=1, bias=bias).double()
    norm = nn.BatchNorm1d(40, momentum=0.01, eps=0.001).double()
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(torch.rand(40, generator=generator) + 0.5)
    folded.norm[0][0].load_state_dict(norm.state_dict())
    plain = copy.deepcopy(folded.layer)
    h = torch.randn(*draws, 30, 4, dtype=torch.float64, generator=generator)
    for training in (True, False):
        folded.train(training)
        norm.train(training)
        inputs = [h.clone().requires_grad_() for _ in range(2)]
        y = plain(inputs[1], cells, cells.numbers)
        outputs = folded(inputs[0], cells, cells.numbers), norm(y.flatten(0, -2)).view_as(y)
        torch.testing.assert_close(*outputs)
        weight = torch.randn(y.shape, dtype=torch.float64, generator=generator)
        for output in outputs:
            (output * weight).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        for mine, other in ((folded.layer, plain), (folded.norm[0][0], norm)):
            named = dict(other.named_parameters())
            for name, p in mine.named_parameters():
                grad = torch.zeros_like(p) if p.grad is None else p.grad  # of a bias, which the norm takes out again
                torch.testing.assert_close(grad, named[name].grad, msg=name)
            for name, value in mine.named_buffers():
                torch.testing.assert_close(value, dict(other.named_buffers())[name], msg=name)


def test_a_loading_is_what_a_unit_of_z_does(adata):
    model = made(adata)
    model.train(max_epochs=2, plan_kwargs={"lr": 0.01})
    cells, module = minibatch(model), model.module.double()
    table, z = model.get_loadings(covariates=True), torch.zeros(30, 4, dtype=torch.float64)
    decode = lambda z, **values: module.decode(z, cells.replace(values)).rho  # noqa: E731
    with torch.no_grad():
        for i in range(4):
            step = torch.eye(4, dtype=torch.float64)[i]
            np.testing.assert_allclose((decode(z + step) - decode(z))[0], table[f"Z_{i}"], rtol=1e-5, atol=1e-7)
        between = (decode(z, batch=1) - decode(z, batch=0))[0]
        np.testing.assert_allclose(between, table["batch=batch1"] - table["batch=batch0"], rtol=1e-5, atol=1e-7)
        donors = (decode(z, **{"extra.donor": 2}) - decode(z, **{"extra.donor": 0}))[0]
        np.testing.assert_allclose(donors, table["donor=donor2"] - table["donor=donor0"], rtol=1e-5, atol=1e-7)
        slope = (decode(z, **{"numbers.0": 2.0}) - decode(z, **{"numbers.0": 1.0}))[0]
        np.testing.assert_allclose(slope, table["percent_mito"], rtol=1e-5, atol=1e-6)
    assert list(model.get_loadings()) == ["Z_0", "Z_1", "Z_2", "Z_3"]
    assert list(model.get_loadings().index) == list(adata.var_names)


def test_loadings_of_embedded_batches_and_of_one_batch(adata):
    model = made(adata, batch_representation="embedding")
    model.train(max_epochs=1)
    cells, z = next(model.batches(indices=np.arange(30))), torch.zeros(30, 4)
    table = model.get_loadings(covariates=True)
    with torch.no_grad():
        first, second = (model.module.decode(z, cells.replace({"batch": b})).rho[0] for b in (0, 1))
    np.testing.assert_allclose(second - first, table["batch=batch1"] - table["batch=batch0"], rtol=1e-4, atol=1e-5)
    alone = made(adata, {})
    alone.train(max_epochs=1)
    assert list(alone.get_loadings(covariates=True)) == ["Z_0", "Z_1", "Z_2", "Z_3"]


def test_without_a_norm_loadings_are_the_weights(adata):
    model = made(adata, use_batch_norm="encoder", bias=True)
    model.train(max_epochs=1)
    np.testing.assert_array_equal(model.get_loadings().to_numpy(), model.module.rho.layer.weight.detach().numpy().T)


def test_a_query_leaves_the_loadings_as_they_are(adata):
    reference = made(adata, {"batch_key": "batch"})
    reference.train(max_epochs=2)
    query = adata[:60].copy()
    query.obs["batch"] = "new"
    for norm_learns in (False, True):
        model = LinearSCVI.load_query_data(query, reference, freeze_batchnorm_decoder=not norm_learns)
        model.train(max_epochs=3, plan_kwargs={"lr": 0.05})
        assert list(model.get_loadings(covariates=True).columns[-3:]) == ["batch=batch0", "batch=batch1", "batch=new"]
        assert model.get_loadings().equals(reference.get_loadings()) is not norm_learns


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"use_layer_norm": "both"}, "no loading could be read.*'encoder' or 'none'"),
        ({"use_layer_norm": "decoder"}, "no loading could be read"),
        ({"use_batch_norm": "encoder"}, "no gene has a level.*bias=True"),
        ({"use_batch_norm": "none"}, "no gene has a level"),
        ({"dispersion": "gene-label"}, r"needs labels.*LinearSCVI.setup_anndata\(adata, labels_key"),
    ],
)
def test_what_makes_no_sense_is_refused(adata, arguments, said):
    with pytest.raises(errors.ArgumentError, match=f"(?s){said}"):
        made(adata, {"batch_key": "batch"}, **arguments)


def test_loadings_need_a_trained_model(adata):
    with pytest.raises(errors.NotTrainedError, match="train"):
        made(adata).get_loadings()
