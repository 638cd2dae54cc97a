"""Models of scvi-tools: genuine files of 1.4.2 open and answer as they did there, and go back as they were.

``benchmarks/folders.py`` wrote the files; ``make parity`` does the same with live models of scvi-tools.
"""

import shutil
from pathlib import Path

import mudata
import numpy as np
import pytest
import torch
from anndata import AnnData, read_h5ad
from scipy import sparse

import scelbo
from scelbo import SCANVI, SCVI, TOTALVI, errors, scvi_tools, storage
from scelbo.data.simulate import counts
from scelbo.scvi_tools import maps, pickles, registry
from scelbo.scvi_tools.trees import Blank

KEPT = Path(__file__).parent / "scvi_tools"
CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "checkpoints"
NAMES = sorted(folder.name for folder in KEPT.iterdir() if folder.is_dir())
ANSWERS = dict(np.load(KEPT / "answers.npz"))


def cells(name):
    """The cells that scvi-tools answered for."""
    if not name.startswith("multivi"):
        return read_h5ad(KEPT / "cells.h5ad")
    adata = read_h5ad(KEPT / "cells_and_regions.h5ad")
    genes = (adata.var["feature_types"] == "Gene Expression").to_numpy()
    parts = {"rna": adata[:, genes].copy(), "atac": adata[:, ~genes].copy()}
    proteins = adata.obsm["protein_expression"]
    parts["protein"] = AnnData(sparse.csr_matrix(proteins.to_numpy(np.float32)), obs=adata.obs[[]])
    parts["protein"].var_names = proteins.columns
    with mudata.set_options(pull_on_update=False):
        return mudata.MuData({modality: parts[modality] for modality in (parts if name == "multivi" else ("rna", "atac"))})


def answer(model):
    """What it says of each cell, without draws."""
    if hasattr(model, "get_proportions"):
        return model.get_proportions(refine=False).to_numpy()
    if not hasattr(model, "get_latent_representation"):
        return model.module.W.rows().T.detach().numpy()
    if type(model).__name__ == "MULTIVI":
        return model.get_latent_representation()
    return model.get_latent_representation(return_dist=True)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_scvi_tools_answers_as_it_did_there(name):
    model = scelbo.load(KEPT / name, cells(name))
    assert np.abs(answer(model) - ANSWERS[name]).max() < 1e-5
    assert model.is_trained


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_back_is_what_scvi_tools_wrote(name, tmp_path):
    model = scelbo.load(KEPT / name, cells(name))
    model.save_as_scvi_tools(tmp_path / "back")
    ours, theirs = (pickles.read(folder / "model.pt") for folder in (tmp_path / "back", KEPT / name))
    weights, original = ours["model_state_dict"], theirs["model_state_dict"]
    del original["pyro_param_store"]
    assert set(weights) == set(original)
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in original.items()}
    for part in ("setup_args", "setup_method_name", "model_name", "scvi_version"):
        noted, meant = (said["attr_dict"]["registry_"][part] for said in (ours, theirs))
        ignored = {"use_minified", "idx_layer", *registry.UNREAD.get(type(model).__name__, ())} if part == "setup_args" else set()
        if part == "setup_args":
            assert noted.keys() <= meant.keys()
            noted, meant = ({k: v for k, v in args.items() if v is not None and k not in ignored} for args in (noted, meant))
        assert noted == meant
    for field, noted in ours["attr_dict"]["registry_"]["field_registries"].items():
        state = theirs["attr_dict"]["registry_"]["field_registries"][field]["state_registry"]
        assert noted["summary_stats"].keys() <= theirs["attr_dict"]["registry_"]["field_registries"][field]["summary_stats"].keys()
        for key in ("categorical_mapping", "mappings", "columns", "original_key", "unlabeled_category"):
            np.testing.assert_equal(noted["state_registry"].get(key), state.get(key))
    again = scelbo.load(tmp_path / "back", cells(name))
    assert (answer(again) == answer(model)).all()
    assert {k: getattr(again, k) for k in again.hyperparameters()} == {k: getattr(model, k) for k in model.hyperparameters()}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_opens_without_its_cells(name):
    model = scelbo.load(KEPT / name)
    assert model.adata is None
    assert model.setup.var_names[:2] == ("gene0", "gene1")


