#!/usr/bin/env bash
# site.sh   the R package's pages as a web site in site/, without network; SCELBO_QUICK=yes: articles of a few epochs, to see how they look
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup-r.sh pkgdown
Rscript tools/site.R
