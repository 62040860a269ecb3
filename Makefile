# The commands of the course. They need Python 3.11 to 3.14, pip and make (3.81 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Seconds that a cell of a lesson may take in the tests. By default they follow from how fast this
# machine trains (tools/timings.py).
CELL_TIMEOUT ?=
# Tests run in so many processes, with one thread each: small networks are trained faster side by
# side than one after the other with all threads.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS)
# Where there is a browser, lesson 01 has been run in it by then.
RUN_IN_BROWSER = $(if $(shell command -v chromium),--ignore-glob='*/01_*.ipynb')
# A machine without a network still gets the course; nothing then waits for the download again.
GET_DATA = $(BIN)/python -m imbalkit data $(DATA_SOURCE) || { \
	export IMBALKIT_OFFLINE=1; echo "The lessons will use the embedded set instead: digits on photographs, no download."; }
# `make learn OFFLINE=FOLDER` takes packages and data from an offline bundle, and needs no network.
OFFLINE ?=
ifneq ($(strip $(OFFLINE)),)
PACKAGE_SOURCE = --no-index --find-links "$(OFFLINE)/wheels"
DATA_SOURCE = --from "$(OFFLINE)/data"
CHECK_BUNDLE = $(PYTHON) data_scripts/check_offline_bundle.py "$(OFFLINE)"
endif
# `make notebooks NOTEBOOKS=notebooks/01_*.ipynb` executes only those named.
NOTEBOOKS ?=

# `make chaos SEED=7 SECONDS=60` makes other attempts, and fewer.
SEED ?= 0
SECONDS ?= 600

.PHONY: help learn course check test notebooks solutions seeds benchmark faults chaos site data lint clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

learn: .venv/learn.stamp ## set up, get the data, open the first lesson in JupyterLab
	@$(GET_DATA); $(BIN)/jupyter lab notebooks/00_start_here.ipynb

course: .venv/learn.stamp ## the same without a screen: execute every lesson into build/course
	@$(GET_DATA); $(BIN)/python tools/run_notebooks.py --output build/course

# It installs nothing, so that it can also say what an installation would lack.
check: ## what this computer lacks for the lessons; exit code 1 if they cannot run
	@if [ -x $(BIN)/python ]; then python=$(BIN)/python; else python=$(PYTHON); fi; \
	$$python tools/check_setup.py

# The notebooks are tested as they are committed, with a cell behind each blank of an exercise that
# asserts its solution. They run beside the other slow tests, so that no process waits for another.
test: lint ## all tests: ruff, the quick tests, then those that train and every notebook (nbval)
	$(PYTEST) --dist worksteal -m "not notebooks"
	$(BIN)/python tools/solutions.py --test --output build/tested
	@$(GET_DATA); limit=$(or $(CELL_TIMEOUT),$$(OMP_NUM_THREADS=1 $(BIN)/python tools/timings.py)) && \
	$(PYTEST) --dist loadscope --no-loadscope-reorder -m notebooks --nbval-lax --nbval-current-env \
		--nbval-cell-timeout=$$limit $(RUN_IN_BROWSER) tests build/tested

notebooks: .venv/learn.stamp ## execute the lessons in place, note their timings in the README
	$(BIN)/python tools/run_notebooks.py --in-place --timings notebooks/timings.json $(NOTEBOOKS)
	$(BIN)/python tools/write_tables.py

solutions: .venv/learn.stamp ## copies of the lessons with their exercises solved, for teachers
	$(BIN)/python tools/solutions.py --output build/solutions

seeds: .venv/learn.stamp ## three seeds of each comparison; the claims must hold for all
	$(BIN)/python tools/run_notebooks.py --seeds notebooks/seeds.json $(NOTEBOOKS)

benchmark: .venv/learn.stamp ## images per second of the training loop, as a table and as JSON
	$(BIN)/python benchmarks/run.py

faults: .venv/learn.stamp ## broken and healthy trainings, and what diagnose says of them
	$(BIN)/python -m benchmarks.faults --write

chaos: .venv/test.stamp ## attack the package at random for ten minutes, and say what was lost
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.chaos --seed $(SEED) --seconds $(SECONDS)

# Always anew: a page of figures follows files that Sphinx does not watch.
site: .venv/site.stamp ## build the course as a static site from the committed outputs, into build/site
	rm -rf build/site docs/api/modules
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going \
		--conf-dir docs --doctree-dir build/site-doctrees . build/site
	@echo "Open build/site/index.html in a browser."

data: .venv/learn.stamp ## download CIFAR-10 (170 MB) into your cache folder
	$(BIN)/python -m imbalkit data

lint: .venv/test.stamp ## check the style of the code and of the notebooks, and the types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

clean: ## remove what these commands made here: .venv, build, caches (the data stays)
	rm -rf .venv build docs/api/modules .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamps say that the environment is as pyproject.toml and constraints.txt ask, so that a second
# run installs nothing.
.venv/learn.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 14) and ( \
		'imbalkit needs Python 3.11 to 3.14, and $(PYTHON) is %d.%d: ' \
		'name another one, as in make PYTHON=python3.12 learn' % v[:2]) or 0)"
	@$(CHECK_BUNDLE)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PACKAGE_SOURCE) -c constraints.txt -e ".[learn]"
	@touch $@

.venv/site.stamp: .venv/learn.stamp
	$(BIN)/python -m pip install -c constraints.txt -e ".[site]"
	@touch $@

.venv/test.stamp: .venv/learn.stamp
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@
