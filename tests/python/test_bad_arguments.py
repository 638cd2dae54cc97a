"""Whatever is asked: a misspelt or wrong argument is answered with our words, before any work, and the user's object is as it was."""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
from refusals import FIRST, asked

from scelbo import SCVI, errors
from scelbo.data.simulate import cite


@pytest.fixture(params=FIRST, ids=str)
def case(request):
    return request.param


WRONG = {"int": "many", "float": "many", "bool": "yes", "str": 3.5, "Literal": "nonesuch", "list": 3.5}


def wrong_value(annotation):
    """What no argument of this type may be."""
    return next((value for kind, value in WRONG.items() if kind in str(annotation)), object())


def hyperparameters():
    """Every argument of every model, or of what makes it of another."""
    for case in FIRST:
        makes = getattr(case.model, "from_scvi_model", case.model) if case.owner is not case.model else case.model
        for name, kind in inspect.get_annotations(case.model, eval_str=False).items():
            if name in case.model.hyperparameters() and name in inspect.signature(makes).parameters:
                yield pytest.param(case, name, kind, id=f"{case.model.__name__}-{name}")


@pytest.mark.parametrize(("case", "name", "kind"), list(hyperparameters()))
def test_a_misspelt_or_wrong_argument_of_a_model(case, adata, name, kind):
    def make(adata, **wrong):
        case.owner.setup_anndata(adata, **case.keys)
        replace(case, arguments={**case.arguments, **wrong}, small={}).of(adata)

    for wrong in ({name[:-1] + "_" + name[-1]: 1}, {name: wrong_value(kind)}):
        got, text = asked(make, adata, **wrong)
        assert got is errors.ArgumentError, f"{wrong}: {text}"
        assert name in text, f"{wrong}: {text}"


TRAINING = {
    "max_epochs": ["ten", 0, -3, 2.5],
    "batch_size": ["many", 0, -1, 0.5],
    "train_size": ["most", 0, 1.5, -0.1, np.nan],
    "validation_size": ["some", 1.5, -0.1],
    "accelerator": ["tpx", 3],
    "devices": ["all of them", -7],
    "seed": ["one", 0.5, object()],
    "early_stopping": ["yes"],
    "plan": ["scvi_tools", 3],
    "plan_kwargs": [
        {"lr": 0},
        {"lr": "fast"},
        {"learning_rate": 0.1},
        {"optimizer": "SGD"},
        {"decay": "some"},
        {"n_epochs_kl_warmup": "x"},
        3,
    ],
    "max_epoch": [3],
    "early_stoping": [True],
}


@pytest.mark.parametrize("name", TRAINING)
def test_what_training_may_not_be_told(adata, name):
    SCVI.setup_anndata(adata)
    for value in TRAINING[name]:
        model = SCVI(adata, n_hidden=4)
        got, text = asked(lambda a, m=model, v=value: m.train(**{"max_epochs": 1, name: v}), adata)
        assert got is errors.ArgumentError, f"{name}={value!r}: {text}"
        assert next(iter(value)) if isinstance(value, dict) else name in text, text
        assert not model.is_trained
        SCVI.setup_anndata(adata)


ASKED = ("get_", "differential_", "predict", "posterior_predictive_sample", "impute", "transfer_", "annotate", "mapping_score")
QUESTIONS = {
    "indices": [[10_000], [-500], [0.5], "all", np.ones(3, bool)],
    "batch_size": [0, "many"],
    "n_samples": [0, -1, 2.5, "many"],
    "n_mc_samples": [0, "many"],
    "gene_list": [["nonesuch"], "nonesuch", [3.5]],
    "region_list": [["nonesuch"]],
    "protein_list": [["nonesuch"]],
    "transform_batch": ["nonesuch", ["batch0", "nonesuch"]],
    "library_size": ["large", -1, "latnet"],
    "seed": ["one"],
    "groupby": ["nonesuch"],
    "mode": ["chnge"],
    "fdr_target": [5, "low"],
    "delta": ["big"],
    "weights": ["unifrom"],
}


def methods(model):
    """Name -> arguments, of what users ask."""
    public = (name for name in dir(model) if name.startswith(ASKED) and callable(getattr(model, name)))
    return {name: inspect.signature(getattr(model, name)).parameters for name in public}


@pytest.fixture(scope="module")
def models():
    """One trained model of each kind."""
    made = {}
    for case in FIRST:
        adata = case.data(cite(120, 40, 5, seed=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = case.make(adata)
            model.train(max_epochs=1, seed=0)
        made[str(case)] = model
    return made


def test_what_models_may_not_be_asked(case, models):
    model, found = models[str(case)], []
    for method, arguments in methods(model).items():
        ask = getattr(model, method)
        needed = {name for name, p in arguments.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
        wrong = [(name, value) for name in arguments.keys() & QUESTIONS.keys() for value in QUESTIONS[name] if not needed - {name}]
        for name, value in [*wrong, ("indixes", [0])]:
            try:
                kind, text = asked(lambda _, ask=ask, **more: ask(**more), model.adata, **{name: value})
            except Exception as error:
                kind, text = type(error), str(error)
            if kind is not errors.ArgumentError:
                found.append(f"{method}({name}={value!r}): {kind} {text[:80]}")
    assert not found, "\n".join(found)
