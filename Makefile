# Two commands for everybody: `make demo` and `make test`. Both set up all they need.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export OMP_NUM_THREADS ?= 2
# Where there is no graphics card.
export LIBGL_ALWAYS_SOFTWARE ?= 1

.PHONY: demo test test-all lint docs setup system clean

setup: system $(STAMP)

system:
	@bash tools/system-libraries.sh

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[gui,exchange,test,docs]"
	touch $@

demo: setup
	@bash tools/demo.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/audit.py

test: setup lint
	@bash tools/tests.sh

test-all: setup lint
	@bash tools/tests.sh -m "slow or not slow"

docs: setup
	$(BIN)/python docs/generate_reference.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site dist .mypy_cache .ruff_cache .pytest_cache
