# make quickstart   installs into .venv and runs the whole pipeline once on drawn scenes: a few minutes
# make test         installs into .venv and runs every check: lint, types, tests (which try the examples too)
# make docs         builds the pages of docs/ as a site with search, in site/
# make wheel        builds dist/itmkit-*.whl and the source archive
# make test-gpu     runs every command on a CUDA device and measures it; says so where there is none
# make clean        removes .venv and what the checks left
#
# All but `clean` need Python 3.10 to 3.14 and nothing else. `make test PYTHON=python3.10` picks one.

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test lint types tests test-gpu docs wheel clean

quickstart: $(VENV)/.installed
	$(BIN)/itmkit quickstart $(QUICKSTART)

# Types are checked beside the tests: that is one process, and would leave the other cores idle.
test: lint
	$(MAKE) -j 2 types tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

types: $(VENV)/.installed-test
	$(BIN)/mypy

# One thread a process: two processes of several threads each are slower on two cores. A file of tests stays in one
# process, so that what its tests share (a trained matcher, a workspace) is made once. Compiled modules are kept even
# where the environment says otherwise: tests start many processes, and each would compile the package again.
tests: $(VENV)/.installed-test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo site/index.html

# In an environment of its own: what builds a package is no part of what runs or tests it.
wheel: $(VENV)/.made
	$(BIN)/python -m venv $(VENV)/build
	$(VENV)/build/bin/python -m pip install --disable-pip-version-check build
	$(VENV)/build/bin/python -m build --outdir dist .

test-gpu: $(VENV)/.installed
	$(BIN)/python -m tests.gpu.check $(GPU)

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP_INSTALL) --editable '.[report]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.made:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10 python); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	    echo "$$python -m venv $(VENV)"; \
	    "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	    echo "making $(VENV) failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	  fi; \
	done; \
	echo "Python 3.10 to 3.14 is needed;" \
	  "$(if $(PYTHON),$(PYTHON) is not one of them,none was found; name one: make ... PYTHON=/path/to/python3.12)" >&2; \
	exit 1
