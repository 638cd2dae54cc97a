#!/usr/bin/env bash
# check-r.sh   R CMD check and BiocCheck of the built package, offline; anything but "OK" from the first is a failure
# The examples are run, all of them. The tests are not: that is `make test-r`; nor is the code of the pages: `make vignettes`.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup-r.sh BiocCheck commonmark xml2 # with the last two NEWS.md can be read

folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
tarball=$(tools/build-r.sh "$folder")
# What is only suggested need not be here, and what the package works beside neither.
export _R_CHECK_FORCE_SUGGESTS_=false _R_CHECK_PACKAGE_DEPENDS_IGNORE_MISSING_ENHANCES_=true
R CMD check --no-manual --no-tests --no-vignettes --no-build-vignettes --timings --output="$folder" "$tarball" || true
grep -q '^Status: OK' "$folder/scelbo.Rcheck/00check.log" || { tail -n 40 "$folder"/scelbo.Rcheck/*.fail 2>/dev/null; exit 1; }

if Rscript --vanilla -e 'quit(status = !requireNamespace("BiocCheck", quietly = TRUE))'; then
  Rscript tools/bioccheck.R "$tarball"
else
  echo "BiocCheck is not installed, so its advice is not asked"
fi
