"""The command line: what it takes is what Python takes, what it writes is what Python answers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scelbo
from scelbo import SCVI, errors, models, settings
from scelbo.cli import CODES, main
from scelbo.cli.options import Option, of_call, of_data, of_fields, of_plan
from scelbo.data.simulate import cite, counts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata", "ignore::UserWarning:zarr", "ignore::FutureWarning:zarr")
MODELS = {name.casefold(): getattr(models, name) for name in models.__all__}


@pytest.fixture(scope="module")
def cells():
    return cite(120, 40, 5, seed=1)


@pytest.fixture
def here(cells, tmp_path, monkeypatch):
    """A folder with ``cells.h5ad``, in which commands run."""
    monkeypatch.chdir(tmp_path)
    cells.write_h5ad("cells.h5ad")
    return tmp_path


def run(line):
    return main(line.split())


def fitted(model="scvi", more="--batch batch --n-latent 3 --n-hidden 8"):
    assert run(f"fit {model} cells.h5ad -o model --max-epochs 1 --seed 0 {more}") == 0
    return scelbo.load("model")


def test_fit_is_setup_model_train_and_save(here, cells):
    by_command = fitted(more="--batch batch --categorical donor --n-latent 3 --lr 0.01 --no-log-variational --gene-likelihood nb")
    SCVI.setup_anndata(cells, batch_key="batch", categorical_covariate_keys=["donor"])
    model = SCVI(cells, n_latent=3, log_variational=False, gene_likelihood="nb")
    model.train(max_epochs=1, seed=0, plan_kwargs={"lr": 0.01})
    assert by_command.setup.keys == model.setup.keys
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(by_command.module.state_dict()[name], value)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_options_are_pythons_arguments_and_help_says_something_of_each(name, capsys):
    cls = MODELS[name]
    options = [*of_data(cls.Cells), *of_fields(cls), *of_call(cls.train), *of_plan(cls.plan)]
    taken = set(cls.hyperparameters()) | {a for f in cls.Cells.fields().values() for a in f.arguments}
    assert taken <= {option.name for option in options}
    assert run(f"fit {name} --help") == 0
    said = capsys.readouterr().out
    for option in options:
        assert re.search(rf"^  {option.flag}[ ,\n]", said, re.MULTILINE), option.flag
    lacking = {option.name for option in [*of_fields(cls), *of_call(cls.train), *of_plan(cls.plan)] if not option.help}
    assert not lacking


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("int", "3", 3),
        ("float", "1e-3", 1e-3),
        ("float | Literal['latent']", "latent", "latent"),
        ("int | None", "None", None),
        ("str", "3", "3"),
        ("bool", True, True),
        ("list[str]", ["a", "b"], ["a", "b"]),
        ("str | Sequence[str] | None", ["a"], "a"),
        ("int | str | list[int]", ["2"], 2),
        ("int | str | list[int]", ["0", "1"], [0, 1]),
        ("tuple[bool, ...]", ["true", "false"], [True, False]),
        ("dict[str, list[str]]", ["B=CD19,MS4A1", "T=CD3E"], {"B": ["CD19", "MS4A1"], "T": ["CD3E"]}),
        ("dict[str, Any]", ["donor=d1", "n=2"], {"donor": "d1", "n": 2}),
    ],
)
def test_words_become_what_the_annotation_says(kind, given, value):
    assert Option("x", kind).value(given) == value


def test_many_markers_come_from_a_file(tmp_path):
    (tmp_path / "markers.json").write_text('{"B": ["CD19"]}')
    assert Option("x", "dict[str, list[str]]").value([str(tmp_path / "markers.json")]) == {"B": ["CD19"]}


@pytest.mark.parametrize(
    ("line", "says", "code"),
    [
        ("", "no command is given", 2),
        ("ftt", "Did you mean 'fit'?", 2),
        ("fit svci cells.h5ad -o m", "Did you mean 'scvi'?", 2),
        ("fit scvi cells.h5ad -o m --bacth batch", "Did you mean '--batch'?", 2),
        ("fit scvi cells.h5ad -o m --n_latent 3", "Did you mean '--n-latent'?", 2),
        ("fit scvi cells.h5ad -o m --n-latent many", "must be a whole number", 2),
        ("fit scvi cells.h5ad -o m --n-latent 0", "whole number above zero", 2),
        ("fit scvi cells.h5ad -o m --dispersion genes", "Did you mean 'gene'?", 2),
        ("fit scvi cells.h5ad", "-o/--out", 2),
        ("fit scvi cells.h5ad -o m --log loud", "must be one of 'bar', 'json', 'none'", 2),
        ("fit scvi cels.h5ad -o m", "Did you mean 'cells.h5ad'?", 6),
        ("fit scvi cells.h5ad -o m --layer spliced", "layer 'spliced' is unknown", 4),
        ("fit scvi cells.h5ad -o cells.h5ad", "exists", 6),
        ("fit solo cells.h5ad -o m", "from_scvi_model", 3),
        ("fit scvi cells.txt -o m", "no format that is read here", 2),
        ("latent nowhere cells.h5ad -o l.csv", "holds no scelbo model", 6),
        ("latent --batch x", "comes before the options", 2),
    ],
)
def test_what_is_wrong_is_said_with_a_code_of_its_own(here, capsys, line, says, code):
    (here / "cells.txt").touch()
    assert run(line) == code
    out = capsys.readouterr()
    assert says in out.err and "Traceback" not in out.err and out.out == ""
    assert not (here / "m").exists()


def test_each_kind_of_error_has_its_code():
    found = {kind.kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ScelboError)}
    assert set(CODES) == found - {"scelbo"} and len({*CODES.values(), 0, 1, 130}) == len(CODES) + 3


def test_answers_are_pythons_in_every_form(here, cells):
    model = fitted()
    z = model.get_latent_representation(cells)
    assert run("latent model cells.h5ad -o z.csv.gz") == 0
    table = pd.read_csv("z.csv.gz", index_col="cell")
    assert list(table.index) == list(cells.obs_names)
    np.testing.assert_allclose(table, z, rtol=1e-6)
    assert run("latent model cells.h5ad -o with_z.h5ad --key mine") == 0
    beside = anndata.read_h5ad("with_z.h5ad")
    np.testing.assert_array_equal(beside.obsm["X_mine"], z)
    pd.testing.assert_frame_equal(beside.obs, cells.obs)
    assert (beside.X != cells.X).nnz == 0
    cells.write_zarr("cells.zarr")
    assert run("latent model cells.zarr -o with_z.zarr") == 0
    np.testing.assert_array_equal(anndata.read_zarr("with_z.zarr").obsm["X_scvi"], z)
    assert run("normalized model cells.h5ad -o rho.h5ad --library-size 100 --gene-list gene1 gene3") == 0
    rho = model.get_normalized_expression(cells, library_size=100, gene_list=["gene1", "gene3"])
    np.testing.assert_array_equal(anndata.read_h5ad("rho.h5ad").X, rho)
    assert run("de model cells.h5ad -o de.tsv --groupby batch --group1 batch0 --seed 1") == 0
    de = model.differential_expression(cells, "batch", "batch0", seed=1)
    pd.testing.assert_frame_equal(pd.read_csv("de.tsv", sep="\t", index_col=0), de, check_names=False, check_dtype=False)
    assert run("ask get-elbo model cells.h5ad -o elbo.csv --seed 1") == 0
    assert pd.read_csv("elbo.csv")["elbo"][0] == pytest.approx(model.get_elbo(cells, seed=1))


def test_what_was_there_stays_unless_it_is_told_otherwise(here, capsys):
    fitted()
    (here / "z.csv").write_text("mine")
    assert run("latent model cells.h5ad -o z.csv") == 6 and (here / "z.csv").read_text() == "mine"
    assert run("latent model cells.h5ad -o z.csv --overwrite") == 0 and "latent" in (here / "z.csv").read_text()
    assert run("latent model cells.h5ad -o z.xlsx") == 2 and "cannot hold this answer" in capsys.readouterr().err
    assert run("de model cells.h5ad -o de.h5ad --groupby batch") == 2
    assert sorted(p.name for p in here.iterdir()) == ["cells.h5ad", "model", "z.csv"]


def test_labels_are_learnt_mapped_and_predicted(here, cells):
    fitted("scanvi", "--labels cell_type --batch batch --n-latent 3")
    assert run("predict model cells.h5ad -o said.h5ad") == 0
    said = anndata.read_h5ad("said.h5ad").obs
    assert {"scanvi_label", "scanvi_probability"} <= set(said) and list(said.columns[: cells.obs.shape[1]]) == list(cells.obs)
    cells.obs["batch"] = "new"
    cells.write_h5ad("query.h5ad")
    assert run("map model query.h5ad -o query --max-epochs 1 --no-freeze-expression") == 0
    query = scelbo.load("query")
    assert query.freeze["freeze_expression"] is False and query.setup.categories["batch"][-1] == "new"
    assert run("predict query query.h5ad -o q.csv") == 0


def test_models_of_models_and_of_two_data_sets(here, cells):
    fitted()
    assert run("fit solo cells.h5ad -o solo --from model --max-epochs 1 --doublet-ratio 1") == 0
    assert run("predict solo cells.h5ad -o doublets.csv") == 0 and len(pd.read_csv("doublets.csv")) == 120
    assert run("fit rnastereoscope cells.h5ad -o types --labels cell_type --max-epochs 1") == 0
    assert run("fit spatialstereoscope cells.h5ad -o spots --from types --from-data cells.h5ad --max-epochs 1") == 0
    assert run("predict spots cells.h5ad -o shares.csv") == 0 and pd.read_csv("shares.csv").shape == (120, 5)
    most = np.asarray(cells.X.sum(0)).ravel().argsort()[-20:]
    cells[:60, most].copy().write_h5ad("panel.h5ad")
    assert run("fit gimvi cells.h5ad panel.h5ad -o both --max-epochs 1 --generative-distributions zinb nb") == 0
    assert run("latent both cells.h5ad panel.h5ad -o z.csv") == 0 and len(pd.read_csv("z.csv")) == 180
    assert run("fit cellassign cells.h5ad -o known --cell-type-markers a=gene1,gene2 b=gene3 --max-epochs 1 --no-early-stopping") == 0
    assert run("predict known cells.h5ad -o p.csv --no-soft") == 0
    proteins = "--batch batch --protein-expression-obsm protein_expression --max-epochs 1 --no-early-stopping"
    assert run(f"fit totalvi cells.h5ad -o proteins {proteins}") == 0
    assert run("normalized proteins cells.h5ad -o n.csv") == 0 and pd.read_csv("n.csv").shape == (120, 1 + 40 + 5)


def test_data_are_checked_and_models_reported_on(here, cells, capsys):
    assert run("check scvi cells.h5ad --batch batch --no-forecast") == 0 and "ready" in capsys.readouterr().out
    assert run("check scvi cells.h5ad --batch bacth --no-forecast") == 4 and "Did you mean 'batch'?" in capsys.readouterr().out
    fitted()
    assert run("report model cells.h5ad -o page.html --n-samples 3 --n-cells 20") == 0
    assert "<html" in (here / "page.html").read_text()[:200]


def test_models_come_over_from_scvi_tools_and_go_back(here):
    theirs = Path(__file__).parent / "scvi_tools"
    assert run(f"convert {theirs / 'scvi'} -o ours") == 0
    assert run("convert ours -o back --to scvi-tools") == 0 and (here / "back" / "model.pt").exists()
    assert run(f"latent ours {theirs / 'cells.h5ad'} -o z.csv") == 0
    expected = scelbo.load(theirs / "scvi", anndata.read_h5ad(theirs / "cells.h5ad")).get_latent_representation()
    np.testing.assert_allclose(pd.read_csv("z.csv", index_col=0), expected, rtol=1e-5, atol=1e-6)
    assert run("convert ours -o back --to scvi-tools") == 6


def test_a_store_is_prepared_and_trained_from(here, cells):
    assert run("prepare cells.h5ad -o store.zarr --seed 1") == 0
    assert sorted(anndata.read_zarr("store.zarr").obs_names) == sorted(cells.obs_names)
    assert run("fit scvi store.zarr -o model --max-epochs 1") == 0
    assert run("prepare nowhere.h5ad -o store2.zarr") == 6


def test_a_question_that_a_model_does_not_answer_names_those_it_does(here, capsys):
    fitted("amortizedlda", "--n-topics 3")
    assert run("de model cells.h5ad -o de.csv") == 2
    assert "get_feature_by_topic" in capsys.readouterr().err
    assert run("map model cells.h5ad -o q") == 2 and "scvi" in capsys.readouterr().err
    assert run("latent model cells.h5ad -o z.csv") == 0


def test_events_are_lines_of_json_and_the_session_is_left_as_it_was(here, capsys):
    before = settings.progress, settings.on_event
    assert run("fit scvi cells.h5ad -o model --max-epochs 2 --log json") == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["done"] for event in steps] == [1, 2] and all(np.isfinite(event["metrics"]["elbo"]) for event in steps)
    assert all(event["time"].endswith("+00:00") for event in events)
    assert run("fit scvi cells.h5ad -o model --log json") == 6
    error = json.loads(capsys.readouterr().err)
    assert error["event"] == "error" and error["kind"] == "storage" and "--overwrite" in error["hint"]
    assert (settings.progress, settings.on_event) == before


def test_the_pages_commands_run(here, cells):
    page = (Path(scelbo.__file__).resolve().parents[2] / "docs" / "command_line.md").read_text()
    lines = [line.partition("#")[0] for line in page.split("```sh\n")[1].split("```")[0].splitlines()]
    cells.obs["cell_type"] = np.where(np.arange(120) % 2, "B", "T")
    cells.write_h5ad("cells.h5ad")
    cells[:50].copy().write_h5ad("query.h5ad")
    for line in lines:
        small = {"fit": "--max-epochs 1", "map": "--max-epochs 1", "report": "--n-samples 3", "check": "--no-forecast"}
        command = line.split()[1]
        assert run(f"{line.removeprefix('scelbo ')} {small.get(command, '')}") == 0, line
    assert len(lines) == 7 and {"latent.csv", "de.csv", "expression.h5ad", "report.html"} <= {p.name for p in here.iterdir()}


def test_it_is_a_program_that_says_nothing_where_nobody_looks(tmp_path):
    counts(80, 20).write_h5ad(tmp_path / "cells.h5ad")
    program = [sys.executable, "-m", "scelbo"]
    words = ["fit", "scvi", str(tmp_path / "cells.h5ad"), "-o", str(tmp_path / "m"), "--max-epochs", "1"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert scelbo.load(tmp_path / "m").trained_epochs == 1
