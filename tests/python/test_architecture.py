"""The house stays as docs/architecture.md draws it."""

import re
import subprocess
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 300


def tracked(*patterns: str) -> list[Path]:
    """The repository's own files, links left out."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so which files are the repository's cannot be told")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_imports_only_go_down(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True) == 0, "see the broken contract above"


def test_no_file_is_long():
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in tracked("*.py", "*.R")}
    assert lines
    long = {str(path): n for path, n in lines.items() if n > LONGEST}
    assert not long, f"above {LONGEST} lines a file is two things: {long}"


def test_no_place_of_one_machine_is_named():
    # A path below a home or scratch directory holds on nobody else's machine.
    place = re.compile(r"(?<![\w.~$}/])/(?:home|root|Users|mnt|opt|work|tmp)/\w")
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked("*.py", "*.R", "*.Rmd", "*.md", "*.sh", "*.toml", "*.txt", "Makefile", ".ci/*")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if place.search(line)
    ]
    assert not named, "\n".join(named)


def test_an_installed_r_package_carries_the_core():
    assert (ROOT / "inst" / "python" / "scelbo").samefile(ROOT / "python" / "scelbo")


def test_both_packages_have_one_version():
    r = re.search(r"^Version: (\S+)", (ROOT / "DESCRIPTION").read_text(), re.M)
    python = re.search(r'^version = "(\S+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert r
    assert python
    assert r[1] == python[1]
