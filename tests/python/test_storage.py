"""The model folder: whole or not there, checked before it is believed, and never code."""

import json
import pickle

import pytest
from fuzz import fuzz

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


def test_hundreds_of_damaged_folders_are_an_error_or_the_same_model():
    outcomes = fuzz(300, seed=1)
    assert outcomes["bytes of model.json", "an error that says so"] > 50
    assert outcomes["bytes of the weights", "an error that says so"] > 50
    assert outcomes["model.json forged", "an error that says so"] > 20
    assert outcomes["weights forged", "an error that says so"] > 20


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model.json", lambda said: said["arguments"].update(dropout_rate=0.2)),
        ("model.json", lambda said: said["setup"]["categories"].update(batch=["batch1", "batch0"])),
        ("model.json", lambda said: said["checksums"].pop("about")),
        ("weights.safetensors", None),
    ],
)
def test_what_was_changed_since_it_was_saved_is_noticed(model, adata, tmp_path, file, change):
    model.save(tmp_path / "m")
    if change is None:  # the weights of another model of the same shape
        SCVI(adata, n_hidden=8, n_latent=3).save(tmp_path / "other")
        (tmp_path / "other" / file).replace(tmp_path / "m" / file)
    else:
        about = json.loads((tmp_path / "m" / file).read_text())
        change(about)
        (tmp_path / "m" / file).write_text(json.dumps(about, indent=2))
    with pytest.raises(errors.StorageError, match="was changed since the model was saved"):
        scelbo.load(tmp_path / "m", adata)


@pytest.mark.parametrize("size", ["n_hidden", "n_layers", "n_latent", "batch_embedding_dim"])
def test_a_size_that_would_fill_the_memory_is_refused_at_once(model, tmp_path, size):
    model.save(tmp_path / "m")
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    about["arguments"] |= {size: 10**9, "batch_representation": "embedding"}
    del about["checksums"]
    (tmp_path / "m" / "model.json").write_text(json.dumps(about))
    with pytest.raises(errors.StorageError, match="larger model than the weights are of"):
        scelbo.load(tmp_path / "m")
