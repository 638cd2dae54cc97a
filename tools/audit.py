"""Is the development environment what `requirements-dev.txt` says? Run by its own Python, without a network: `make audit`.

Three things: each package has the version that is listed; the file that it was installed from has a listed hash (pip's reports, which
tools/venv.sh keeps); what lies on the disk is what came in that file (each package's RECORD). Then pip-audit, if it can be had and its data
base be asked, says which versions have known weaknesses. Ends with 1 where something is not as listed, or is weak.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOCK = Path("requirements-dev.txt")
OURS = {"scelbo", "pip", "setuptools"}
"""What is not installed from a listed file: this package, and what `python -m venv` brings."""


def plain(name: str) -> str:
    """As PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed() -> dict[tuple[str, str], set[str]]:
    """(name, version) -> the hashes of its files."""
    found: dict[tuple[str, str], set[str]] = {}
    for block in re.split(r"\n(?=\w)", LOCK.read_text(encoding="utf-8")):
        if package := re.match(r"([\w.-]+)==([^\s;]+)", block):
            found[plain(package[1]), package[2]] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
    return found


def downloaded() -> dict[tuple[str, str], str]:
    """(name, version) -> the hash of the file that pip installed."""
    found = {}
    for report in sorted(Path(sys.prefix).glob(".installed-*.json")):
        for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
            about = item["metadata"]
            hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
            if "sha256" in hashes:
                found[plain(about["name"]), about["version"]] = hashes["sha256"]
    return found


def changed(package: metadata.Distribution) -> list[str]:
    """Files of a package that are not as its RECORD says."""
    found = []
    for file in package.files or []:
        if file.hash is None or file.suffix == ".pyc":
            continue
        try:
            digest = hashlib.new(file.hash.mode, Path(str(file.locate())).read_bytes()).digest()
        except OSError:
            found.append(f"{file} is missing")
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            found.append(f"{file} was changed")
    return found


def problems() -> tuple[list[str], list[str]]:
    """What is not as listed; what could not be compared, that of which no report is left last."""
    known, came, wrong, open_ = listed(), downloaded(), [], []
    for package in sorted(metadata.distributions(path=[p for p in sys.path if p.startswith(sys.prefix)]), key=lambda p: plain(p.name)):
        name, version = plain(package.name), package.version
        public = version.partition("+")[0]
        wrong += [f"{name} {version}: {what}" for what in changed(package)] if name not in OURS else []
        if name in OURS and (name, version) not in known:
            continue
        if (name, public) not in known:
            wrong.append(f"{name} {version} is not listed in {LOCK}")
        elif public != version:
            open_.append(f"{name} {version}: another build than PyPI's, so its hash is not listed")
        elif (name, version) not in came:
            open_.append(f"{name} {version}: no report says which file it was installed from")
        elif came[name, version] not in known[name, version]:
            wrong.append(f"{name} {version} was installed from a file that is not listed: sha256 {came[name, version]}")
    return wrong, sorted(open_, key=lambda what: "no report" in what)


def weaknesses() -> tuple[int, str]:
    """What pip-audit says of the installed versions, from an environment of its own."""
    with tempfile.TemporaryDirectory() as place:
        versions = Path(place) / "versions.txt"
        installed = {plain(p.name): p.version.partition("+")[0] for p in metadata.distributions() if plain(p.name) not in OURS}
        versions.write_text("".join(f"{name}=={version}\n" for name, version in sorted(installed.items())), encoding="utf-8")
        made = subprocess.run(
            f"{sys.executable} -m venv {place}/own && {place}/own/bin/pip install -q pip-audit",
            shell=True,
            capture_output=True,
            check=False,
        )
        if made.returncode:
            return 0, "NOT CHECKED for known weaknesses: pip-audit cannot be installed (no network?)\n"
        command = [f"{place}/own/bin/pip-audit", "-r", str(versions), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.stdout.count("could not be audited") == len(installed) or (said.returncode and not said.stdout):
        return 0, "NOT CHECKED for known weaknesses: their data base cannot be asked from here\n"
    return said.returncode, f"known weaknesses, by pip-audit:\n{said.stdout or said.stderr}\n"


def main() -> int:
    """Says what was found."""
    say = sys.stdout.write
    wrong, open_ = problems()
    for what in open_[:5]:
        say(f"not compared: {what}\n")
    if len(open_) > 5:
        say(f"not compared: {len(open_) - 5} more, likewise\n")
    for what in wrong:
        say(f"WRONG: {what}\n")
    say(f"{len(listed())} packages are listed; {len(wrong)} things are not as they say, {len(open_)} could not be compared\n")
    weak, said = weaknesses()
    say(said)
    return int(bool(wrong or weak))


if __name__ == "__main__":
    sys.exit(main())
