# `make demo` and `make test` need Python 3.11+ and nothing else; both set up $(VENV) once and reuse it.

PYTHON ?= python3
VENV ?= .venv
# Any torch from 2.11 on will do. The pin keeps a fresh set-up from pulling a build for another machine.
TORCH ?= torch==2.13.0
DEMO_OUT ?= demo-output
PYTEST_ARGS ?= -n 2 --dist loadfile

BIN := $(VENV)/bin
# One math-library thread a process: the test processes share the cores.
SINGLE := OMP_NUM_THREADS=1

.PHONY: demo test lint docs docs-serve clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" numpy
	touch $@

$(VENV)/.package: pyproject.toml setup.py $(VENV)/.torch
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[all]"
	touch $@

$(VENV)/.development: $(VENV)/.package
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[test,lint,docs]"
	touch $@

demo: $(VENV)/.package  ## set up, then the whole pipeline on synthetic walkers (about 5 minutes on 2 cores)
	$(BIN)/sgela-fast run examples/demo.yaml --out $(DEMO_OUT) --overwrite

test: $(VENV)/.development  ## set up, then all tests
	$(SINGLE) $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.development  ## format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.development  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.development  ## serve the documentation
	$(BIN)/mkdocs serve

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(DEMO_OUT) site build dist *.egg-info
