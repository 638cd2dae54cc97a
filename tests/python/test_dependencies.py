"""What is installed is said: docs/dependencies.md, and the hashes of the development environment."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def rows(start, end):
    """The cells of the table between two headings or words, without its head."""
    lines = [line for line in PAGE.split(start, 1)[1].split(end, 1)[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_each_package_that_users_get_has_its_reason():
    said = {quoted(package)[0]: why for package, why in rows("## Python", "What only some")}
    assert said.keys() == names(PROJECT["dependencies"]) and all(said.values())
    extras = {quoted(extra)[0]: set(quoted(packages)) for extra, packages, _ in rows("What only some", "## R")}
    ours = {extra: names(needed) for extra, needed in PROJECT["optional-dependencies"].items() if extra not in ("test", "lint", "dev")}
    assert extras == ours


def test_each_package_that_r_imports_has_its_reason():
    description = (ROOT / "DESCRIPTION").read_text(encoding="utf-8")
    imports = re.search(r"^Imports:((?:\n .*)+)", description, re.M)[1]
    said = {package for packages, why in rows("## R", "## The development") for package in quoted(packages) if why}
    assert said == {re.sub(r"\(.*", "", package).strip() for package in imports.split(",")}


def test_every_pin_has_hashes_and_nothing_names_an_index():
    pin = re.compile(r"^([\w.-]+)==([^\s;]+)", re.M)
    plain = lambda found: {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in found}  # noqa: E731
    listed = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pinned = plain(pin.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    assert pinned and pinned <= plain(pin.findall(listed)), "constraints.txt has changed: make lock"
    blocks = [block for block in re.split(r"\n(?=\w)", listed) if pin.match(block)]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)
    for name in ("constraints.txt", "requirements-dev.txt"):
        assert not re.search(r"https?://|index-url|find-links", (ROOT / name).read_text(encoding="utf-8")), name
