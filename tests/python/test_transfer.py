"""Transfer: the reference cannot move, the query can, and both survive a file."""

import contextlib

import numpy as np
import pytest
import torch
from cases import CASES, PEAKVI, Case, arrays, decoded

from scelbo import SCVI, errors
from scelbo.data.simulate import cite


@pytest.fixture(params=[c for c in CASES if "batch_key" in c.keys and hasattr(c.model, "load_query_data")], ids=str)
def case(request):
    return request.param


def needs_half_of_the_features(case):
    """An error, but not where cells may lack whole matrices."""
    if any(declared.may_lack for declared in case.model.Cells.fields().values()):
        return contextlib.nullcontext()
    return pytest.raises(errors.DataError, match="of the model's 40 features")


@pytest.fixture
def reference(case, adata):
    model = case.make(adata)
    model.train(max_epochs=3)
    return model


def test_outputs_may_learn_from_a_query(adata):
    reference = Case(PEAKVI).make(adata)
    reference.train(max_epochs=1)
    for frozen in (True, False):
        model = PEAKVI.load_query_data(adata.copy(), reference, freeze_expression=frozen)
        assert {p.requires_grad for p in (model.module.y.weight, model.module.y.bias)} == {not frozen}


def test_what_a_query_learns_does_not_decay(adata):
    reference = Case(PEAKVI).make(adata)
    reference.train(max_epochs=1)
    query = adata[:60].copy()
    query.obs["batch"] = "new"
    model = PEAKVI.load_query_data(query, reference)
    model.train(max_epochs=1)
    assert [g["weight_decay"] for g in model.optimizer_state["param_groups"]] == [0.0]
    assert max(g["weight_decay"] for g in reference.optimizer_state["param_groups"]) > 0


@pytest.fixture
def query(case):
    """Cells of the reference's types, in one batch that it knows and one that it does not, from a new donor too."""
    cells = cite(90, 40, 5, seed=1, batch_effect=1.5)
    cells.obs["batch"] = ["batch1"] * 30 + ["new"] * 60
    cells.obs["donor"] = ["donor0"] * 50 + ["someone else"] * 40
    return case.data(cells)


def answers(model, adata):
    """What a model says of the reference's cells."""
    return [model.get_latent_representation(adata), *arrays(decoded(model, adata))]


def test_the_reference_does_not_move_and_the_query_does(case, reference, adata, query):
    before = answers(reference, adata)
    model = case.model.load_query_data(query, reference)
    assert model.setup.categories["batch"] == ["batch0", "batch1", "new"]
    for old, now in zip(before, answers(model, adata), strict=True):
        np.testing.assert_array_equal(now, old)
    start, bound = model.get_latent_representation(), model.get_elbo(seed=1)
    model.train(max_epochs=10, plan_kwargs={"lr": 0.02, "weight_decay": 0.1, "n_epochs_kl_warmup": 1})
    for old, now in zip(before, answers(model, adata), strict=True):
        np.testing.assert_array_equal(now, old)
    assert np.abs(model.get_latent_representation()[30:] - start[30:]).max() > 1e-3
    assert model.get_elbo(seed=1) > bound
    assert answers(reference, adata)[0].tobytes() == before[0].tobytes()


def test_only_new_rows_learn(case, reference, query):
    model = case.model.load_query_data(query, reference)
    learning = [name for name, p in model.module.named_parameters() if p.requires_grad]
    assert learning and all(name.endswith(".table") for name in learning)
    assert all(len(p) in (1, 2) for p in model.module.parameters() if p.requires_grad)


def test_a_querys_model_survives_a_file(case, reference, adata, query, tmp_path):
    for name, options in (("fixed", {}), ("free", {"unfrozen": True})):
        model = case.model.load_query_data(query, reference, **options)
        model.train(max_epochs=1)
        model.save(tmp_path / name)
        again = case.model.load(tmp_path / name, query)
        np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
        grads = lambda m: [p.requires_grad for p in m.module.parameters()]  # noqa: E731
        assert grads(again) == grads(model)
        again.train(max_epochs=1)


def test_a_query_can_be_a_reference(case, reference, adata, query):
    first = type(reference).load_query_data(query, reference)
    first.train(max_epochs=2)
    third = cite(50, 40, 5, seed=1)
    third.obs["batch"] = "third"
    third = case.data(third)
    before = [answers(first, cells) for cells in (adata, query)]
    model = type(reference).load_query_data(third, first)
    model.train(max_epochs=2, plan_kwargs={"lr": 0.02})
    for cells, old in zip((adata, query), before, strict=True):
        for was, now in zip(old, answers(model, cells), strict=True):
            np.testing.assert_array_equal(now, was)


