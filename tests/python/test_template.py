"""The template of a package: it is made, installed, and its own tests pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "template"
ANSWERS = {"package": "gene_programmes", "model": "GeneProgrammes", "description": "Programmes of genes.", "author": "N. N."}


def done(*command, cwd=None, **environment):
    """Run, or show what was said."""
    ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A package that was generated, with a name of its own."""
    folder = tmp_path_factory.mktemp("made") / "package"
    told = [f"--data={name}={value}" for name, value in ANSWERS.items()]
    done(sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", *told, str(TEMPLATE), str(folder))
    return folder


def test_it_is_whole(made):
    names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert names >= {
        "README.md", "pyproject.toml", "docs/index.md", "tests/test_model.py", ".github/workflows/test.yml", "gene_programmes/model.py",
        "r/DESCRIPTION", "r/NAMESPACE", "r/R/model.R", "r/tests/testthat/test-model.R",
    }  # fmt: skip
    for path in made.rglob("*"):
        assert not path.is_file() or ("{{" not in path.read_text() and "mypackage" not in path.read_text()), path
    assert len((made / "gene_programmes" / "model.py").read_text().splitlines()) < 60
    pytest.importorskip("ruff")
    done(sys.executable, "-m", "ruff", "check", "--quiet", "--isolated", "--line-length=140", "--select=E,F,W,I,UP,B", cwd=made)


def test_it_installs_and_passes_its_tests(made, tmp_path):
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    done(sys.executable, "-m", "pip", "install", *offline, f"--target={tmp_path}", str(made))
    (made / "gene_programmes").rename(made / "not_this_one")  # the installed one is tested
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert "2 passed" in done(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(made), cwd=made, PYTHONPATH=path)


def test_a_name_that_is_none_is_refused(tmp_path):
    told = ["--quiet", "--defaults", "--data=package=My-Package"]
    ran = subprocess.run(
        [sys.executable, "-m", "copier", "copy", *told, str(TEMPLATE), str(tmp_path / "no")], capture_output=True, text=True
    )
    assert ran.returncode != 0 and "lower-case letters" in ran.stdout + ran.stderr
