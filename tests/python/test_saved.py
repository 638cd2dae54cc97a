"""Models that earlier versions saved open, and answer as they did (``save_models.py`` adds those of each release)."""

import json
import shutil

import numpy as np
import pytest
from cases import CASES, per_cell
from save_models import SAVED, kept

import scelbo

FOLDERS = sorted(path.parent for path in SAVED.glob("*/*/model.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_saved_model_opens_for_ever(folder):
    name = folder.name
    model = getattr(scelbo, name).load(folder, *(cells if isinstance(cells := kept(name), list) else [cells]))
    was = np.load(folder.parent / "answers.npz")[name]
    now = per_cell(model)
    assert np.abs(now - was).max() <= 1e-4 * np.abs(was).max()


def test_every_class_is_kept():
    assert {folder.name for folder in FOLDERS if folder.parent.name == "0.1.0"} == {case.model.__name__ for case in CASES}
    assert sum(path.stat().st_size for path in SAVED.rglob("*") if path.is_file()) < 500_000


@pytest.mark.parametrize("name", ["SCVI", "TOTALVI"])
def test_models_from_before_there_were_checksums_open_too(name, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(SAVED / "0.1.0" / name, folder)
    about = json.loads((folder / "model.json").read_text())
    del about["checksums"]
    (folder / "model.json").write_text(json.dumps(about))
    assert np.allclose(per_cell(scelbo.load(folder, kept(name))), np.load(SAVED / "0.1.0" / "answers.npz")[name], atol=1e-5)
