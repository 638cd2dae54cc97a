"""The model folder: whole or not there, checked before it is believed, and never code."""

import json
import pickle

import pytest

import scelbo
from scelbo import SCVI, errors


@pytest.fixture
def model(adata):
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata, n_hidden=8, n_latent=3)
    model.train(max_epochs=1)
    return model


def test_the_folder_is_plain_data(model, tmp_path):
    model.save(tmp_path / "m", save_anndata=True)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["data.h5ad", "model.json", "weights.safetensors"]
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    assert about["model"] == "SCVI" and about["arguments"]["n_latent"] == 3 and about["setup"]["features"]["x"][0] == "gene0"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    again = scelbo.load(tmp_path / "m")
    assert (again.get_latent_representation() == model.get_latent_representation()).all()


def test_overwriting_needs_to_be_asked_for_and_spares_other_folders(model, tmp_path):
    model.save(tmp_path / "m")
    with pytest.raises(errors.StorageError, match="overwrite=True"):
        model.save(tmp_path / "m")
    model.save(tmp_path / "m", overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("...")
    with pytest.raises(errors.StorageError, match="not a model folder"):
        model.save(tmp_path / "thesis", overwrite=True)


def test_a_save_that_fails_leaves_the_old_model(model, tmp_path, monkeypatch):
    model.save(tmp_path / "m")
    before = (tmp_path / "m" / "weights.safetensors").read_bytes()

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("scelbo.storage.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        model.save(tmp_path / "m", overwrite=True)
    assert (tmp_path / "m" / "weights.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def _damage(folder, name):
    match name:
        case "no folder":
            return folder.parent / "nowhere"
        case "no model.json":
            (folder / "model.json").unlink()
        case "half a model.json":
            (folder / "model.json").write_text((folder / "model.json").read_text()[:100])
        case "half the weights":
            data = (folder / "weights.safetensors").read_bytes()
            (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])
        case "no weights":
            (folder / "weights.safetensors").unlink()
        case "a pickle as weights":
            (folder / "weights.safetensors").write_bytes(pickle.dumps(Hostile()))
        case "other class" | "other size" | "other format":
            about = json.loads((folder / "model.json").read_text())
            about |= {"other class": {"model": "os.system"}, "other format": {"format": 99}}.get(name, {})
            if name == "other size":
                about["arguments"]["n_hidden"] = 9
            (folder / "model.json").write_text(json.dumps(about))
    return folder


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


@pytest.mark.parametrize(
    "damage",
    [
        "no folder",
        "no model.json",
        "half a model.json",
        "half the weights",
        "no weights",
        "a pickle as weights",
        "other class",
        "other size",
        "other format",
    ],
)
def test_a_damaged_folder_is_an_error_and_never_code(model, adata, tmp_path, damage):
    model.save(tmp_path / "m")
    with pytest.raises(errors.StorageError):
        scelbo.load(_damage(tmp_path / "m", damage), adata)


def test_another_class_says_which(model, adata, tmp_path):
    class Other(SCVI):
        """Another model."""

    model.save(tmp_path / "m")
    with pytest.raises(errors.StorageError, match="holds a SCVI, not a Other"):
        Other.load(tmp_path / "m", adata)
