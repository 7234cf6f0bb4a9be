# The commands that people and CI use. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := gateway tenants policies infra tests
PIP := $(BIN)/pip install --quiet --constraint constraints.txt
ARGS ?=
# Tests wait more than they compute: two at a time take less than two thirds of the time, on two cores too. The long ones come first, in e2e.
WORKERS ?= 2
# What is started hundreds of times is compiled once, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run setup test check bench chaos models packages clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: $(VENV)/.run ## serve the demo models on http://127.0.0.1:8080 (more: make run ARGS="--port 9000")
	@exec $(BIN)/gateway demo $(ARGS)

setup: $(VENV)/.all ## a virtual environment with everything

test: $(VENV)/.all ## every test, on the real Triton (some of them: make test ARGS="-k limits")
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.all ## lint and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

bench: $(VENV)/.all ## the numbers of the README, measured now (needs: make packages)
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(VENV)/.all ## the long form of the crash suites and the simulations
	CHAOS=full $(BIN)/python -m pytest -m chaos $(ARGS)

models: $(VENV)/.all ## train the demo's models anew
	$(BIN)/python -m infra.training.digits
	$(BIN)/python -m infra.training.forecast
	$(BIN)/python -m infra.training.story
	$(BIN)/python -m infra.training.example

packages: ## the system packages that tests and benchmarks use (Debian, as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wrk nginx-light nghttp2-client chromium libfaketime \
		$$($(PYTHON) -c 'import sys, sysconfig, pathlib; \
			v = "%d.%d" % sys.version_info[:2]; \
			has = pathlib.Path(sysconfig.get_config_var("LIBDIR"), f"libpython{v}.so.1.0").exists(); \
			print("" if has else f"libpython{v}")')

clean: ## remove the virtual environment and the demo's state
	rm -rf $(VENV) .state

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What running needs. Everything else is a superset of it, made in one pip call so that one resolution holds.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what running needs into $(VENV) (about a minute, once)"
	@test -e $(VENV)/.all || $(PIP) --editable '.[triton]'
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing everything into $(VENV) (about two minutes, once)"
	@$(PIP) --editable '.[triton,aws,tokens,train,test,lint]'
	@touch $@ $(VENV)/.run
