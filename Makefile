# Every target installs what it needs into .venv from the hashed locks in requirements/. Needs Python >= 3.11, git and make.

.DEFAULT_GOAL := check
# The tests start the command hundreds of times, so keep its byte code.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: demo demo-page test test-all process thorough drill docs screenshots survive engines sync-logs check fmt fmt-check lint manifests types imports cov bench bench-client bench-scale bench-fleet bench-plans mutants lock migration build clean help

PYTHON ?= python3
# Number of test processes. auto: one more than processors. JOBS=0: only pytest itself.
JOBS ?= auto
SPREAD := --numprocesses=$(JOBS) --dist=worksteal
BIN := .venv/bin
# Scripts use parts of the tests.
SCRIPT := PYTHONPATH=tests $(BIN)/python
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# Decisions and vocabulary: 100% branch coverage. Coverage needs commas between them.
CORE := monitor/model/*,monitor/errors.py,monitor/incidents/decide.py,monitor/incidents/rulebook.py,monitor/incidents/evidence.py,monitor/incidents/silences.py,monitor/incidents/slo.py,monitor/incidents/slo_texts.py,monitor/incidents/backoff.py,monitor/incidents/gate.py,monitor/incidents/simulate.py,monitor/notifications/batching.py,monitor/notifications/channels/mail_headers.py,monitor/notifications/messages.py,monitor/notifications/texts.py,monitor/notifications/trend.py,monitor/notifications/routing.py,monitor/client/api_errors.py,monitor/client/pages.py,monitor/client/classify.py,monitor/client/retry_after.py,monitor/client/retry.py,monitor/client/limits.py,monitor/client/redaction.py,monitor/client/transports/http1.py,monitor/client/rate/*,monitor/runs/rollup.py,monitor/runs/stop_rules.py,monitor/runs/latencies.py,monitor/runs/partial_report.py,monitor/fleet/shares.py,monitor/fleet/waiting.py,monitor/web/readiness.py,monitor/database/retention_policy.py,monitor/waits/rules.py,monitor/waits/report.py,monitor/web/access/origins.py,monitor/web/access/sessions.py,monitor/web/access/attempts.py,monitor/reports/status.py,monitor/client/parts.py

demo: .venv/.runtime ## the main job end to end against the built-in sandbox
	@$(BIN)/ingestion-monitor demo

demo-page: .venv/.installed ## the page after a night of faults, until Ctrl-C: http://127.0.0.1:8990/, or PORT=8991
	@$(SCRIPT) scripts/demo_page.py $(if $(PORT),--port $(PORT))

test: .venv/.installed ## run the tests on all processors; of those that kill, race and wait, one of each kind
	@$(BIN)/python -m pytest --quiet $(SPREAD) -m "not process or smoke"

test-all: .venv/.installed ## run every test, also those that repeat on PostgreSQL, and those of the benchmarks
	@$(BIN)/python -m pytest --quiet $(SPREAD)

thorough: export MONITOR_TEST_THOROUGH := 1
thorough: .venv/.installed ## the tests with ten times the examples of each law, and larger fleets: takes a night
	@$(BIN)/python -m pytest --quiet $(SPREAD)

check: fmt-check lint manifests types imports cov ## everything that must hold before a change is shared (the default)

fmt: .venv/.installed ## format the code and apply ruff's safe fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

fmt-check: .venv/.installed ## fail where `make fmt` would change the layout
	@$(BIN)/ruff format --check .

lint: .venv/.installed ## ruff, the Dockerfile and the shell scripts
	@$(BIN)/ruff check .
	@$(BIN)/hadolint Dockerfile
	@bash -n .ci/run

manifests: .venv/.installed ## check deploy/ with kubernetes-validate, and with the tools that are installed
	@$(SCRIPT) scripts/manifests.py

types: .venv/.installed ## mypy, strict
	@$(BIN)/mypy

imports: .venv/.installed ## the import contract: layers, and a core without I/O
	@$(BIN)/lint-imports

# In one go, so that tests that wait and tests that compute share the processors.
cov: .venv/.installed ## all but the nightly tests, and branch coverage by those of `make test`: 90% of all, 100% of the core
	@$(BIN)/python -m pytest --quiet $(SPREAD) -m "not nightly" --cov --cov-report=
	@$(BIN)/coverage report --fail-under=90
	@$(BIN)/coverage report --fail-under=100 --include='$(CORE)'

process: .venv/.installed ## the tests that `make test` leaves out
	@$(BIN)/python -m pytest --quiet $(SPREAD) -m "process and not smoke"

drill: .venv/.installed ## a night of faults on a fast clock, with its notifications: one minute
	@$(SCRIPT) scripts/drill.py

docs: .venv/.installed ## regenerate the transcripts and tables in the documents, and the channels' snapshots
	@$(SCRIPT) scripts/transcript.py docs/quickstart.md
	@$(SCRIPT) scripts/drill.py docs/incidents.md
	@$(SCRIPT) scripts/slo_day.py docs/slo.md
	@$(SCRIPT) scripts/backtest_month.py docs/backtest.md
	@$(SCRIPT) scripts/faults_table.py docs/client.md
	@$(SCRIPT) scripts/channel_snapshots.py
	@$(SCRIPT) scripts/config_reference.py docs/configuration.md
	@$(SCRIPT) scripts/providers_table.py docs/providers/README.md
	@$(SCRIPT) tests/config/mistakes.py docs/mistakes.md
	@$(SCRIPT) scripts/sync_log_tables.py docs/sync-log.md
	@$(SCRIPT) scripts/grafana_dashboard.py deploy/grafana/dashboard.json

screenshots: .venv/.installed ## take the pictures in docs/images anew, by Chromium: two minutes
	@$(SCRIPT) scripts/screenshots.py docs/images

survive: .venv/.installed ## kills, races and faults of databases, as tables: an hour
	@$(SCRIPT) scripts/survive.py $(SECTIONS) $(if $(SEED),--seed $(SEED))

sync-logs: .venv/.installed ## real tools write the sync logs of tests/synclog/fixtures: half an hour; TOOLS="django dlt" writes some
	@$(SCRIPT) scripts/sync_logs/fixtures.py $(TOOLS)

engines: .venv/.installed ## real engines, installed and run, beside the product: half an hour; ENGINES="lightrag prefect" tries some
	@PYTHONPATH=scripts $(BIN)/python -m engines $(ENGINES) --document docs/providers/engines.md --record tests/providers/recorded

bench: .venv/.installed ## a list in one request, and the start-up of commands, beside the build before: six minutes
	@$(BIN)/python benchmarks/whole_list.py $(BENCH)
	@$(BIN)/python benchmarks/startup.py $(BENCH)

bench-client: .venv/.installed ## the client beside its peers and the build before: half an hour; BENCH="--quick --only tls"
	@$(BIN)/python benchmarks/clients.py $(BENCH)

bench-scale: .venv/.installed ## a million items, a thousand targets, a year of runs: hours; BENCH="--quick --only steady"
	@$(BIN)/python benchmarks/scale.py $(BENCH)

bench-fleet: .venv/.installed ## workers on this machine, by their number, and how they share a rate limit: an hour; BENCH="--items 20000"
	@$(BIN)/python benchmarks/fleet.py $(BENCH)

bench-plans: .venv/.installed ## the plan and cost of every statement over a long history: ten minutes; BENCH=--postgresql
	@$(BIN)/python benchmarks/plans.py $(BENCH)

mutants: .venv/.installed ## mutate the client's rules, and count the mutants that no test notices: five minutes
	@nice -n 19 $(SCRIPT) scripts/mutation_score.py

lock: .venv/.installed ## update the lock files (newer versions: make lock LOCK=--upgrade)
	@$(call compile,runtime,pyproject.toml)
	@$(call compile,dev,pyproject.toml --extra bedrock --group dev -c requirements/runtime.txt)
	@$(call compile,build,requirements/build.in -c requirements/dev.txt)
compile = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 $(2) -o requirements/$(1).txt $(LOCK)

migration: export m := $(m)
migration: .venv/.installed ## write the next migration from the tables: make migration m="add a column"
	@test -n "$$m" || { echo 'make migration: add a description: make migration m="add a column"' >&2; exit 2; }
	@rm -rf build/migration.db && mkdir -p build
	@$(BIN)/alembic -x url=sqlite:///build/migration.db upgrade head
	@$(BIN)/alembic -x url=sqlite:///build/migration.db revision --autogenerate -m "$$m"

build: .venv/.installed ## the wheel, into dist/
	@$(BIN)/python -m hatchling build -t wheel -d dist

clean: ## remove builds, caches and coverage data; .venv and databases stay
	@rm -rf build dist mutants htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## print this
	@awk -F ':[^#]*## ' '/^[a-z-]+:[^#]*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

# Stamps of installed requirements. The development environment contains the runtime one.
.venv/.installed: .venv/pyvenv.cfg requirements/dev.txt pyproject.toml
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch .venv/.runtime $@

.venv/.runtime: .venv/pyvenv.cfg requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(PIP) install --no-deps --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/pyvenv.cfg:
	@for python in $(PYTHON) python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -m venv .venv || { rm -rf .venv; exit 1; }; exit 0; \
	  fi; \
	done; \
	echo 'make: no Python 3.11 or newer was found: install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1
