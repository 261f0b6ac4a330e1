# Two commands do everything on a fresh machine: `make demo` and `make test`. Needs Python 3.11+, make, and PyPI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
DOCS_READY := $(VENV)/.docs-ready
SCAN ?= cu23
# Tests run in so many processes, a file in one of them, in the order of their files: small ones come last.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo serve test browser check format docs bench vendored clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN_READY)  ## Set up and run a live scan on embedded defaults (SCAN=cu23, chip, particle, epics or hxn)
	$(BIN)/pfitre demo --scan $(SCAN)

serve: $(RUN_READY)  ## Run the service with the simulated beamline's profile, until Ctrl-C
	$(BIN)/pfitre serve --profile profiles/sim

test: $(DEV_READY) browser  ## Set up and run all tests, in two processes (WORKERS=4: in four)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) tests/contract tests/integration tests/system
	$(PYTEST) --cov --cov-report= tests/unit
	@echo "branch coverage of pfitre_service by tests/unit: $$($(BIN)/coverage report --format=total) %"

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		echo "the tests of the page need Chromium: apt-get install chromium"

check: $(DEV_READY)  ## Lint, types, import contracts, the quick unit tests: before every commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q -m "not slow" tests/unit

format: $(DEV_READY)  ## Lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_READY)  ## Build the documentation site in build/docs; fails on any warning, fetches nothing
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

bench: $(DEV_READY)  ## Measure the figures of the README
	$(BIN)/pfitre bench solver

vendored:  ## Bundle the libraries that the page carries, after a new version in viewer/vendored/package.json (needs npm)
	cd pfitre_service/viewer/vendored && npm ci --ignore-scripts && npm run build && rm -rf node_modules

clean:  ## Remove what was built and measured; data of `pfitre serve` stays
	rm -rf $(VENV) pfitre-demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pfitre needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt "pip>=25.1" setuptools

$(RUN_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(DOCS_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable . --group docs
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@ $(RUN_READY)
