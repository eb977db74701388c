# `make help` lists the targets. Each sets up .venv first; that is skipped when nothing changed.
.DEFAULT_GOAL := all
SHELL := bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A hook of git's may name another repository; Python's variables, other packages than .venv's.
OF_ANOTHER_REPOSITORY := $(shell env -i PATH="$(PATH)" git rev-parse --local-env-vars 2>/dev/null)
unexport $(OF_ANOTHER_REPOSITORY) $(filter PYTHON%,$(.VARIABLES))
UNREAD := [ $$? = 141 ] # no error: `| head -1` has read enough
# A .venv doesn't outlive a move of its folder, nor its Python's removal or upgrade. It is made anew
# if make has made it. Another's, as uv's is, or a dead one behind a link is used as it is or refused.
MADE := .venv/.made-by-make
VENV := $(shell if [ -z "$$(ls -A .venv/ 2>/dev/null)" ]; then echo new; \
	elif [ ! -e $(MADE) ] && [ ! -e .venv/.ready ]; then echo others; \
	elif [ ! -e .venv/pyvenv.cfg ]; then echo new; \
	elif grep -qsF -e " $(CURDIR)/.venv" -e " $$(readlink -f .venv)" .venv/pyvenv.cfg \
	&& .venv/bin/python -c 'import pip' 2>/dev/null; then echo ready; \
	elif [ -L .venv ] || ! grep -qs '^command = .* -m venv ' .venv/pyvenv.cfg; then echo others; \
	else echo dead; fi)
SETUP := $(if $(filter others,$(VENV)),complete,.venv/.ready)
FARM := $(if $(filter others,$(VENV)),complete-for-farm,.venv/.ready-for-farm)
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
	@[ -z "$$(find .dvc/tmp/rwlock .dvc/tmp/exps/rwlock -empty 2>/dev/null)" ] || python -m tools.common.rwlock
	dvc repro

.PHONY: setup
setup: $(SETUP) ## Set up .venv with the packages of requirements.txt

.venv/.ready: requirements.txt $(filter dead,$(VENV))
	@$(PYTHON) -c "$$ASK_PYTHON"
	@mkdir -p .venv && touch $(MADE)
	$(if $(filter dead,$(VENV)),find .venv -mindepth 1 ! -path $(MADE) -delete)
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/.ready-for-farm: requirements-farm.txt .venv/.ready
	python -m pip install --quiet --requirement requirements-farm.txt
	touch $@

.PHONY: dead complete complete-for-farm
dead:
complete: requirements.txt
complete-for-farm: requirements.txt requirements-farm.txt
complete complete-for-farm:
	@reason=$$(.venv/bin/python -m tools.common.installed $^ 2>&1) || { \
	echo "error: .venv isn't make's own, so nothing in it is changed, and $${reason##*$$'\n'};" \
		"complete it (uv pip install -r requirements.txt, or pip's), or move it away" >&2; exit 1; }

# Asked before minutes go into .venv. Whatever its age, Python can read this.
define ASK_PYTHON
import sys
lacks = [] if sys.version_info >= (3, 11) else ["version 3.11 (it is %d.%d)" % sys.version_info[:2]]
for name in "bz2 ctypes ensurepip lzma sqlite3 ssl zlib".split():
    try:
        __import__(name)
    except ImportError:
        lacks.append(name)
if lacks:
    sys.exit("error: %s lacks %s: install that, or name another Python, as in " % (
        sys.executable, ", ".join(lacks)) + "make PYTHON=python3.12")
endef
export ASK_PYTHON

.PHONY: test
test: $(SETUP) ## Run the tests, under five minutes; needs neither the data set nor a network
	pytest

.PHONY: test-faults
test-faults: $(SETUP) ## Interrupt and kill the pipeline in every stage: some minutes
	pytest -m slow --numprocesses 0 $(addprefix tests/test_,faults.py inputs.py commands.py)

.PHONY: test-seeds
test-seeds: $(SETUP) ## Try make seeds and DVC's queue on a tiny pipeline: some minutes
	pytest -m slow --numprocesses 0 tests/test_seeds.py tests/test_queue.py

.PHONY: test-farm
test-farm: $(FARM) ## Try experiments on several machines, with kills, forgeries and S3: half an hour
	pytest -m slow --numprocesses 0 tests/test_run_experiment.py tests/test_farm.py

.PHONY: test-readme
test-readme: $(SETUP) ## Run every command of the README and docs/ in new clones: some ten minutes
	pytest -m slow --numprocesses 0 -o faulthandler_timeout=3600 tests/test_readme.py tests/test_another_data_set.py

FUZZED := $(addprefix tests/test_,idx.py tensors.py params.py files.py)
.PHONY: test-fuzz
test-fuzz: $(SETUP) ## Try the readers and writers on 5,000 examples a test: some minutes
	pytest --hypothesis-profile=thorough $(FUZZED)

.PHONY: test-cpus
test-cpus: $(SETUP) ## Compare with faked CPUs (cc), emulated ones (qemu-user), another libm: minutes
	pytest -m slow --numprocesses 0 $(addprefix tests/test_,fake_cpus.py other_cpus.py libm.py machine.py)

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
