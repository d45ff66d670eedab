# `make demo` installs and runs the main job, `make test` installs and runs the checks; both need only Python 3.11 or newer with venv.
# The environment is made once in .venv and refreshed when pyproject.toml or constraints.txt changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# Two workers: a machine with two cores is the smallest that the suite is timed on. A file stays on one of them, so that
# what its tests share is made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow mutants lint format notebooks docs clean

help:
	@echo "make demo       install costmodel with its own dependencies alone and price the paper's 9 % point on an A100"
	@echo "make test       install everything the tests need; run ruff, mypy and the default tests"
	@echo "make test-slow  the same environment; run the slow tests, and those of random examples on many more"
	@echo "make mutants    the same environment and mutmut; see whether the tests notice small changes of the core (hours)"
	@echo "make lint       ruff and mypy"
	@echo "make format     let ruff format and fix what it can"
	@echo "make notebooks  the same environment; run the notebooks again and keep their outputs"
	@echo "make docs       install mkdocs-material; make the documentation's site in build/site, without a network"
	@echo "make clean      remove the environment and the caches"

demo: $(VENV)/.installed
	$(BIN)/costmodel estimate --model llama2-7b --hw a100-sxm-80gb \
	    --decompose "layers=2,17,31 tensors=all rank=1 form=tucker"

test: lint
	$(PYTEST)

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m "(slow or hypothesis) and not gpu" --hypothesis-profile=thorough

# May be stopped and started again; tests/mutants/README.md says what it found.
mutants: $(VENV)/.installed-mutants
	$(BIN)/python tests/mutants/run.py
	$(BIN)/python tests/mutants/run.py --report

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

notebooks: $(VENV)/.installed-test
	$(BIN)/python notebooks/execute.py

docs: $(VENV)/.installed-docs
	$(BIN)/python scripts/site.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Editable, so that a changed source needs no new install and both commands share one environment.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) -e ".[validate,quality,notebooks,dev]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-mutants: $(VENV)/.installed-test
	$(PIP_INSTALL) -e ".[validate,quality,notebooks,dev,mutants]"
	@touch $@

$(VENV)/.installed-docs: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.installed

# A link to the interpreter, so older than every stamp; one whose interpreter is gone counts as missing and is made anew.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or python3 found; set PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $(PYTHON) is older than Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
