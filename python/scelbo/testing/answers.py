"""Checks of what is kept, said and true. Each takes a case and an empty folder, and raises an AssertionError."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch

import scelbo
from scelbo import errors
from scelbo.analysis.decode import explained_fields
from scelbo.model import Model
from scelbo.module import draw
from scelbo.testing.asked import DECODED, DIFFERENTIAL, decoded, differential, per_cell
from scelbo.testing.case import Case
from scelbo.testing.registry import check, refused, same


# ---------------------------------------------------------------------- what is kept
@check()
def saved_and_loaded_model_is_bit_equal(case: Case, folder: Path) -> None:
    """Weights, arguments, history and answers come back as they were."""
    adata = case.cells()
    model: Any = case.trained(adata)
    model.save(folder / "model")
    again = type(model).load(folder / "model", case.given(adata) if case.other_cells else model.adata)
    np.testing.assert_array_equal(per_cell(again), per_cell(model))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), f"{name} differs"
    assert {k: getattr(again, k) for k in again.hyperparameters()} == {k: getattr(model, k) for k in model.hyperparameters()}
    pd.testing.assert_frame_equal(again._history, model._history, check_index_type=False)
    if hasattr(model, "get_elbo"):
        assert again.get_elbo(seed=5) == model.get_elbo(seed=5)


@check(other_cells=True)
def a_model_without_data_answers_for_data_given(case: Case, folder: Path) -> None:
    """A model that was loaded alone takes the cells with the question, and says so where it gets none."""
    adata = case.cells()
    model = case.trained(adata)
    model.save(folder / "model")
    again = type(model).load(folder / "model")
    np.testing.assert_array_equal(per_cell(again, case.given(adata)), per_cell(model))
    with refused(errors.SetupError, "without data"):
        per_cell(again)


@check()
def setup_survives_copy_subset_and_file(case: Case, folder: Path) -> None:
    """What ``setup_anndata`` noted goes with the cells."""
    adata = case.cells()
    case.make(adata)
    adata[:100].copy().write_h5ad(folder / "a.h5ad")
    model = case.of(anndata.read_h5ad(folder / "a.h5ad"), **case.small)
    model.train(max_epochs=1, progress=False)
    assert len(per_cell(model)) == 100


@check()
def the_users_object_is_as_it_was(case: Case, folder: Path) -> None:
    """Only ``uns["scelbo"]`` is written."""
    adata = case.cells()
    before = adata.copy()
    case.trained(adata, 1)
    assert set(adata.uns) == {"scelbo"}, f"written into uns: {set(adata.uns)}"
    json.loads(adata.uns["scelbo"][case.owner.__name__])
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert (adata.X != before.X).nnz == 0, "the counts were changed"
    assert set(adata.obsm) == set(before.obsm) and not adata.layers


# ---------------------------------------------------------------------- what is said
@check()
def a_typo_is_an_error_that_names_the_nearest(case: Case, folder: Path) -> None:
    """Of an argument of the model, and of the data."""
    adata, first = case.cells(), next(iter(case.model.hyperparameters()), None)
    case.owner.setup_anndata(adata, **case.keys)
    if first is not None:
        with refused(errors.ArgumentError, first):
            case.model(adata, **{f"{first}x": 1})  # type: ignore[arg-type]
    with refused(errors.ScelboError, "layer"):
        case.owner.setup_anndata(adata, **{**case.keys, "layerr": "counts"})


@check()
def questions_are_documented(case: Case, folder: Path) -> None:
    """The class, and all that it offers to be asked, say what they do."""
    own = {
        name: f for name, f in inspect.getmembers(case.model) if not name.startswith("_") and (inspect.isfunction(f) or inspect.ismethod(f))
    }
    mute = [name for name, f in {case.model.__name__: case.model, **own}.items() if not inspect.getdoc(f)]
    assert not mute, f"without a docstring: {', '.join(mute)}"


@check()
def questions_take_what_they_take_elsewhere(case: Case, folder: Path) -> None:
    """A question with the name of one of scelbo's own takes the arguments that one of these takes, so that R and people can ask it."""
    own = [kind for n in scelbo.__all__ if isinstance(kind := getattr(scelbo, n), type) and issubclass(kind, Model)]
    for name in (n for n in dir(case.model) if not n.startswith("_") and not hasattr(Model, n)):
        elsewhere = [_takes(kind, name) for kind in own if inspect.isroutine(getattr(kind, name, None))]
        takes = _takes(case.model, name) if elsewhere else set()
        lacking = min((other - takes for other in elsewhere), key=len, default=set())
        assert not lacking or "more" in takes, f"{name}() does not take {', '.join(sorted(lacking))}: name it otherwise, or take them"


