"""The developer's surface: what docs/developer/surface.md says is what the code has, and a change raises the version."""

import inspect

import pytest
from surface import PAGE, bump_needed, enough, named, page

import scelbo
from scelbo import errors, surface, train
from scelbo.data.simulate import counts


def test_the_page_says_what_the_code_has():
    assert PAGE.read_text() == page(), "make surface writes it anew"


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in surface.STABLE.items() for n in names])
def test_each_stable_name_is_there_and_documented(module, name):
    value = named(module, name)
    assert isinstance(value, str | dict) or inspect.getdoc(value)


def test_a_change_of_the_surface_raises_its_version():
    old = "Version 1.3\n- `f(x)`\n  - `.g(y=1)`\n"
    added, gone, other = old + "- `h()`\n", old.replace("- `f(x)`\n", ""), old.replace("y=1", "y=2")
    assert [bump_needed(old, new) for new in (old, added, gone, other)] == ["", "minor", "major", "major"]
    assert enough(old, old) and enough(old, added.replace("1.3", "1.4")) and enough(old, gone.replace("1.3", "2.0"))
    assert not enough(old, added) and not enough(old, gone.replace("1.3", "1.4")) and not enough(old, other)


@pytest.mark.parametrize(("version", "fits"), [("1.0", True), ("1.99", False), ("0.9", False), ("2.0", False)])
def test_a_package_says_which_surface_it_needs(version, fits, monkeypatch):
    monkeypatch.setattr(surface, "VERSION", "1.2")
    if fits:
        surface.require(version)
    else:
        with pytest.raises(errors.BackendError, match=rf"{version}.*1\.2 is installed"):
            surface.require(version)


def test_a_model_may_bring_a_plan_of_its_own():
    class Halved(train.Plan):
        def total(self, loss):
            return super().total(loss) / 2

    class Half(scelbo.SCVI):
        Plan = Halved

    losses = {}
    for kind in (scelbo.SCVI, Half):
        adata = counts(100, 30)
        kind.setup_anndata(adata)
        model = kind(adata, n_hidden=8)
        model.train(max_epochs=1, seed=0, train_size=1.0, batch_size=100)
        losses[kind] = float(model.history["train_loss"].iloc[0, 0])
    scelbo.model.MODELS.pop("Half")
    assert losses[Half] == pytest.approx(losses[scelbo.SCVI] / 2, rel=1e-6)
