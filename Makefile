# Every target sets up by itself what it needs, once; the second time it starts at once and needs no network.
export OMP_NUM_THREADS ?= 1
export SCELBO_PYTHON := $(CURDIR)/.venv/bin/python
export R_LIBS := $(CURDIR)/.r-lib$(if $(R_LIBS),:$(R_LIBS))
export NOT_CRAN := true
python := .venv/bin/python
peer := PYTHONPATH=python .venv-peer/bin/python

.PHONY: help test test-python test-r test-seurat5 test-ray test-install check-r site demo vignettes lint fuzz faults parity bench calibration audit lock capabilities surface metrics clean venv venv-peer venv-ray
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "make %-12s %s\n", $$1, $$2}'

demo: venv ## scVI on real cells in a Seurat object: figures and the object in demo/
	@tools/setup-r.sh
	@Rscript examples/demo.R demo

vignettes: venv ## the walk-throughs, as pages in articles/
	@tools/setup-r.sh
	@Rscript tools/vignettes.R articles

test: venv ## all tests, the two languages side by side
	@$(MAKE) --no-print-directory -j2 -Oline test-python test-r
test-python: venv ## the tests of the Python core
	@$(python) -m pytest
test-r: venv ## the tests of the R package
	@tools/test-r.sh $(also)
test-seurat5: ## the same in a root of Debian 13: R 4.5, Seurat 5, NumPy 2 (as root, on Debian)
	@tools/trixie.sh make test-r also=SpatialExperiment
test-ray: venv venv-ray ## the tests of both languages that need Ray, which make test leaves out
	@RAY_worker_niceness=0 .venv-ray/bin/python -m pytest tests/python/test_tuning.py tests/python/test_processes.py -k "tuning or ray"
	@SCELBO_PYTHON=$(CURDIR)/.venv-ray/bin/python RAY_worker_niceness=0 tools/test-r.sh --only tune
check-r: venv ## R CMD check and BiocCheck of the built package, with all examples
	@tools/check-r.sh
test-install: venv ## the ways to install that a new user would try, each into a library or environment of its own
	@tools/test-install.sh
site: venv ## the R package's pages as a web site, in site/ (no network)
	@tools/site.sh

lint: venv ## style, types, layers; R's style and help pages
	@tools/lint.sh

fuzz: venv ## 10,000 damaged model folders: each an error that says so, or the model that it was
	@PYTHONPATH=tests/python $(python) tests/python/fuzz.py 10000

faults: venv ## 100 trainings killed at random: what was noted opens, and leads to the same weights
	@PYTHONPATH=tests/python $(python) tests/python/faults.py 100

parity: venv-peer ## the same weights give the same numbers in scvi-tools
	@$(peer) benchmarks/parity.py
# numba, which scanpy runs on, would give torch all cores again
bench: export NUMBA_NUM_THREADS ?= 1
bench: venv-peer ## speed, integration, calls and queries beside scvi-tools
	@$(peer) benchmarks/speed.py
	@$(peer) benchmarks/disk.py
	@$(peer) benchmarks/integration.py
	@$(peer) benchmarks/differential.py
	@$(peer) benchmarks/mapping.py
	@$(peer) benchmarks/atac.py
	@$(peer) benchmarks/multiome.py
	@$(peer) benchmarks/labels.py
	@$(peer) benchmarks/doublets.py
	@$(peer) benchmarks/markers.py
	@$(peer) benchmarks/topics.py
	@$(peer) benchmarks/zero_inflation.py
	@$(peer) benchmarks/proteins.py
	@$(peer) benchmarks/imputation.py
	@$(peer) benchmarks/deconvolution.py

calibration: export NUMBA_NUM_THREADS ?= 1
calibration: venv-peer ## how far posteriors, intervals and probabilities may be trusted, beside scvi-tools
	@$(peer) benchmarks/calibration.py

audit: venv ## is .venv what requirements-dev.txt lists, hash by hash; known weaknesses, if their data base can be asked
	@$(python) tools/audit.py
lock: ## requirements-dev.txt anew: what constraints.txt pins, with the hashes of all files (needs a network)
	@tools/lock.sh

capabilities: venv ## what each model answers of which objects, as docs/capabilities.md
	@PYTHONPATH=tests/python $(python) tests/python/capabilities.py

surface: venv ## what a package of models may build on, as docs/developer/surface.md
	@PYTHONPATH=tests/python $(python) tests/python/surface.py

metrics: venv venv-peer ## lines and complexity of each model beside scvi-tools', as docs/developer/metrics.md
	@$(python) benchmarks/metrics.py

clean: ## remove everything that the other targets made
	@tools/trixie.sh --remove
	rm -rf .venv .venv-peer .venv-ray .r-lib articles site demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache python/scelbo.egg-info
	find python tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@tools/venv.sh .venv pyproject.toml constraints.txt -- -c constraints.txt -e ".[dev]"
venv-peer:
	@tools/venv.sh .venv-peer benchmarks/requirements.txt -- -r benchmarks/requirements.txt
venv-ray:
	@tools/venv.sh .venv-ray pyproject.toml constraints.txt constraints-ray.txt -- -c constraints.txt -c constraints-ray.txt -e ".[test,tune]"
