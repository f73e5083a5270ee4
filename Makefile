# COBY's only definition of set-up and checks: README, .ci/run and the workflows call these targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY := $(VENV)/ready
# Recordings that may lie beside the repository; without any, `coby play` makes a market up.
CAPTURE ?= $(wildcard ../shared/captures/binance_futures.jsonl.gz)
VENUE ?=
SEED ?= 0
POWER_CUTS ?= 10000
FUZZ_CASES ?= 10000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup module module-release run play docs test test-rust test-python check check-rust check-python bench bench-peers prove prove-rust prove-python independent-readers wheel lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Create .venv with the locked Python packages (every other target does it when needed)
$(READY): requirements.lock
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --requirement requirements.lock
	@touch $@

module: $(READY) ## Build coby._core for tests (dev profile) and install the project into .venv
	@maturin develop --quiet

module-release: $(READY) ## Build coby._core optimised and install the project into .venv
	@maturin develop --quiet --profile release

run: module-release ## Collect from simulated exchanges, with the API on port 8765 and a terminal view; all goes to data/
	@coby-run --simulate --data-dir data

play: module-release ## Play a recording with a terminal view; Parquet files go to data/  [CAPTURE=file VENUE=id]
	@coby play $(if $(CAPTURE),"$(CAPTURE)") $(if $(VENUE),--venue $(VENUE)) --data-dir data

docs: module ## Make docs/venues.md of what the code says of its venues
	@coby venues --markdown > docs/venues.md

test: ## All tests and checks, with the time that each part took; fails if any part failed
	@status=0; report=""; begin=$$SECONDS; \
	for target in setup test-rust module test-python check; do \
	  echo "== $$target"; start=$$SECONDS; \
	  if $(MAKE) $$target; then result=ok; else result=FAILED; status=1; fi; \
	  report+=$$(printf '%6d s  %-6s  %s' $$((SECONDS - start)) $$result $$target)$$'\n'; \
	done; \
	printf '\n%s%6d s  in all\n' "$$report" $$((SECONDS - begin)); exit $$status

test-rust: ## Tests of the Rust crates
	@cargo test --workspace --quiet

test-python: module ## Tests of the Python package and of both together
	@pytest -q -m "not prove" --numprocesses 2 --dist loadfile

check: check-rust check-python ## Formatting, lints and types

check-rust: ## rustfmt and clippy, warnings denied
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

check-python: module ## ruff, mypy strict, and stubtest: coby/_core.pyi against the module
	@ruff format --check --quiet python tests benches examples
	@ruff check --quiet python tests benches examples
	@mypy --no-error-summary
	@stubtest coby._core --mypy-config-file pyproject.toml --concise

bench: module-release ## One table and target/bench.json: each part beside a ceiling of the same run  [BASELINE=bench.json]
	@python benches/run.py $(if $(BASELINE),--compare $(BASELINE))

bench-peers: module-release ## COBY beside cryptofeed, ccxt, nautilus_trader and tardis-dev on the same recordings; target/bench-peers.json
	@python benches/peers/run.py

prove: prove-rust prove-python ## Long campaigns: power cuts, bad input, kills, every test marked prove  [SEED=0 POWER_CUTS=10000 FUZZ_CASES=10000]

prove-rust: ## Seeded power cuts of the tape, and made-up bad frames for every venue
	@COBY_CUTS=$(POWER_CUTS) COBY_CUTS_FROM=$(SEED) COBY_FUZZ_CASES=$(FUZZ_CASES) COBY_FUZZ_SEED=$(SEED) \
	  cargo test --quiet -p coby-io --test power_cuts --test venues_bad_input

prove-python: module ## Seeded power cuts of the store, kills, independent readers, and the other tests marked prove
	@SEED=$(SEED) POWER_CUTS=$(POWER_CUTS) pytest -q -m prove --timeout 0

independent-readers: module ## Let cryptofeed, ccxt and tardis-dev read every simulated venue, and write docs/independent-readers.md
	@READERS_WRITE=1 pytest -q --timeout 0 tests/prove/test_independent_readers.py

wheel: $(READY) ## Build the wheel and the source distribution into dist/
	@maturin build --profile wheel --out dist --sdist

lock: ## Renew requirements.lock from pyproject.toml
	@rm -rf target/lock && $(PYTHON) -m venv target/lock
	@$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*p["project"]["dependencies"], *p["dependency-groups"]["checks"], sep="\n")' > target/lock/wanted
	@target/lock/bin/pip install --requirement target/lock/wanted
	@target/lock/bin/pip freeze | sed 's/^uvloop==.*/&; sys_platform != "win32"/' > requirements.lock

clean: ## Remove everything that the targets above made, except data/
	@rm -rf $(VENV) target dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis python/coby/_core*.so
	@find python tests -name __pycache__ -type d -prune -exec rm -rf {} +
