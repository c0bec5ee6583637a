# Everything lives in .venv of this checkout. `make run` does the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install install-dev test-deps run serve test test-slow check format bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lightnas needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.installed  ## environment and lightnas, into .venv
install-dev: $(VENV)/.installed-dev  ## install, plus the tools of the tests and checks

test-deps:  ## the system packages the tests use, where root and apt allow it; else those tests skip, loudly
	@sh tests/system_packages.sh

run: install  ## profile this machine, search under a budget, train, verify and export the winner
	$(BIN)/nas demo

serve: install  ## the REST service and a worker, on http://127.0.0.1:8080
	$(BIN)/nas serve

test: install-dev test-deps  ## the fast tests
	$(PYTEST) -m "not slow and not qemu"

test-slow: install-dev test-deps  ## real trainings, kill tests, the QEMU ARM board
	$(PYTEST) -m "slow or qemu"

check: install-dev  ## formatting, lint, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install-dev  ## write what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev  ## the benchmarks quoted in docs/
	$(BIN)/python benchmarks/search_efficiency.py
	$(BIN)/python benchmarks/search_replay.py
	$(BIN)/python benchmarks/simulated_objectives.py --save --strategies guided annealing random tpe
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/search_overhead.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/pricing.py
	$(BIN)/python benchmarks/search_report.py

clean:  ## remove what install made
	rm -rf $(VENV) *.egg-info build dist
