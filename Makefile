# `make help` explains the targets. Everything that needs the environment prepares it first.
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt bench soak lock clean

help: ## what can be made
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## prepare this machine: .venv and, as root, the system packages that tests need
	@bash scripts/setup.sh

demo: setup ## a whole cluster on this machine, in a race with lone mirrors
	@$(BIN)/sideways demo

test: setup ## the tests
	@$(BIN)/pytest -n 3 --dist worksteal

check: ## all that CI checks: format, lint, types, layers, tests
	@bash .ci/run

fmt: setup ## lay out the code and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## measure, and compare with other tools; ARGS="--only 1,2 --write docs/benchmarks.md"
	@$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## the long runs that `make test` leaves out
	@$(BIN)/pytest -m soak --timeout 0

lock: setup ## take the newest versions that pyproject.toml allows into requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv lock --quiet --upgrade
	@$(BIN)/uv export --quiet --no-emit-project --no-emit-index-url --no-header --format requirements-txt \
		--output-file requirements.lock

clean: ## remove caches and built packages; .venv stays
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
