# Every target sets up .venv by itself; a machine needs Python 3.11 and make, nothing else.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
PEERS := .venv/.bench
PLUGINS := $(sort $(dir $(wildcard plugins/*/pyproject.toml)))
PIP := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-long check bench docs clean

demo: $(READY)
	$(BIN)/python docs/examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest

test-long: $(READY)
	$(BIN)/python -m pytest -m long

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

bench: $(PEERS)
	$(BIN)/python -m tests.benchmarks

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going --fresh-env --quiet -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# What ebmcore is timed beside; the benchmark leaves out those that are missing.
$(PEERS): $(READY)
	@echo "installing the peers of the benchmark"
	$(PIP) --no-build-isolation --editable '.[bench]' && touch $@ || echo "make: some peers could not be installed; they are left out" >&2

clean:
	rm -rf .venv docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The build backend comes first and builds nothing in isolation, so that the versions of
# constraints.txt hold for it too. Host and plugins are installed in one go: a plugin's
# requirement `ebmcore` is this checkout.
$(READY): constraints.txt pyproject.toml $(PLUGINS:%=%pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found; name another with PYTHON=..." >&2; exit 1; }
	@echo "setting up .venv (some minutes the first time: torch and triton are 200 MB each)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[dev]' $(PLUGINS:%=--editable %)
	touch $@
