# The course from the command line. `make` alone lists what there is.
#
#   PYTHON=python3.12    the Python to build .venv with (3.11 or newer)
#   BROWSER=no           make learn: print the address, open nothing
#   PORT=8888            make learn: where to listen
#   CHAPTER=10_d3pm      make run, make notebooks: which chapter
#   SOLVED=yes           make learn: open the solved notebooks in nbs/, to change the course
#   FORCE=03_forward     make learn: set your notebook of a chapter aside and start it anew

PYTHON ?= python3
BROWSER ?= yes
PORT ?= 8888
CHAPTER ?=
SOLVED ?= no
FORCE ?=

VENV := .venv/bin/python
ASKED := $(if $(filter command environment,$(firstword $(origin PYTHON))),--asked)

.PHONY: help setup learn test run notebooks export site

help:
	@echo "make learn                  install once, make your notebooks in work/, open them (BROWSER=no, PORT=8888, SOLVED=yes)"
	@echo "make test                   install once, run every notebook and every test"
	@echo "make run CHAPTER=10_d3pm    execute one chapter into runs/10_d3pm/, pictures beside it"
	@echo "make export                 after an edit: clean the notebooks, write the library and README.md"
	@echo "make site                   the pages, into _docs/ (with Quarto where it is installed)"
	@echo "make notebooks              execute notebooks in place, outputs saved, then export (CHAPTER=... for one)"

setup:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "Set-up: there is no $(PYTHON) here: install Python 3.11 or newer, or name yours, as in: make learn PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" scripts/setup_env.py $(ASKED)

learn: setup
	@exec $(VENV) scripts/learn.py --browser "$(BROWSER)" --port "$(PORT)" --solved "$(SOLVED)" --force "$(FORCE)"

test: setup
	@exec $(VENV) -m pytest -n auto --maxprocesses 4 --maxschedchunk 1

run: setup
	@exec $(VENV) scripts/run.py "$(CHAPTER)"

export: setup
	@exec $(VENV) scripts/export.py

notebooks: setup
	@$(VENV) scripts/run.py --inplace "$(CHAPTER)"
	@exec $(VENV) scripts/export.py

site: setup
	@exec $(VENV) scripts/build_site.py
