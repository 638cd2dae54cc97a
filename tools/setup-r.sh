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

wanted() { # what apt shall bring, one a line
  # a pattern, because a package is r-cran-... or r-bioc-..., whichever there is
  [[ -z $missing ]] || printf '%s\n' r-base-core "^r-(cran|bioc).($(tr ' ' '|' <<<"${missing,,}"))\$"
  # R runs Python inside itself: Debian packs the library for that apart from Python
  local python; python=$(realpath .venv/bin/python)
  [[ $python != /usr/bin/* ]] || compgen -G "/usr/lib/*/lib${python##*/}.so*" >/dev/null || echo "lib${python##*/}"
}

missing=$(absent $needed $wished)
if command -v apt-get >/dev/null && [[ -n $(wanted) ]]; then
  mapfile -t packages < <(wanted)
  tools/apt.sh "${packages[@]}" || [[ -z $(absent $needed) && $(wanted) != *libpython* ]] || exit 3
  missing=$(absent $needed $wished)
elif [[ -n $(absent $needed) ]]; then
  echo "scelbo's R side needs R 4.1 or newer (https://www.r-project.org) and these R packages: $missing" >&2
  echo "in R:  install.packages(\"BiocManager\"); BiocManager::install(c($(printf '"%s", ' $missing | sed 's/, $//')))" >&2
  exit 3
fi
[[ -z $missing ]] || echo "not found, so what needs them is left out: $missing"

mkdir -p .r-lib
log=$(mktemp); trap 'rm -f "$log"' EXIT
R CMD INSTALL --no-docs --no-lock --no-test-load --library=.r-lib . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
