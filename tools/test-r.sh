#!/usr/bin/env bash
# test-r.sh [--only FILTER] [PACKAGE...]   set R up, with the PACKAGEs too, and run its tests (of files whose name matches).
# Where R cannot be had, say so and end well: the Python tests stand on their own (in CI it is a failure).
set -euo pipefail
cd "$(dirname "$0")/.."

only=; [[ ${1:-} != --only ]] || { only=$2; shift 2; }
status=0; tools/setup-r.sh "$@" || status=$?
if ((status == 3)) && [[ -z ${CI:-} ]]; then
  echo "SKIPPED: the R tests, for want of what is named above"
  exit 0
fi
((status == 0)) || exit "$status"
Rscript tools/test.R $only