@pytest.mark.parametrize(("name", "cls"), [("scvi_0.15.5", SCVI), ("scanvi_1.0.3", SCANVI), ("totalvi_1.1.5", TOTALVI)])
def test_files_of_old_versions_open(name, cls):
    if not CHECKPOINTS.exists():
        pytest.skip("no files of old versions beside this checkout")
    model = cls.load(CHECKPOINTS / f"{name}.pt")
    assert model.is_trained and model.setup.n_vars == 100
    assert model.setup.categories["batch"] == (["all"] if cls is SCANVI else ["batch_0", "batch_1"])


def test_data_that_do_not_fit_are_told_apart_from_a_file_that_does_not():
    adata = cells("scvi")
    with pytest.raises(errors.DataError, match="features are not in"):
        scelbo.load(KEPT / "scvi", adata[:, 4:].copy())
    del adata.obs["batch"]
    with pytest.raises(errors.SetupError, match="obs column 'batch'"):
        scelbo.load(KEPT / "scvi", adata)


def test_a_query_is_mapped_on_a_model_of_scvi_tools():
    query = cells("scvi")[::2, :12].copy()
    query.obs["batch"] = "new"
    model = SCVI.load_query_data(query, KEPT / "scvi")
    model.train(max_epochs=1)
    assert model.setup.categories["batch"][-1] == "new"
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_weight_that_differs_is_noticed(tmp_path):
    """The comparison above can fail: another weight gives other answers."""
    folder = _as_saved(tmp_path, lambda said: said["model_state_dict"]["z_encoder.mean_encoder.bias"].add_(1))
    assert np.abs(answer(scelbo.load(folder, cells("scvi"))) - ANSWERS["scvi"]).max() > 0.5


# ------------------------------------------------------------------ what has no counterpart is named
def _as_saved(tmp_path, change):
    """A genuine file with another content."""
    said = pickles.read(KEPT / "scvi" / "model.pt")
    change(said)
    torch.save(said, tmp_path / "model.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["attr_dict"]["init_params_"]["kwargs"]["kwargs"].update(extra_encoder_kwargs={"bias": True}), "extra_encoder_kwargs"),
        (lambda s: s["attr_dict"]["registry_"]["setup_args"].update(sample_key="donor"), "sample_key"),
        (lambda s: s["attr_dict"]["registry_"].update(model_name="JaxSCVI"), "JaxSCVI"),
        (lambda s: s["model_state_dict"].update(new_part=torch.ones(2)), "new_part"),
        (lambda s: s["model_state_dict"].pop("z_encoder.mean_encoder.bias"), "mean_encoder.bias"),
        (lambda s: s["model_state_dict"].update({"z_encoder.mean_encoder.bias": torch.ones(7)}), "shape"),
        (lambda s: s["model_state_dict"]["z_encoder.mean_encoder.bias"].fill_(torch.nan), "not all numbers"),
        (lambda s: s["attr_dict"].pop("init_params_"), "init_params_"),
        (lambda s: s["attr_dict"]["init_params_"]["non_kwargs"].update(n_hidden=10**9), "larger model"),
        (lambda s: s["attr_dict"]["init_params_"]["non_kwargs"].update(n_layers=10**9), "larger model"),
        (lambda s: s.update(var_names=s["var_names"][:5]), "not accounted for"),
        (lambda s: s["attr_dict"]["init_params_"]["non_kwargs"].update(gene_likelihood="poisson_lognormal"), "gene_likelihood"),
    ],
)
def test_what_ours_has_no_counterpart_of_is_named(tmp_path, change, said):
    with pytest.raises(errors.StorageError, match=said):
        scelbo.load(_as_saved(tmp_path, change))


def test_what_reads_our_folders_only_says_how_to_open_it():
    with pytest.raises(errors.StorageError, match=r"scelbo.load\(\) opens it"):
        storage.about(KEPT / "scvi")


