#!/usr/bin/env bash
# setup-r.sh [PACKAGE...]   R, what DESCRIPTION imports and suggests, the PACKAGEs, and scelbo itself in the private library .r-lib
# On Debian and Ubuntu apt brings what is missing; elsewhere it says what to install and ends with status 3.
set -euo pipefail
cd "$(dirname "$0")/.."

# The names in one field of DESCRIPTION, without versions.
field() { awk -v f="$1:" '/^[^ ]/ {on = $1 == f; sub(/^[^:]*:/, "")} on' DESCRIPTION | tr ',' '\n' | sed 's/(.*//; s/[[:space:]]//g; /^$/d'; }
needed=$(field Imports) wished="$(field Suggests) $*"

absent() { # which of the given R packages R does not find
  command -v Rscript >/dev/null || { echo "$@"; return; }
  Rscript --vanilla -e 'p <- commandArgs(TRUE); cat(p[!nzchar(vapply(p, function(x) system.file(package = x), ""))])' "$@"
}
debian_name() { # r-cran-... or r-bioc-..., whichever apt knows; nothing where it knows neither
  apt-cache --names-only search "^r-(cran|bioc)-${1,,}$" | awk '{print $1; exit}' | tr '\n' ' '
}

missing=$(absent $needed $wished)
if [[ -n $missing ]] && command -v apt-get >/dev/null; then
  tools/apt.sh r-base-core || exit 3 # its `apt-get update` also lets the names below be found
  missing=$(absent $needed $wished)
  names=$(for package in $missing; do debian_name "$package"; done)
  [[ -z $names ]] || tools/apt.sh $names || exit 3
  missing=$(absent $needed $wished)
fi
if command -v apt-get >/dev/null; then # R runs Python inside itself: Debian packs the library for that apart from Python
  python=$(realpath .venv/bin/python)
  if [[ $python == /usr/bin/* ]] && ! compgen -G "/usr/lib/*/lib${python##*/}.so*" >/dev/null; then
    tools/apt.sh "lib${python##*/}" || exit 3
  fi
fi
if [[ -n $(absent $needed) ]]; then
  echo "scelbo's R side needs R 4.1 or newer (https://www.r-project.org) and these R packages: $missing" >&2
  echo "in R:  install.packages(\"BiocManager\"); BiocManager::install(c($(printf '"%s", ' $missing | sed 's/, $//')))" >&2
  exit 3
fi
[[ -z $missing ]] || echo "not found, so what needs them is left out: $missing"

mkdir -p .r-lib
log=$(mktemp); trap 'rm -f "$log"' EXIT
R CMD INSTALL --no-docs --no-test-load --library=.r-lib . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
