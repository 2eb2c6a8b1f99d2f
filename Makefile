# `make demo` and `make test` need Python 3.11+ and a C++ compiler; both set up $(VENV) once and reuse it. Without a
# compiler everything still runs, on the reference backend.

PYTHON ?= python3
VENV ?= .venv
# Any torch from 2.11 on will do. The pin keeps a fresh set-up from pulling a build for another machine.
TORCH ?= torch==2.13.0
DEMO_OUT ?= demo-output
PYTEST_ARGS ?= -n 2 --dist loadfile
# The CUDA compiler as Python packages (about 270 MB), for machines that have no nvcc. All of one release.
NVCC ?= $(foreach part,cuda-nvcc cuda-runtime cuda-crt cuda-cccl nvvm,"nvidia-$(part)==13.0.*")

APT := -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20

BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# One math-library thread a process: the test processes share the cores.
SINGLE := OMP_NUM_THREADS=1
CSRC := $(shell find csrc)
SANITIZED := build/sanitize

.PHONY: demo test browser lint docs docs-serve check-cuda cuda-toolkit sanitize clean help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# What the extension is built with: torch, and the tools named in pyproject.toml's extra `build`.
$(VENV)/.build-tools: | $(BIN)/python
	$(PIP) "$(TORCH)" numpy "setuptools>=77" "ninja>=1.11" "pybind11>=3"
	touch $@

# An installation without isolation sees that torch. Its compiler output is kept in build/, so a second one is quick.
$(VENV)/.package: pyproject.toml setup.py $(CSRC) $(VENV)/.build-tools
	$(PIP) --no-build-isolation --editable ".[all]"
	@$(BIN)/python -c "from sgela_fast.environment import extension; print(*extension()[0])"
	touch $@

$(VENV)/.development: $(VENV)/.package
	$(PIP) --no-build-isolation --editable ".[test,lint,docs]"
	touch $@

demo: $(VENV)/.package  ## set up, then the whole pipeline on synthetic walkers (about 5 minutes on 2 cores)
	$(BIN)/sgela-fast run examples/demo.yaml --out $(DEMO_OUT) --overwrite

test: $(VENV)/.development  ## set up, then all tests
	$(SINGLE) $(BIN)/python -m pytest $(PYTEST_ARGS)

# Never fails: where there is no Chromium, those tests are skipped and say so.
browser:  ## install Debian's Chromium for the tests of the report's page, where that can be done
	@if command -v chromedriver >/dev/null && { command -v chromium || command -v chromium-browser \
		|| command -v google-chrome; } >/dev/null; then echo "a Chromium is there"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get $(APT) update \
		&& DEBIAN_FRONTEND=noninteractive apt-get $(APT) install -y --no-install-recommends chromium chromium-driver; \
	then echo "Chromium was installed"; \
	else echo "no Chromium, and no Debian packages or no rights to install it: the tests in a browser will be skipped"; fi

lint: $(VENV)/.development  ## format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Compiled for sm_80 and sm_90 without a GPU; fails if a kernel spills or takes more than its budget.
check-cuda: $(VENV)/.development cuda-toolkit  ## compile the CUDA files and print what their kernels take
	$(BIN)/python -m benchmarks.cuda_compile_report

cuda-toolkit: $(if $(or $(CUDA_HOME),$(shell command -v nvcc)),,$(VENV)/cuda-toolkit)

$(VENV)/cuda-toolkit: | $(BIN)/python
	$(PIP) --target $@ $(NVCC)

# The package is built a second time into build/sanitize, and the tests import it from there.
sanitize: $(VENV)/.development  ## the ops' tests with the C++ code under address and undefined-behaviour sanitizers
	SGELA_SANITIZE=1 SGELA_EXTENSION=1 SGELA_CUDA=0 $(BIN)/python setup.py --quiet build \
		--build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 SGELA_SANITIZE=1 $(SINGLE) \
	$(BIN)/python -m pytest -o pythonpath="$(SANITIZED)/lib ." -k "not compile" $(SANITIZE_ARGS) tests/csrc tests/ops

docs: $(VENV)/.development  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.development  ## serve the documentation
	$(BIN)/mkdocs serve

clean:  ## remove what the targets above made
	rm -rf $(VENV) $(DEMO_OUT) site build dist *.egg-info