def test_another_class_old_folders_and_several_files_are_told_apart(tmp_path):
    with pytest.raises(errors.StorageError, match="holds a SCVI, not a SCANVI"):
        SCANVI.load(KEPT / "scvi")
    (tmp_path / "model_params.pt").touch()
    with pytest.raises(errors.StorageError, match="convert_legacy_save"):
        scelbo.load(tmp_path)
    (tmp_path / "model_params.pt").unlink()
    for prefix in ("a_", "b_"):
        shutil.copy(KEPT / "scvi" / "model.pt", tmp_path / f"{prefix}model.pt")
    with pytest.raises(errors.StorageError, match="several models"):
        scelbo.load(tmp_path)
    assert scelbo.load(tmp_path / "a_model.pt").is_trained
    (tmp_path / "a_model.pt").unlink()
    assert isinstance(scelbo.load(tmp_path), SCVI)


# ------------------------------------------------------------------ a model of ours for scvi-tools
def _trained(cls=SCVI, keys=None, **arguments):
    adata = counts(60, 20)
    cls.setup_anndata(adata, **(keys or {"batch_key": "batch"}))
    model = cls(adata, n_hidden=6, n_latent=3, **arguments)
    model.train(max_epochs=1)
    return model


def test_a_model_trained_here_goes_there_and_comes_back(tmp_path):
    model = _trained(SCANVI, {"batch_key": "batch", "labels_key": "cell_type", "unlabeled_category": "type1"}, use_observed_lib_size=False)
    model.save_as_scvi_tools(tmp_path / "there")
    again = scelbo.load(tmp_path / "there", model.adata)
    assert (again.predict() == model.predict()).all()
    assert again.get_elbo() == pytest.approx(model.get_elbo(), rel=0.2)  # u is drawn
    assert (again.train_indices == model.train_indices).all()
    with pytest.raises(errors.StorageError, match="overwrite=True"):
        model.save_as_scvi_tools(tmp_path / "there")
    model.save_as_scvi_tools(tmp_path / "there", overwrite=True)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["model.pt"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: _trained(activation="gelu"), "activation='gelu'"),
        (lambda: _trained(scelbo.AUTOZI), "AUTOZI cannot be saved for scvi-tools"),
        (lambda: _trained(scelbo.LinearSCVI, {"categorical_covariate_keys": ["donor"]}), "categorical_covariate_keys"),
        (lambda: _trained(scelbo.CondSCVI, {"labels_key": "cell_type"}), "gene_likelihood='additive'"),
        (lambda: _trained(scelbo.CondSCVI, {"labels_key": "cell_type", "batch_key": "batch"}, gene_likelihood="nb"), "batches"),
        (lambda: SCVI.load_query_data(counts(60, 20, seed=3), _trained()), "query"),
    ],
)
def test_what_scvi_tools_has_no_counterpart_of_is_named_and_nothing_is_written(tmp_path, make, said):
    model = make()
    with pytest.raises(errors.StorageError, match=said):
        model.save_as_scvi_tools(tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_model_that_was_not_trained_stays_here(tmp_path):
    adata = counts(60, 20)
    SCVI.setup_anndata(adata)
    model = SCVI(adata)
    with pytest.raises(errors.NotTrainedError):
        model.save_as_scvi_tools(tmp_path / "there")


def test_all_of_our_weights_are_carried():
    """Every parameter of a module that learns has a pair."""
    for name in NAMES:
        model = scelbo.load(KEPT / name)
        carried = [pair.ours for pair in scvi_tools.arguments.COUNTERPARTS[type(model).__name__].pairs(model.module, Blank({}))]
        there = {tensor.untyped_storage().data_ptr() for tensor in carried}
        for key, parameter in model.module.named_parameters():
            if parameter.requires_grad and not key.startswith("adversary") and len(parameter) and ".batch" not in key:
                folded = name == "condscvi" and "shifts.1" in key  # embedded batches
                assert folded or parameter.untyped_storage().data_ptr() in there, f"{name}: {key}"
    assert maps.MODALITIES["x"] == "expression"
