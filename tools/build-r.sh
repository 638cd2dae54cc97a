#!/usr/bin/env bash
# build-r.sh FOLDER   the R package as a source tarball in FOLDER, of what git knows here; prints its path
# Its pages are those of a machine without the backend, so that they are built in seconds: `make vignettes` runs their code.
set -euo pipefail
mkdir -p "$1"
folder=$(realpath "$1")
cd "$(dirname "$0")/.."

copy=$(mktemp -d); trap 'rm -rf "$copy"' EXIT
mkdir "$copy/scelbo" # R CMD build would first copy all that lies here, environments of some GB too
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - | tar -xf - -C "$copy/scelbo"
cd "$copy"
SCELBO_PYTHON=/none R CMD build scelbo >"$copy/log" 2>&1 || { cat "$copy/log" >&2; exit 1; }
mv scelbo_*.tar.gz "$folder/"
ls "$folder"/scelbo_*.tar.gz
