"""One seed, one answer: whatever ran before in the process, in whatever order it is asked; nobody else's random numbers are touched."""

import contextlib
import dataclasses
import inspect
import random
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from cases import CASES
from scipy import sparse

from scelbo import SCVI

ASKED = {"groupby": "cell_type", "sample_key": "donor", "n_samples_overall": 100, "num_cells_posterior": 20, "n_mc_samples": 20}
"""Arguments for the questions that take them."""
TOO_LONG = {"train", "report"}


def questions(model):
    """Whatever the model can be asked that draws, as long as it needs nothing that ``ASKED`` lacks."""
    out = {}
    for name in dir(type(model)):
        if name.startswith("_") or name in TOO_LONG or not inspect.isfunction(method := getattr(type(model), name)):
            continue
        takes = inspect.signature(method).parameters
        needed = {p.name for p in takes.values() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
        if "seed" in takes and needed <= set(ASKED):
            out[name] = {"seed": 3, **{argument: value for argument, value in ASKED.items() if argument in takes}}
    return out


def same(one, other):
    """To the bit."""
    if dataclasses.is_dataclass(one):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, tuple | list):
        assert len(one) == len(other)
        for parts in zip(one, other, strict=True):
            same(*parts)
    elif isinstance(one, pd.DataFrame | pd.Series):
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other), check_exact=True)
    else:
        one, other = (x.toarray() if sparse.issparse(x) else np.asarray(x) for x in (one, other))
        np.testing.assert_array_equal(one, other)


@contextlib.contextmanager
def elsewhere():
    """Inside, the process has drawn other random numbers, and has trained and asked another model."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


@pytest.mark.parametrize("case", {case.model: case for case in reversed(CASES)}.values(), ids=str)
def test_one_seed_gives_one_answer_whatever_ran_before(case, adata):
    model = case.trained(adata, 2)
    first = {name: getattr(model, name)(**how) for name, how in questions(model).items()}
    with elsewhere():
        SCVI.setup_anndata(other := case.cells(60, seed=5))
        SCVI(other, n_latent=3).train(max_epochs=1, seed=8)
        again = case.trained(adata, 2)
        for name in reversed(first):
            same(getattr(again, name)(**questions(model)[name]), first[name])
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name


FRESH = """
    import random
    import numpy as np
    import torch
    state = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    before = state()
    from scelbo import SCVI, settings
    from scelbo.data.simulate import counts
    settings.progress = False
    adata = counts(100, 30)
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=8)
    model.train(max_epochs=1)
    model.differential_expression(groupby="cell_type")
    print([one == other for one, other in zip(state(), before)])
"""


def test_what_the_first_training_of_a_process_imports_touches_nothing_either():
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(FRESH)], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "[True, True, True]\n", run.stdout + run.stderr


def test_those_are_the_questions_that_draw(adata):
    SCVI.setup_anndata(adata)
    assert {"get_elbo", "get_latent_representation", "differential_expression", "posterior_predictive_sample"} <= set(
        questions(SCVI(adata))
    )
