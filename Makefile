# `make help` lists the targets. Each sets up .venv first; that is skipped when nothing changed.
.DEFAULT_GOAL := all
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A hook of git's may name another repository; Python's variables, other packages than .venv's.
OF_ANOTHER_REPOSITORY := $(shell env -i PATH="$(PATH)" git rev-parse --local-env-vars 2>/dev/null)
unexport $(OF_ANOTHER_REPOSITORY) $(filter PYTHON%,$(.VARIABLES))
SETUP := .venv/.ready
FARM := .venv/.ready-for-farm
UNREAD := [ $$? = 141 ] # no error: `| head -1` has read enough
# A .venv doesn't outlive a move of its folder, nor its Python's removal or upgrade.
DEAD := $(shell [ ! -e .venv/pyvenv.cfg ] \
	|| { grep -qsF -e " $(CURDIR)/.venv" -e " $$(readlink -f .venv)" .venv/pyvenv.cfg \
	&& .venv/bin/python -c 'import pip'; } 2>/dev/null || echo dead)
# DVC asks for the user's name and home, which a user of a container may not have.
export LOGNAME := $(or $(LOGNAME),$(USER),$(shell id -un 2>/dev/null))
export HOME := $(or $(HOME),$(shell unset HOME; echo ~))

# Asked before minutes go into .venv; whoever told DVC to do without Git has the pipeline, at least.
all test test-faults test-seeds test-farm test-readme demo verify bench seeds farm experiments plots: in-git
.PHONY: in-git
in-git:
	@if grep -qsi 'no_scm = true' .dvc/config.local; then exit; fi; \
	if ! command -v git >/dev/null; then echo "error: git is not installed" >&2; exit 1; fi; \
	if reason=$$(git rev-parse --git-dir 2>&1); then exit; fi; \
	if [ -e .git ]; then echo "$$reason" >&2; exit 1; fi; \
	echo "error: $(CURDIR) is no Git repository. Make it one: git init && git add --all &&" \
		"git commit -m start; or do without: make setup && .venv/bin/dvc config --local core.no_scm true" >&2; \
	exit 1

.PHONY: all
all: $(SETUP) ## Set up .venv and run the whole pipeline (the default)
	dvc repro

.PHONY: setup
setup: $(SETUP) ## Set up .venv with the packages of requirements.txt

$(SETUP): requirements.txt $(DEAD)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(DEAD:dead=--clear) .venv
	python -m pip install --quiet --requirement requirements.txt
	touch $@

$(FARM): requirements-farm.txt $(SETUP)
	python -m pip install --quiet --requirement requirements-farm.txt
	touch $@

.PHONY: dead
dead:

.PHONY: test
test: $(SETUP) ## Run the tests, under five minutes; needs neither the data set nor a network
	pytest

.PHONY: test-faults
test-faults: $(SETUP) ## Interrupt and kill the pipeline in every stage: some minutes
	pytest -m slow --numprocesses 0 tests/test_faults.py

.PHONY: test-seeds
test-seeds: $(SETUP) ## Try make seeds and DVC's queue on a tiny pipeline: some minutes
	pytest -m slow --numprocesses 0 tests/test_seeds.py tests/test_queue.py

.PHONY: test-farm
test-farm: $(FARM) ## Try experiments on several machines, with kills, forgeries and S3: half an hour
	pytest -m slow --numprocesses 0 tests/test_farm.py

.PHONY: test-readme
test-readme: $(SETUP) ## Run every command of the README and docs/ in new clones: some ten minutes
	pytest -m slow --numprocesses 0 -o faulthandler_timeout=3600 tests/test_readme.py

FUZZED := $(addprefix tests/test_,idx.py tensors.py params.py files.py)
.PHONY: test-fuzz
test-fuzz: $(SETUP) ## Try the readers and writers on 5,000 examples a test: some minutes
	pytest --hypothesis-profile=thorough $(FUZZED)

.PHONY: test-cpus
test-cpus: $(SETUP) ## Compare with emulated CPUs (needs qemu-user) and another libm: some minutes
	pytest -m slow --numprocesses 0 tests/test_other_cpus.py tests/test_libm.py

.PHONY: verify
verify: $(SETUP) ## Rebuild HEAD (REV=: another, an experiment) in an empty clone, compare with dvc.lock
	python -m tools.verify --rev $(or $(REV),HEAD) $(TARGET)

.PHONY: bench
bench: $(SETUP) ## Measure speed and memory against a plain loop and the machine: a quarter of an hour
	python -m tools.bench

.PHONY: pictures
pictures: $(SETUP) ## Measure 300 pictures of each kind that people bring, write metrics/own_pictures.json
	python -m tools.pictures

.PHONY: seeds
seeds: $(if $(SCHEDULER),$(FARM),$(SETUP)) ## Train from five seeds (SCHEDULER=: on a farm), write metrics/seeds.json
	python -m tools.seeds $(SCHEDULER:%=--scheduler %)

.PHONY: farm
farm: $(FARM) ## Run DVC's queue on the workers of a Dask scheduler: SCHEDULER=tcp://HOST:8786
	python -m tools.farm $(SCHEDULER)

.PHONY: experiments
experiments: $(SETUP) ## List HEAD's experiments: what was changed, val metrics (COMMITS=2: HEAD~1's too)
	@python -m tools.experiments --num $(or $(COMMITS),1) || $(UNREAD)

.PHONY: plots
plots: $(SETUP) ## Write DVC's page of plots with its charts shown offline too (REVS=HEAD~1 compares)
	python -m tools.plots $(REVS)

.PHONY: lint
lint: $(SETUP) ## Check style and format
	ruff check .
	ruff format --check .

.PHONY: format
format: $(SETUP) ## Put the code into its format
	ruff check --fix .
	ruff format .

.PHONY: demo
demo: $(SETUP) ## Try the whole pipeline on synthetic images, without a network
	python -m tools.demo

# In a virtual environment of its own: what resolves is not what is resolved.
.PHONY: lock
lock: ## Resolve requirements.in into requirements.txt, requirements-farm.in into its own
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; "$$folder/bin/pip" install --quiet pip-tools; \
	for name in requirements requirements-farm; do \
		"$$folder/bin/pip-compile" --quiet --strip-extras --allow-unsafe --no-header \
			--no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
			--output-file=$$name.txt $$name.in; \
		sed -i 's/^\(torch==[^+]*\)+[^ ]*/\1/' $$name.txt; \
	done # sed: a local version stands on one machine

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14 || $(UNREAD)
