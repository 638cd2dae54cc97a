"""What every model keeps: `scelbo.testing` on every row of ``cases.CASES``, and that its checks do fail."""

import numpy as np
import pytest
import torch
from cases import CASES

from scelbo import SCVI, analysis, errors
from scelbo.analysis import augmentation
from scelbo.model import MODELS
from scelbo.models.scvi import SCVIModule
from scelbo.testing import CHECKS, ContractError, check_model, checks_of, run

SMALL = {"n_hidden": 8, "n_latent": 2}


@pytest.fixture(autouse=True)
def few_lessons(monkeypatch):
    monkeypatch.setattr(augmentation, "LESSONS", 200)  # enough for networks that are only to be kept


@pytest.mark.parametrize(("check", "case"), [(name, case) for name in CHECKS for case in CASES if name in checks_of(case)], ids=str)
def test_contract(check, case, tmp_path):
    run(check, case, tmp_path)


class Forgetful(SCVIModule):
    """Has something that no file keeps."""

    gain = 1.0

    def embed(self, z):
        if self.training:
            self.gain = 2.0
        return z * self.gain


class Lying(SCVIModule):
    """Hides a part of the loss from its gradient."""

    def dispersion(self, decoded, z, cells):
        return decoded.rho.detach()


class Deaf(SCVIModule):
    """Decodes without the batch."""

    def decode(self, z, cells):
        return super().decode(z, cells.replace({"batch": 0}))


def of(module):
    """scVI with another module."""

    class Broken(SCVI):
        """A model that does not keep the contract."""

        Module = module

    return Broken


class Mixing(SCVI):
    """Answers in another order than it was asked."""

    def get_latent_representation(self, *args, **kwargs):
        """z."""
        return np.sort(analysis.latent_representation(self, *args, **kwargs), axis=0)


class Writing(SCVI):
    """Writes into the user's object."""

    def train(self, *args, **kwargs):
        super().train(*args, **kwargs)
        self.adata.obs["mine"] = 1


class Drawing(SCVI):
    """Draws where others draw."""

    def get_latent_representation(self, *args, **kwargs):
        """z."""
        return analysis.latent_representation(self, *args, **kwargs) + 1e-9 * float(torch.rand(1))


class Mute(SCVI):
    """Has a question of which nobody knows what it does."""

    def get_something(self):
        return 1


class Other(SCVI):
    """Has a question of another's name, and not its arguments."""

    def get_loadings(self):
        """Its own."""


BROKEN = [
    (of(Forgetful), "saved_and_loaded_model_is_bit_equal"), (of(Lying), "sparse_loss_and_gradient_equal_dense_ones"),
    (of(Deaf), "a_counterfactual_changes_only_what_depends_on_it"), (Mixing, "rows_follow_the_indices_asked_for"),
    (Writing, "the_users_object_is_as_it_was"), (Drawing, "batch_size_changes_nothing"), (Mute, "questions_are_documented"),
    (Other, "questions_take_what_they_take_elsewhere"),
]  # fmt: skip
for broken, _ in BROKEN:
    MODELS.pop(broken.__name__, None)


@pytest.mark.parametrize(("model", "check"), BROKEN, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_model_that_does_not_keep_it_is_found_out(model, check):
    MODELS[model.__name__] = model
    try:
        with pytest.raises(ContractError, match=f"fails 1 of 1 checks(.|\n)*{check}"), torch.random.fork_rng():
            check_model(model, SMALL, only=[check])
    finally:
        MODELS.pop(model.__name__)


def test_what_does_not_apply_is_told_apart():
    checked = check_model(SCVI, SMALL, only=["questions_need_a_trained_model"], other_cells=False)
    assert list(checked.passed) == ["questions_need_a_trained_model"] and str(checked).startswith("1 checks passed")
    with pytest.raises(errors.ArgumentError, match="batch_size_changes_nothing"):
        check_model(SCVI, SMALL, only=["batch_size_changes_nothin"])
    checked = check_model(SCVI, SMALL, only=["genes_are_aligned_by_name"], other_cells=False)
    assert checked.skipped == ["genes_are_aligned_by_name"] and not checked.passed
