#!/usr/bin/env bash
# test-install.sh   the ways to install that a new user would try, each in a fresh folder: R CMD INSTALL, remotes::install_local(),
# install_backend(), pip install. They need a network (for PyTorch and its kin, unless pip's cache holds them) and some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup-r.sh remotes

folder=$(mktemp -d); trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
constraints=$PWD/constraints.txt
tarball=$(tools/build-r.sh "$folder")
mkdir "$folder/installed" "$folder/local"
unset SCELBO_PYTHON RETICULATE_PYTHON
export WORKON_HOME=$folder/environments
others=$R_LIBS; others=${others#"$PWD/.r-lib"}; others=${others#:} # not the library of this checkout
cd "$folder"

echo "== R CMD INSTALL"
R CMD INSTALL --library="$folder/installed" "$tarball" >log 2>&1 || { cat log; exit 1; }
export R_LIBS=$folder/installed${others:+:$others}
echo "== without a backend, what to do is said"
Rscript --vanilla -e 'library(scelbo); stopifnot(!backend_available(), grepl("install_backend", backend_status()$cure))'

echo "== remotes::install_local()"
if Rscript --vanilla -e 'quit(status = !requireNamespace("remotes", quietly = TRUE))'; then
  # nothing of Bioconductor is installed here, so its site need not be asked which release goes with this R
  R_BIOC_VERSION=3.16 Rscript --vanilla - "$tarball" "$folder/local" <<'R'
  remotes::install_local(commandArgs(TRUE)[[1]], lib = commandArgs(TRUE)[[2]], dependencies = FALSE, upgrade = "never", quiet = TRUE)
R
  Rscript --vanilla -e 'library(scelbo, lib.loc = commandArgs(TRUE)); stopifnot(file.exists(scelbo:::core_path()))' "$folder/local"
else
  echo "skipped, for want of remotes"
fi

echo "== install_backend() into a virtualenv (some minutes)"
Rscript --vanilla -e 'scelbo::install_backend(pip_options = c("-q", "-c", commandArgs(TRUE)))' "$constraints" >log 2>&1 ||
  { cat log; exit 1; }
echo "== a training with it, found by itself"
Rscript --vanilla - <<'R'
library(scelbo)
status <- backend_status()
print(status)
stopifnot(is.na(status$cure), startsWith(reticulate::py_config()$python, normalizePath(Sys.getenv("WORKON_HOME"))))
adata <- simulate_cells(n_cells = 100, n_genes = 50, as = "anndata")
model <- train(scvi(adata, batch = "batch"), max_epochs = 2)
stopifnot(dim(get_latent_representation(model)) == c(100, 10))
R

echo "== pip install ."
mkdir source
cd - >/dev/null
git ls-files -z --cached --others --exclude-standard python pyproject.toml README.md LICENSE.md |
  tar --null -cf - -T - | tar -xf - -C "$folder/source" # pip would leave a build folder in the checkout
cd "$folder"
environments/r-scelbo/bin/python -m pip install -q --disable-pip-version-check ./source
environments/r-scelbo/bin/python - <<'PY'
import scelbo
adata = scelbo.data.simulate.counts(100, 50)
scelbo.SCVI.setup_anndata(adata, batch_key="batch")
model = scelbo.SCVI(adata)
model.train(max_epochs=2)
assert model.get_latent_representation().shape == (100, 10)
print("scelbo", scelbo.__version__, "from", scelbo.__file__)
PY
echo "all ways to install work"
