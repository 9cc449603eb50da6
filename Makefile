# Everything a new machine needs: Python 3.11 or newer, pip, make; as root on Debian the rest is installed here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-fast test check docs bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything (a second call does nothing)

$(STAMP): pyproject.toml setup.py constraints.txt setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash setup.sh
	@touch $(STAMP)

demo: $(STAMP)  ## real videos to a report.html through every command (about 10 minutes on 2 cores)
	@$(BIN)/python -m launch.demo

demo-fast: $(STAMP)  ## the same steps with little training
	@$(BIN)/python -m launch.demo --fast

test: $(STAMP)  ## all tests, fast ones first
	@$(BIN)/python -m pytest -q -n 2 -m "not slow"
	@# Three at a time, for they wait as well as compute: for signals, watchdogs, servers.
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m slow

check: docs  ## ruff, mypy --strict, and the documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(STAMP)  ## the site in build/site; a broken link, page or anchor is an error
	@mkdir -p build
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict >build/docs.log 2>&1 || { cat build/docs.log; exit 1; }

bench: $(STAMP)  ## the benchmarks, one after the other; figures go to their READMEs by hand
	@for file in benchmarks/*/run.py; do \
		module=$$(dirname $$file | tr / .).run; echo "== $$module"; $(BIN)/python -m $$module || exit 1; done

clean:  ## remove what the demonstration made (keeps .venv)
	@rm -rf .demo
