#!/usr/bin/env bash
# All that reads the code without running it. Every check runs; one that fails makes the whole fail.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
check() { # NAME COMMAND...
  printf '\n%s\n' "== $1"
  "${@:2}" || failed+=("$1")
}
check "ruff" .venv/bin/ruff check --output-format concise
check "mypy" .venv/bin/mypy
check "import layers" .venv/bin/lint-imports --no-logo
if tools/setup-r.sh lintr; then
  check "R" Rscript tools/lint.R
else
  printf '\n%s\n' "SKIPPED: the checks of the R code, for want of what is named above"
  [[ -z ${CI:-} ]] || failed+=("R")
fi
printf '\n'
if ((${#failed[@]})); then echo "lint found something in: ${failed[*]}"; exit 1; fi
echo "lint: all clean"
