#!/usr/bin/env bash
# requirements-dev.txt: every package that the development environment may need on any system, with the hashes of all its files.
set -euo pipefail
cd "$(dirname "$0")/.."

own=$(mktemp -d); trap 'rm -rf "$own"' EXIT
python3 -m venv "$own" && "$own/bin/pip" install -q --disable-pip-version-check uv
{
  echo "# Every file that PyPI has of each package that \`make test\` may install, on any system: their hashes. Written by \`make lock\`; see docs/dependencies.md."
  "$own/bin/uv" pip compile -q pyproject.toml --extra dev -c constraints.txt --universal --python-version 3.11 \
    --generate-hashes --no-annotate --no-header
} >"$own/lock"
mv "$own/lock" requirements-dev.txt
