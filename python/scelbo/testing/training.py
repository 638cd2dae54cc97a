"""Checks of training, and of the order of cells and genes. Each takes a case and an empty folder, and raises an AssertionError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from scelbo.testing.asked import DECODED, decoded, per_cell
from scelbo.testing.case import Case
from scelbo.testing.registry import check, on_disk, same

ORDER = [17, 3, 3, 90, 0]
"""Rows in no order, one of them twice."""


# ---------------------------------------------------------------------- training
@check()
def training_lowers_the_loss(case: Case, folder: Path) -> None:
    """Twelve epochs lower the training loss, and answers are finite."""
    plan = {"lr": 5e-3, "n_epochs_kl_warmup": 1}
    model = case.trained(case.cells(), 12, seed=None, plan_kwargs=plan)
    loss = model.history["train_loss"]["train_loss"]
    assert loss.iloc[-3:].mean() < loss.iloc[1:4].mean(), f"the loss by epoch: {[round(v, 2) for v in loss]}"
    assert np.isfinite(per_cell(model)).all(), "an answer is not finite"


@check()
def same_seed_same_model_other_seed_another(case: Case, folder: Path) -> None:
    """Training with the same seed gives the same model to the bit, with another another."""
    once = lambda seed: per_cell(case.trained(case.cells(), 2, seed=seed, batch_size=50))  # noqa: E731
    first = once(3)
    np.testing.assert_array_equal(first, once(3))
    assert not np.array_equal(first, once(4)), "another seed gave the same model: is anything drawn from torch's own random state?"


@check()
def training_goes_on(case: Case, folder: Path) -> None:
    """A second training goes on from the first, and the history has both."""
    model = case.trained(case.cells(), 2)
    model.train(max_epochs=1, seed=1, progress=False)
    assert list(model.history["train_loss"].index) == [0, 1, 2] and model.trained_epochs == 3


@check()
def one_leftover_cell_never_crashes(case: Case, folder: Path) -> None:
    """129 cells in minibatches of 128 train, whatever share of the cells they are."""
    for share in (None, 0.9, 1.0):
        train_size = share or case.model.training.train_size
        n = 129 if train_size == 1.0 else 143  # 0.9 * 143 -> 129
        model = case.trained(case.cells(n, 0), 1, seed=None, train_size=train_size, batch_size=128)
        assert len(model.train_indices) - 129 in range(len(model.streams())), "the share of each stream is rounded up"
        assert np.isfinite(per_cell(model)).all(), "an answer is not finite"


@check()
def sparse_loss_and_gradient_equal_dense_ones(case: Case, folder: Path) -> None:
    """The gradient of the loss of a sparse minibatch is that of its finite differences."""
    model = case.trained(case.cells())
    cells = next(model.batches(indices=np.arange(6))).to(torch.float64)
    module = model.module.double()
    module.zero_grad()
    weight = max((p for p in module.parameters() if p.requires_grad), key=torch.Tensor.dim)
    with torch.random.fork_rng():

        def loss() -> torch.Tensor:
            torch.manual_seed(0)
            # the adversary's player sees the latents held, the penalties of amounts those that were solved
            return module(cells).total(weights={"adversary": 0.0, "entropy": 0.0, "l1": 0.0})

        loss().backward()
        assert weight.grad is not None, "a parameter has no gradient"
        at, step = tuple(int(i) for i in np.unravel_index(int(weight.grad.abs().argmax()), weight.shape)), 1e-6
        with torch.no_grad():
            weight[at] += step
            up = loss()
            weight[at] -= 2 * step
            down = loss()
    same(float((up - down) / (2 * step)), float(weight.grad[at]), rtol=1e-4)


# ---------------------------------------------------------------------- the order of cells and genes
@check()
def rows_follow_the_indices_asked_for(case: Case, folder: Path) -> None:
    """Rows come in the order of ``indices``, repeats and masks included."""
    model = case.trained(case.cells())
    whole = per_cell(model)
    same(per_cell(model, indices=ORDER), whole[ORDER])
    mask = np.arange(120) % 7 == 0
    same(per_cell(model, indices=mask), whole[mask])


@check(*DECODED)
def decoded_rows_follow_the_indices_asked_for(case: Case, folder: Path) -> None:
    """The same of what is decoded."""
    model = case.trained(case.cells())
    whole, part = decoded(model), decoded(model, indices=ORDER)
    assert list(part.index) == list(whole.index[ORDER])
    same(part, whole.iloc[ORDER], rtol=1e-4)


@check()
def batch_size_changes_nothing(case: Case, folder: Path) -> None:
    """Answers do not depend on how many cells are worked on together."""
    model = case.trained(case.cells())
    same(per_cell(model, batch_size=7), per_cell(model))


@check(other_cells=True)
def genes_are_aligned_by_name(case: Case, folder: Path) -> None:
    """Genes in another order give the same answers."""
    adata = case.cells()
    model = case.trained(adata)
    same(per_cell(model, case.given(adata[:, ::-1].copy())), per_cell(model))


@check(other_cells=True)
def dense_csc_and_csr_give_the_same(case: Case, folder: Path) -> None:
    """Answers do not depend on how the matrix is stored."""
    adata = case.cells()
    model = case.trained(adata)
    for form in (lambda x: x.toarray(), sparse.csc_matrix, lambda x: x.astype(np.int64)):
        other = adata.copy()
        other.X = form(adata.X)
        same(per_cell(model, case.given(other)), per_cell(model), rtol=1e-6)


@check(other_cells=True)
def on_disk_gives_the_same_in_the_order_asked_for(case: Case, folder: Path) -> None:
    """A file that is read as it is needed gives the same answers."""
    adata, order = case.cells(), [44, 2, 2, 101, 7]
    model = case.trained(adata)
    with on_disk(adata, folder) as backed:
        same(per_cell(model, case.given(backed), indices=order), per_cell(model)[order])


@check("get_elbo", other_cells=True)
def the_elbo_is_the_same_on_disk(case: Case, folder: Path) -> None:
    """So does the ELBO."""
    adata = case.cells()
    model: Any = case.trained(adata)
    with on_disk(adata, folder) as backed:
        same(model.get_elbo(case.given(backed)), model.get_elbo(), rtol=1e-5)


@check()
def trains_from_disk_to_the_same_weights(case: Case, folder: Path) -> None:
    """Training from a file gives the model that training from memory gives."""
    adata = case.cells()
    with on_disk(adata, folder) as backed:
        models = [case.trained(a, 1, seed=None) for a in (adata, backed)]
        same(per_cell(models[1]), per_cell(models[0]))
