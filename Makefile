# make demo, make test, make lint need Python 3.11 or newer, pip and make; make test-sites needs root
# on Debian 12.  Each sets up what it needs in .venv first.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { command -v $$p; break; }; done)

# What each target installs of this package's extras.
EXTRAS_demo := demo,dashboard
EXTRAS_test := test
EXTRAS_lint := dev
EXTRAS_docs := docs

.PHONY: help demo test test-sites test-sites-long lint docs check clean FORCE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

demo: $(VENV)/.installed-demo ## a cluster of jobs on this machine and a real analysis on it
	$(BIN)/dask-hpc demo --batch local

test: $(VENV)/.installed-test ## everything that needs no batch system (about 12 minutes)
	$(BIN)/python -m pytest -m "not site"

test-sites: ## the tests on real batch systems, which testbeds/ starts on this machine (root, Debian 12)
	testbeds/run-sites.sh

test-sites-long: ## the same, and those that take a minute each and are made elsewhere too
	testbeds/run-sites.sh --long

lint: $(VENV)/.installed-lint ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs ## the documentation as a site: build/docs/index.html
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

check: test test-sites lint docs ## what CI runs

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up -----------------------------------------------------------------------------------

define NO_PYTHON
dask-hpc needs Python 3.11 or newer, and '$(or $(PYTHON),$(CANDIDATES))' is not.
Install one, or name yours: make PYTHON=/path/to/python3.11
endef

define NO_PIP
$(PYTHON) has neither ensurepip nor pip, so no virtual environment can be made.
On Debian and Ubuntu: apt-get install python3-venv
endef

define NO_REGISTRY
pip could not install what dask-hpc needs (its own words are above).
Can this machine reach a package registry?  Behind a mirror: pip config set global.index-url URL
endef

export NO_PYTHON NO_PIP NO_REGISTRY
PIP := -m pip --disable-pip-version-check --quiet

# An environment whose interpreter has gone (a system upgrade) is made anew.
$(VENV)/pyvenv.cfg: $(shell test -x $(BIN)/python || echo FORCE)
	@"$(or $(PYTHON),false)" -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "$$NO_PYTHON" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@if "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		"$(PYTHON)" -m venv --clear $(VENV); \
	elif "$(PYTHON)" -c 'import pip, venv' 2>/dev/null; then \
		"$(PYTHON)" -m venv --clear --without-pip $(VENV) && \
		{ "$(PYTHON)" $(PIP) --python $(BIN)/python install pip || \
			{ rm -rf $(VENV); echo "$$NO_REGISTRY" >&2; exit 1; }; }; \
	else \
		echo "$$NO_PIP" >&2; exit 1; \
	fi

$(VENV)/.installed-%: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "installing dask-hpc[$(EXTRAS_$*)]"
	@$(BIN)/python $(PIP) install --editable '.[$(EXTRAS_$*)]' || { echo "$$NO_REGISTRY" >&2; exit 1; }
	@touch $@

FORCE:
