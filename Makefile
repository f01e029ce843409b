# Everything runs in .venv, which each target makes and fills as far as it needs. A stamp is written after an
# installation has succeeded, so that an interrupted one is repeated and a finished one is not.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Test processes; 0 runs the tests in one. More arguments: make test PYTEST_ARGS="-k rotary".
WORKERS ?= 2
PYTEST_ARGS ?=
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=15 $(PYTEST_ARGS)
# Arguments of the demo: make demo ARGS="..."
ARGS ?=

export TF_CPP_MIN_LOG_LEVEL ?= 2
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup setup-all setup-lint demo test test-backends lint format bench lock clean distclean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("kexue needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; choose another with make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.setup: $(VENV)/.made requirements/test.txt pyproject.toml
	@rm -f $@
	$(PIP) -r requirements/test.txt
	$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.setup-lint: $(VENV)/.setup requirements/lint.txt
	@rm -f $@
	$(PIP) -r requirements/lint.txt
	@touch $@

# PyTorch comes first and alone: where the installer knows a CPU build of that version it is taken, and what follows
# finds it in place.
$(VENV)/.setup-all: $(VENV)/.setup requirements/all.txt
	@rm -f $@
	$(PIP) "$$(grep -oE '^torch==[^ ;]+' requirements/all.txt)"
	$(PIP) -r requirements/all.txt
	@touch $@

setup: $(VENV)/.setup  ## Make .venv with what the demo and the tests need
setup-lint: $(VENV)/.setup-lint
setup-all: $(VENV)/.setup-all  ## The same and all backends, peer libraries and development tools

demo: $(VENV)/.setup  ## Train on generated notices, compare the heads, predict (ARGS="..." are passed on)
	$(BIN)/python -m kexue.demo $(ARGS)

test: $(VENV)/.setup  ## Run the tests on the default backend
	$(PYTEST)

# Rooms that know no backend (a contract of the linter) need not be tested again.
BACKENDLESS := --ignore=tests/maths --ignore=tests/text --ignore=tests/checkpoints
# The slow tests, long trainings and kills, are run on JAX and PyTorch only: all together must end within the hour.
test-backends: $(VENV)/.setup-all  ## Run the tests on PyTorch and TensorFlow
	KERAS_BACKEND=torch $(PYTEST) $(BACKENDLESS)
	KERAS_BACKEND=tensorflow $(PYTEST) $(BACKENDLESS) -m "not slow"

lint: $(VENV)/.setup-lint  ## Style, formatting, types, and the order of the rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.setup-lint  ## Repair style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.setup-all  ## Measure against the peers (ARGS="..." are passed on)
	$(BIN)/python -m benchmarks $(ARGS)

# Each file starts from all.txt, so that every file pins the same versions. CUDA packages of PyTorch are left out:
# a CPU build does not need them, and a GPU build brings its own. `make lock UPGRADE=--upgrade` moves to new versions.
UPGRADE ?=
COMPILE = $(BIN)/uv pip compile --quiet --no-config --python-version 3.11 --annotation-style line \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	--constraint requirements/constraints.in pyproject.toml
WITHOUT_CUDA = sed -i.bak -E '/^(nvidia-|cuda-|triton==)/d' $(1) && rm $(1).bak

lock: $(VENV)/.setup-lint  ## Recompile requirements/*.txt from pyproject.toml
	$(COMPILE) --all-extras $(UPGRADE) -o requirements/all.txt
	$(call WITHOUT_CUDA,requirements/all.txt)
	for name in base test lint; do cp requirements/all.txt requirements/$$name.txt; done
	$(COMPILE) -o requirements/base.txt
	$(COMPILE) --extra test -o requirements/test.txt
	$(COMPILE) --extra test --extra dev -o requirements/lint.txt

clean:  ## Remove caches and what builds and the demo wrote
	rm -rf build dist demo-output .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## The same and .venv
	rm -rf $(VENV)
