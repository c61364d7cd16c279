# Eklavya's commands. `make` lists them. Options for a command: make test ARGS="-k storage -x"
.DEFAULT_GOAL := help
SHELL := /bin/bash
ARGS ?=

# Any Python will do to start: bootstrap.py finds 3.11, makes .venv from the hashed lock, and runs what follows with it.
PYTHON ?= $(firstword $(shell command -v python3.11 python3 python))
BOOT = $(if $(PYTHON),$(PYTHON) eklavya/bootstrap.py,@echo "eklavya: needs Python 3.11: install it (Debian 12: apt-get install python3 python3-venv)" >&2; exit 1;)
DEV = $(BOOT) --dev
BIN = .venv/bin
UV_COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links

# loadscope: what a module or class sets up once serves all of its tests, in one process. tests/conftest.py says
# which modules come first.
PYTEST_OPTIONS = --import-mode=importlib --dist=loadscope --no-loadscope-reorder

SYSTEM_PACKAGES = ca-certificates chromium debootstrap docker.io fonts-dejavu-core git procps ripgrep
# Debian's npm refuses to stand beside a Node.js from elsewhere, which serves as well.
SYSTEM_PACKAGES += $(if $(shell command -v npm),,nodejs npm)

NPM_CI = npm ci --silent --ignore-scripts --no-audit --no-fund

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

run: ## Start Eklavya: installs what is missing, prints the address
	@$(BOOT) manage.py run $(ARGS)

rehearse: ## Run the whole job once with the rehearsal model, and show each step
	@$(BOOT) manage.py rehearse $(ARGS)

# Three processes for two cores: a third of the tests' time is waiting for something.
# Hundreds of processes start in a run: none compiles anew what another has compiled, whatever the shell says.
test: export PYTHONDONTWRITEBYTECODE =
test: ## Run the tests, on servers of their own
	@$(DEV) -m pytest $(PYTEST_OPTIONS) --numprocesses=3 $(ARGS)

test-system: ## Install what all tests need (Debian, as root): Docker, the sandbox image, Chromium
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(SYSTEM_PACKAGES)
	docker/start_daemon.sh
	docker/build_image.sh

lint: ## Check style, types, import order, migrations, templates and that the front end is built
	@$(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run  # no database is needed
	$(BIN)/djlint --lint --quiet templates
	cd static/dist && sha256sum --check --quiet MANIFEST.sha256
	cd frontend && sha256sum --check --quiet ../static/dist/SOURCES.sha256 || { echo "lint: frontend/ was not built: make frontend" >&2; exit 1; }
	@left_out() { echo "lint: the front end's own tests and its build were left out ($$1)"; test -z "$(NO_SKIPS)"; }; \
	if ! command -v npm >/dev/null; then left_out "no npm; Debian: apt-get install nodejs npm"; \
	elif ! npm ping --silent --fetch-retries=1 >/dev/null 2>&1; then left_out "no npm registry answers"; \
	else $(MAKE) --no-print-directory lint-frontend; fi

lint-frontend: ## Run the front end's own tests, and see that its build gives static/dist to the byte (needs Node.js)
	cd frontend && $(NPM_CI) && npm test --silent -- --test-reporter=dot && npm run check --silent

format: ## Rewrite the code in the house style
	@$(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## Resolve requirements*.in into the hashed locks
	@$(DEV)
	$(UV_COMPILE) requirements.in --output-file requirements.txt
	$(UV_COMPILE) requirements-dev.in --constraint requirements.txt --output-file requirements-dev.txt

image: ## Build the Docker image of the sandboxes
	docker/build_image.sh

frontend: ## Build static/dist from frontend/ (needs Node.js)
	cd frontend && $(NPM_CI) && npm run build

migrate: ## Bring the database of a running Eklavya up to date
	@$(BOOT) manage.py migrate $(ARGS)

shell: ## Open Django's shell on a running Eklavya
	@$(BOOT) manage.py shell $(ARGS)

chaos: ## Break a house at work 200 times, and look whether all arrives (an hour and more)
	@$(DEV) -m tests.chaos $(ARGS)

idle: ## Let a day pass in which nobody decides anything, at the exact schedules of all periodic work (ten minutes and more)
	@$(DEV) -m pytest tests/eklavya/idle_day.py --quiet --show-capture=no $(ARGS)

bench: ## Run the benchmarks
	@$(DEV) -m bench $(ARGS)

clean: ## Remove caches and what builds left; keeps .venv and the data in var
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov test-results
	find . -path ./.venv -prune -o -path ./var -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

.PHONY: help run rehearse test test-system lint lint-frontend format lock image frontend migrate shell chaos idle bench clean
