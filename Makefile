# Everything a person or CI types. Each target makes the environment it needs first; none asks a question.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
# Tests that run at a time: twice as many as two cores, as half of a test is waiting for processes.
PROCESSES ?= 4
UV := $(BIN)/uv --quiet --no-progress --no-config

# The first Python from 3.11 on that can make an environment.
define find_python
for candidate in "$$PYTHON" python3.13 python3.12 python3.11 python3 python; do \
  [ -n "$$candidate" ] && "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && { echo "$$candidate"; break; }; done
endef

.PHONY: help demo up scenarios test test-unit test-long check format docs torture bench bench-quick bench-scale lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-17s %s\n", $$1, $$2}'

.venv/uv: requirements-uv.lock
	@python=$$($(find_python)); [ -n "$$python" ] || { \
	  echo "Traced Orders needs Python 3.11 or newer with the venv module (on Debian: apt-get install python3-venv)." >&2; exit 1; }; \
	rm -rf .venv && "$$python" -m venv .venv && $(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock
	@touch $@

.venv/runtime: .venv/uv requirements.lock pyproject.toml
	@$(UV) pip install --compile-bytecode --require-hashes -r requirements.lock && $(UV) pip install --no-deps --editable .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	@$(UV) pip install --compile-bytecode --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/runtime ## run everything once: broker, services, receiver, a dozen orders, two traces
	@$(BIN)/orders demo

up: .venv/runtime ## leave it all running, with the trace page, until Ctrl-C; WORKERS=4 APIS=2 for more of each
	@$(BIN)/orders up $(if $(WORKERS),--workers $(WORKERS)) $(if $(APIS),--apis $(APIS))

scenarios: .venv/runtime ## nine orders in real trouble, and the traces they leave
	@$(BIN)/orders scenarios $(ARGS)

test: .venv/dev ## every test, against a real RabbitMQ; BROKER=4.0 picks another generation (root, Debian)
	@BROKER=$(BROKER) $(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

test-unit: .venv/dev ## the tests that need no broker, in about a minute
	@$(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS) tests/unit

test-long: .venv/dev ## the faults at the size of production, one at a time (an hour and a half); RECOVERY_TABLE=FILE collects their rows
	@BROKER=$(BROKER) $(BIN)/pytest -m long $(ARGS)

check: .venv/dev ## lint, format, types and import directions
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

format: .venv/dev ## put the code in its format
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

docs: .venv/dev ## write anew what is generated in docs/
	@$(BIN)/python -m tests.configuration_page && $(BIN)/python -m tests.asyncapi

torture: .venv/dev ## kill workers, APIs, broker and connections for minutes, and account for every order
	@$(BIN)/python -m tests.torture $(ARGS)

bench: .venv/dev ## measure this system beside others, in turns (an hour); ARGS="--against PATH" beside another checkout of itself
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: .venv/dev ## the same in six minutes
	@$(BIN)/python -m benchmarks --quick

bench-scale: .venv/dev ## measure 1, 2 and 4 of each service, and shards
	@$(BIN)/python -m benchmarks --scale

lock: .venv/uv ## compile the pins anew
	@for part in "-o requirements.lock" "--extra dev -o requirements-dev.lock"; do \
	  $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --custom-compile-command "make lock" pyproject.toml $$part >/dev/null || exit 1; done
	@grep '^uv==' requirements-dev.lock | cut -d' ' -f1 | $(UV) pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command "make lock" - -o requirements-uv.lock >/dev/null

clean: ## remove the environment and local data
	@rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .hypothesis
