# Two commands set everything up: `make demo` and `make test`. Everything else works in the same environment.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip -qq --disable-pip-version-check
JOBS   ?= 2
GOLDEN := $(addprefix tests/golden/,6.1 6.12 6.12-va lu-v1 lu-v2 lu-v2pure)

.PHONY: demo test setup format lint types floors cover scenarios conform evidence bench fuzz wheel ci clean
.DEFAULT_GOAL := test

# One stamp per set of packages; a second call finds it newer than pyproject.toml and does nothing.
$(VENV)/stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vdpasim needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment: this Python lacks venv (Debian: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/stamp-run: $(VENV)/stamp-venv pyproject.toml
	@echo "setting up $(VENV)" >&2
	@$(PIP) install -e .
	@touch $@

$(VENV)/stamp-test: $(VENV)/stamp-run
	@echo "installing what the tests need" >&2
	@$(PIP) install -e '.[test]'
	@touch $@

$(VENV)/stamp-lint: $(VENV)/stamp-test
	@echo "installing what the linters need" >&2
	@$(PIP) install -e '.[test,lint]'
	@touch $@

setup: $(VENV)/stamp-lint

demo: $(VENV)/stamp-run
	@$(BIN)/vdpasim run --demo scenarios

test: $(VENV)/stamp-test
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

format: $(VENV)/stamp-lint
	@$(BIN)/ruff check --quiet --fix --select I . && $(BIN)/ruff format --quiet .

lint: $(VENV)/stamp-lint
	@$(BIN)/ruff check .

types: $(VENV)/stamp-lint
	@$(BIN)/mypy
	@$(BIN)/pyright

floors: $(VENV)/stamp-lint
	@$(BIN)/lint-imports

cover: $(VENV)/stamp-test
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(BIN)/coverage run -m pytest -q -n $(JOBS) --dist worksteal
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report --include='*/vdpasim/core/*' --fail-under=90

scenarios: $(VENV)/stamp-run
	@$(BIN)/vdpasim run scenarios

conform: $(VENV)/stamp-run
	@$(BIN)/vdpasim conform --all --agreement tests/golden/agreement.toml $(GOLDEN)

# Which golden cases confirm which rule; shipped with the package and read by `vdpasim explain`.
evidence: $(VENV)/stamp-run
	@$(BIN)/vdpasim conform --all --agreement tests/golden/agreement.toml --evidence vdpasim/core/rules/evidence.json $(GOLDEN) > /dev/null

bench: $(VENV)/stamp-test
	@$(BIN)/python -m bench

fuzz: $(VENV)/stamp-test
	@$(BIN)/python -m tests.fuzz $(FUZZ)

wheel: $(VENV)/stamp-lint
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps -w dist .

ci: lint types floors test scenarios conform

clean:
	@rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
