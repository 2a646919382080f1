# What can be done here: `make help`. Nothing is needed but Python >= 3.11 and make: everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
LOCKS := requirements/installer.lock requirements/everything.lock

# The first Python of these that is new enough; `make PYTHON=/path/to/python` chooses another one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# uv does not read pip's settings. A package index that was chosen for pip is meant for uv as well.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
export UV_CUSTOM_COMPILE_COMMAND := make lock
COMPILE := pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url --python-version 3.11

# Airflow, started by a test or a demo, must never find the user's own installation.
unexport AIRFLOW_HOME AIRFLOW_CONFIG

.DEFAULT_GOAL := help
.PHONY: help install demo test bench servers format lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r target what; do \
	  printf '  make %-10s %s\n' "$$target" "$$what"; done

install: $(STAMP) ## everything into .venv, in the locked versions

demo: $(STAMP) ## real files through the example DAGs on a real Airflow; KEEP=1 leaves it running
	@$(BIN)/python -m demo

test: $(STAMP) ## everything that CI runs; PYTEST_ARGS="-k words" chooses tests
	@echo "== lint" && $(BIN)/ruff check .
	@echo "== format" && $(BIN)/ruff format --check .
	@echo "== types" && $(BIN)/mypy
	@echo "== layers" && $(BIN)/lint-imports --no-logo
	@echo "== tests" && $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(STAMP) ## speed and memory beside curl and dicomweb-client; BENCH_ARGS="--case retrieve" chooses cases
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

servers: $(STAMP) ## what the servers of the tests do, into the README's table
	@$(BIN)/python -m tests.servers.table

format: $(STAMP) ## what ruff can correct by itself
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: $(VENV)/bin/uv ## new versions into the lock files
	@echo 'uv' | $(BIN)/uv $(COMPILE) --output-file requirements/installer.lock -
	@$(BIN)/uv $(COMPILE) --all-extras --group pyproject.toml:build --output-file requirements/everything.lock pyproject.toml

clean: ## remove .venv and all that was built
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): $(LOCKS) pyproject.toml $(BIN)/uv
	@echo "== install: the locked versions into $(VENV) (the first time takes a minute or two)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/everything.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/uv: requirements/installer.lock
	@test -n "$(PYTHON)" || \
	  { echo "Python 3.11 or newer is needed, and was not found. Choose one: make PYTHON=/path/to/python"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version); Python 3.11 or newer is needed."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; } >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@
