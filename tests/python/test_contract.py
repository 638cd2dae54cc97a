"""What every model keeps, checked on every row of ``cases.CASES``."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from cases import CASES, DECODED, DIFFERENTIAL, decoded, differential, having, per_cell
from scipy import sparse

from scelbo import errors
from scelbo.analysis import augmentation
from scelbo.analysis.decode import explained_fields
from scelbo.data.simulate import cite
from scelbo.module import draw


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(autouse=True)
def few_lessons(monkeypatch):
    monkeypatch.setattr(augmentation, "LESSONS", 200)  # enough for networks that are only to be kept


@pytest.fixture
def trained(case, adata):
    model = case.make(adata)
    model.train(max_epochs=3, seed=1)
    return model


def test_training_lowers_the_loss(case, adata):
    model = case.make(adata)
    model.train(max_epochs=12, plan_kwargs={"lr": 5e-3, "n_epochs_kl_warmup": 1})
    loss = model.history["train_loss"]["train_loss"]
    assert loss.iloc[-3:].mean() < loss.iloc[1:4].mean()
    assert np.isfinite(per_cell(model)).all()


def test_same_seed_same_model_other_seed_another(case, adata):
    def once(seed):
        model = case.make(adata)
        model.train(max_epochs=2, seed=seed, batch_size=50)
        return per_cell(model)

    np.testing.assert_array_equal(once(3), once(3))
    assert not np.array_equal(once(3), once(4))


def test_rows_follow_the_indices_asked_for(trained):
    order = [17, 3, 3, 90, 0]
    np.testing.assert_allclose(per_cell(trained, indices=order), per_cell(trained)[order], rtol=1e-5, atol=1e-6)
    mask = np.arange(120) % 7 == 0
    np.testing.assert_allclose(per_cell(trained, indices=mask), per_cell(trained)[mask], rtol=1e-5, atol=1e-6)


@having(*DECODED)
def test_decoded_rows_follow_the_indices_asked_for(trained):
    order = [17, 3, 3, 90, 0]
    whole = decoded(trained)
    part = decoded(trained, indices=order)
    assert list(part.index) == list(whole.index[order])
    np.testing.assert_allclose(part, whole.iloc[order], rtol=1e-4)


@having(*DECODED)
@torch.inference_mode()
def test_what_is_asked_alone_is_part_of_the_whole(trained):
    module, cells = trained.module, next(trained.batches())
    q, alone = module.posterior(cells), module.posterior_of_scale(cells)
    torch.testing.assert_close(module.place(cells).mean, q.z.mean, rtol=0, atol=0)
    z, some = draw(q, mean=True), draw(alone, mean=True)
    for of in explained_fields(trained).values():
        whole = module.likelihood_of(of, z, cells).scale
        torch.testing.assert_close(module.scale_of(of, some, cells), whole, rtol=1e-6, atol=1e-12)


def test_batch_size_changes_nothing(trained):
    np.testing.assert_allclose(per_cell(trained, batch_size=7), per_cell(trained), rtol=1e-5, atol=1e-6)


def test_genes_are_aligned_by_name(case, trained, adata):
    other = adata[:, ::-1].copy()
    np.testing.assert_allclose(per_cell(trained, case.given(other)), per_cell(trained), rtol=1e-5, atol=1e-6)


def test_dense_csc_and_csr_give_the_same(case, trained, adata):
    for form in (lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.astype(np.int64)):
        other = adata.copy()
        other.X = form(adata.X)
        np.testing.assert_allclose(per_cell(trained, case.given(other)), per_cell(trained), rtol=1e-6)


def test_on_disk_gives_the_same_in_the_order_asked_for(case, trained, adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    order = [44, 2, 2, 101, 7]
    np.testing.assert_allclose(per_cell(trained, case.given(backed), indices=order), per_cell(trained)[order], rtol=1e-5, atol=1e-6)
    backed.file.close()


@having("get_elbo")
def test_the_elbo_is_the_same_on_disk(case, trained, adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert trained.get_elbo(case.given(backed)) == pytest.approx(trained.get_elbo(), rel=1e-5)
    backed.file.close()


def test_trains_from_disk_to_the_same_weights(case, adata, tmp_path):
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    models = [case.make(a) for a in (adata, backed)]
    for model in models:
        model.train(max_epochs=1)
    np.testing.assert_allclose(per_cell(models[1]), per_cell(models[0]), rtol=1e-5, atol=1e-6)
    backed.file.close()


def test_saved_and_loaded_model_is_bit_equal(case, trained, adata, tmp_path):
    trained.save(tmp_path / "model")
    again = type(trained).load(tmp_path / "model", case.given(adata))
    np.testing.assert_array_equal(per_cell(again), per_cell(trained))
    for name, value in trained.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
    assert {k: getattr(again, k) for k in again.hyperparameters()} == {k: getattr(trained, k) for k in trained.hyperparameters()}
    pd.testing.assert_frame_equal(again._history, trained._history, check_index_type=False)
    if hasattr(trained, "get_elbo"):
        assert again.get_elbo(seed=5) == trained.get_elbo(seed=5)


def test_a_model_without_data_answers_for_data_given(case, trained, adata, tmp_path):
    trained.save(tmp_path / "model")
    again = type(trained).load(tmp_path / "model")
    np.testing.assert_array_equal(per_cell(again, case.given(adata)), per_cell(trained))
    with pytest.raises(errors.SetupError, match="without data"):
        per_cell(again)


def test_setup_survives_copy_subset_and_file(case, adata, tmp_path):
    case.make(adata)
    adata[:100].copy().write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    model = case.of(again)
    model.train(max_epochs=1)
    assert per_cell(model).shape[0] == 100


def test_the_users_object_is_as_it_was(case, adata):
    before = adata.copy()
    case.make(adata).train(max_epochs=1)
    assert set(adata.uns) == {"scelbo"}
    json.loads(adata.uns["scelbo"][case.owner.__name__])
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert (adata.X != before.X).nnz == 0
    assert set(adata.obsm) == set(before.obsm) and not adata.layers


@having(*DECODED)
def test_a_counterfactual_changes_only_what_depends_on_it(trained, case):
    same = decoded(trained)
    if "batch_key" not in case.keys:
        with pytest.raises(errors.ArgumentError, match="category of batch"):
            decoded(trained, transform_batch="batch1")
        return
    first, second = (decoded(trained, transform_batch=b) for b in ("batch0", "batch1"))
    own = (trained.adata.obs["batch"] == "batch0").to_numpy()
    np.testing.assert_allclose(first[own], same[own], rtol=1e-5)
    assert not np.allclose(first[~own], same[~own], rtol=1e-3)
    both = decoded(trained, transform_batch=["batch0", "batch1"])
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-4)


def test_sparse_loss_and_gradient_equal_dense_ones(trained):
    """The likelihood of the sparse minibatch is that of the dense one, by finite differences of the whole loss."""
    cells = next(trained.batches(indices=np.arange(6))).to(torch.float64)
    module = trained.module.double()
    module.zero_grad()
    weight = max((p for p in module.parameters() if p.requires_grad), key=torch.Tensor.dim)
    with torch.random.fork_rng():

        def loss():
            torch.manual_seed(0)
            # the adversary's player sees the latents held, the penalties of amounts those that were solved
            return module(cells).total(weights={"adversary": 0.0, "entropy": 0.0, "l1": 0.0})

        loss().backward()
        at, step = tuple(int(i) for i in np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)), 1e-6
        with torch.no_grad():
            weight[at] += step
            up = loss()
            weight[at] -= 2 * step
            down = loss()
    assert float((up - down) / (2 * step)) == pytest.approx(float(weight.grad[at]), rel=1e-4)


@pytest.mark.parametrize("train_size", [None, 0.9, 1.0])
def test_one_leftover_cell_never_crashes(case, train_size):
    """129 cells in minibatches of 128, whatever share of them trains."""
    train_size = train_size or case.model.training.train_size
    n = 129 if train_size == 1.0 else 143  # 0.9 * 143 -> 129
    model = case.make(cite(n, 40, 5))
    model.train(max_epochs=1, train_size=train_size, batch_size=128)
    assert len(model.train_indices) - 129 in range(len(model.streams()))  # the share of each is rounded up
    assert np.isfinite(per_cell(model)).all()


@having("get_marginal_ll")
def test_marginal_likelihood_is_above_the_elbo(trained):
    assert trained.get_marginal_ll(n_mc_samples=200) > trained.get_elbo() - 1e-3


@having(*DIFFERENTIAL)
def test_differential_expression_is_the_same_for_the_same_seed(trained):
    tables = [
        differential(trained, groupby="cell_type", mode=m, n_samples_overall=200, seed=s) for m in ("vanilla", "change") for s in (1, 1, 2)
    ]
    for same, again, other in (tables[:3], tables[3:]):
        pd.testing.assert_frame_equal(same, again)
        assert not same["bayes_factor"].equals(other["bayes_factor"])


def test_questions_need_a_trained_model(case, adata):
    model = case.make(adata)
    asked = [per_cell]
    asked += [decoded] if any(hasattr(model, name) for name in DECODED) else []
    asked += [differential] if any(hasattr(model, name) for name in DIFFERENTIAL) else []
    asked += [getattr(case.model, name) for name in ("get_elbo", "get_marginal_ll") if hasattr(case.model, name)]
    for ask in asked:
        with pytest.raises(errors.NotTrainedError, match="train"):
            ask(model)