def test_a_query_without_anything_new_is_the_reference(case, reference, adata):
    model = case.model.load_query_data(adata, reference)
    assert not [p for p in model.module.parameters() if p.requires_grad]
    model.train(max_epochs=1)
    np.testing.assert_array_equal(model.get_latent_representation(), reference.get_latent_representation())


def test_genes_that_were_not_measured_are_left_out_and_not_taken_for_zeros(case, reference, adata, tmp_path):
    """The reference's own cells without four genes: their place is nearer to the true one than with zeros; all likelihoods fit."""
    dropped = list(decoded(reference)[list(reference.setup.var_names)].mean().nlargest(5).index[1:])
    fewer = adata[:, ~adata.var_names.isin(dropped)].copy()
    zeros = adata.copy()
    x = adata.X.toarray()
    x[:, adata.var_names.isin(dropped)] = 0
    x[x.sum(1) == 0, -1] = 1
    zeros.X = x
    model = case.model.load_query_data(fewer, reference)
    assert set(model.setup.absent["x"]) == set(dropped)
    truth = reference.get_latent_representation()
    error = lambda z: np.linalg.norm(z - truth)  # noqa: E731
    slack = 1.02 if "protein" in case.model.Cells.fields() else 1  # where proteins place cells, four genes hardly do
    assert error(model.get_latent_representation()) < slack * error(reference.get_latent_representation(zeros))
    model.train(max_epochs=2)
    assert np.isfinite(model.get_elbo()) and decoded(model).shape == (120, decoded(reference).shape[1])
    np.testing.assert_array_equal(model.get_latent_representation(adata), truth)  # where they are measured, they are read
    model.save(tmp_path / "m")
    again = case.model.load(tmp_path / "m", fewer)
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())
    with pytest.raises(errors.DataError, match=r"of the model's 40 features|no counts in any modality"):
        case.model.load_query_data(adata[:, :15].copy(), reference)


def test_what_the_query_will_be_read_as_can_be_seen(reference, adata, case):
    shuffled = adata[:, adata.var_names[::-1]][:, 3:].copy()
    seen = case.model.prepare_query_anndata(shuffled, reference)
    assert list(seen.var_names) == list(adata.var_names[:-3])
    np.testing.assert_array_equal(seen.X.toarray(), adata[:, :-3].X.toarray())
    with needs_half_of_the_features(case):
        case.model.prepare_query_anndata(adata[:, :15].copy(), reference)


@pytest.mark.parametrize(
    ("options", "learns"),
    [
        ({"unfrozen": True}, "z.body.linear.0.weight"),
        ({"freeze_expression": False}, "z.body.linear.0.weight"),
        ({"freeze_expression": False}, "rho.weight"),
        ({"freeze_decoder_first_layer": False}, "decoder.linear.0.weight"),
        ({"freeze_batchnorm_encoder": False}, "z.body.norm.0.0.weight"),
        ({"freeze_batchnorm_decoder": False}, "decoder.norm.0.0.bias"),
    ],
)
def test_each_option_lets_its_part_learn(adata, query, options, learns):
    SCVI.setup_anndata(adata, batch_key="batch")
    reference = SCVI(adata, n_hidden=16, n_latent=4)
    reference.train(max_epochs=1)
    weight = lambda model: dict(model.module.named_parameters())[learns].detach().clone()  # noqa: E731
    for given, moves in (({}, False), (options, True)):
        model = SCVI.load_query_data(query, reference, **given)
        start = weight(model)
        model.train(max_epochs=2)
        assert torch.equal(start, weight(model)) is not moves


def test_dropout_can_be_frozen(adata, query):
    SCVI.setup_anndata(adata, batch_key="batch")
    reference = SCVI(adata, n_hidden=16, dropout_rate=0.5)
    reference.train(max_epochs=1)
    model = SCVI.load_query_data(query, reference, freeze_dropout=True)
    assert all(m.p == 0 for m in model.module.modules() if isinstance(m, torch.nn.Dropout))


def test_wrong_references_are_refused(adata, query, tmp_path):
    class Other(SCVI):
        """Another model."""

    SCVI.setup_anndata(adata, batch_key="batch")
    reference = SCVI(adata, n_hidden=8)
    with pytest.raises(errors.NotTrainedError):
        SCVI.load_query_data(query, reference)
    reference.train(max_epochs=1)
    with pytest.raises(errors.SetupError, match="is a SCVI, not a Other"):
        Other.load_query_data(query, reference)
    with pytest.raises(errors.DataError, match="batch_key"):
        SCVI.load_query_data(_without(query, "batch"), reference)
    reference.save(tmp_path / "m")
    assert SCVI.load_query_data(query, tmp_path / "m").is_trained


def _without(adata, column):
    other = adata.copy()
    del other.obs[column]
    return other