def _takes(model: type[Model], question: str) -> set[str]:
    parameters = inspect.signature(getattr(model, question)).parameters.values()
    return {"more" if p.kind is p.VAR_KEYWORD else p.name for p in parameters}


@check()
def questions_need_a_trained_model(case: Case, folder: Path) -> None:
    """Before training, every question says what to call."""
    model: Any = case.make(case.cells())
    asked: list[Callable[[Any], Any]] = [per_cell]
    asked += [decoded] if any(hasattr(model, name) for name in DECODED) else []
    asked += [differential] if any(hasattr(model, name) for name in DIFFERENTIAL) else []
    asked += [getattr(case.model, name) for name in ("get_elbo", "get_marginal_ll", "sample_posterior") if hasattr(case.model, name)]
    for ask in asked:
        with refused(errors.NotTrainedError, "train"):
            ask(model)


# ---------------------------------------------------------------------- what is true
@check(*DECODED)
def a_counterfactual_changes_only_what_depends_on_it(case: Case, folder: Path) -> None:
    """Cells as if they were of a batch: those of the batch are as they were, others are not."""
    model: Any = case.trained(case.cells())
    same_cells = decoded(model)
    if "batch_key" not in case.keys:
        with refused(errors.ArgumentError, "category of batch"):
            decoded(model, transform_batch="batch1")
        return
    first, second = (decoded(model, transform_batch=b) for b in ("batch0", "batch1"))
    own = (model.adata.obs["batch"] == "batch0").to_numpy()
    same(first[own], same_cells[own], rtol=1e-5)
    assert not np.allclose(first[~own], same_cells[~own], rtol=1e-3), "the batch changes nothing: does the decoder see it?"
    same(decoded(model, transform_batch=["batch0", "batch1"]), (first + second) / 2, rtol=1e-4)


@check("get_marginal_ll")
def marginal_likelihood_is_above_the_elbo(case: Case, folder: Path) -> None:
    """As it must be: the ELBO is a lower bound."""
    model: Any = case.trained(case.cells())
    assert model.get_marginal_ll(n_mc_samples=200) > model.get_elbo() - 1e-3


@check(*DIFFERENTIAL)
def differential_expression_is_the_same_for_the_same_seed(case: Case, folder: Path) -> None:
    """And another for another."""
    model = case.trained(case.cells())
    ask = lambda mode, seed: differential(model, groupby="cell_type", mode=mode, n_samples_overall=200, seed=seed)  # noqa: E731
    for mode in ("vanilla", "change"):
        first, again, other = (ask(mode, seed) for seed in (1, 1, 2))
        pd.testing.assert_frame_equal(first, again)
        assert not first["bayes_factor"].equals(other["bayes_factor"]), "another seed gave the same"


@check(*DECODED)
def what_is_asked_alone_is_part_of_the_whole(case: Case, folder: Path) -> None:
    """Heads that are asked for alone say what they say among all."""
    model: Any = case.trained(case.cells())
    with torch.inference_mode():
        module, cells = model.module, next(model.batches())
        q, alone = module.posterior(cells), module.posterior_of_scale(cells)
        torch.testing.assert_close(module.place(cells).mean, q.z.mean, rtol=0, atol=0)
        z, some = draw(q, mean=True), draw(alone, mean=True)
        for of in explained_fields(model).values():
            whole = module.likelihood_of(of, z, cells).scale
            torch.testing.assert_close(module.scale_of(of, some, cells), whole, rtol=1e-6, atol=1e-12)
