# GNU make 3.81 or later, and Python 3.11 or later; everything else is installed into .venv.
#
# Make's own dependency tracking decides what runs again: the chapters, if one of them, the package or the lock
# file changed (book/execute.py finds out which); the pages, if a chapter or the book's own files changed.

PYTHON  ?= python3
PROFILE ?= fast
PORT    ?= 8000
JOBS    ?= $(shell getconf _NPROCESSORS_ONLN)

VENV := .venv
BIN  := $(VENV)/bin
ENV  := $(VENV)/installed

NOTEBOOKS := $(sort $(wildcard book/*.ipynb))
SLOWEST   := $(filter %/running-at-scale.ipynb %/derivations.ipynb %/how-heavy.ipynb,$(NOTEBOOKS))
EXECUTED  := _build/$(PROFILE)/chapters.txt
RENDERED  := _build/pages/index.html
PAGE      := _build/html/index.html
PDF       := _build/heavy-tails-without-noise.pdf
# The package with its presets, what of them is no Python, and the files that a page shows beside the chapters.
CODE      := $(sort $(shell find htlib experiments -type f ! -path 'htlib/explorer/static/*' ! -name '*.pyc' ! -name '.*' 2>/dev/null))
DATA      := $(filter-out %.py,$(CODE))
MATTER    := $(sort $(shell find book -type f ! -name '*.ipynb' ! -name '*.pyc' ! -name '.*'))
# The experiments that run in the pages: their scripts, what these load, and the files that both are made from.
RUNS      := _build/$(PROFILE)/runs.txt
STORED    := _build/$(PROFILE)/stored-runs.json.gz
ENGINE    := _build/engine.sum
LIVE      := _build/$(PROFILE)/live/meta.json
SCRIPTS   := _build/scripts/page.js
LIVE_CODE := $(sort $(shell find live htlib/explorer/static -name node_modules -prune -o -type f ! -name '*.pyc' ! -name '.*' -print))
MODULES   := live/node_modules/.package-lock.json
WASM      := live/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm
# Stamps that change when a file is added or removed, when what all chapters depend on changes, or when the pages
# must be made from other sources.
CODE_LIST := _build/code.txt
CODE_SUM  := _build/code.sum
PAGE_LIST := _build/page.txt

# Finished runs of the chapters; a run is repeated only if the code that decides its numbers has changed.
export HTLIB_STORE ?= $(CURDIR)/_build/store

# The environment may forbid it, but then each of a hundred processes compiles torch and SciPy anew.
export PYTHONDONTWRITEBYTECODE :=

# What make starts runs side by side, so each process computes with one thread.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# Side by side, unless the caller has chosen: make -j4 book.
PARALLEL = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,--jobs=$(JOBS))

STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill metadata.language_info cell.metadata.papermill"

define STYLE
$(BIN)/ruff check .
$(BIN)/ruff format --check .
$(BIN)/lint-imports --no-logo --no-cache
endef

# Many tests wait for a browser or a killed process, so there are more workers than cores; two more, since each
# spends ten seconds on imports.  The files keep the order of tests/conftest.py, in which the long ones begin first.
BALANCED := --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help env lock book pages pdf runs quick browser test suite page-suite lint style types format strip note bench serve clean distclean quick-suite pyright FORCE

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo "Settings: PROFILE=fast or paper, JOBS=2, SCHEDULER=tcp://..., PYTHON=python3, PORT=8000, HTLIB_REPOSITORY=https://..."

env: $(ENV) ## Make .venv with everything in it

# No bytecode is compiled here: that takes half a minute, and most of the files are never imported.  The pip that
# comes with Python 3.11 would take twice as long; if there is no newer one, it will do.
$(VENV)/requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or later is needed, and '$(PYTHON)' is not. Name another: make env PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "installing the packages of requirements.txt in $(VENV): a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.txt
	@touch $@

$(ENV): $(VENV)/requirements pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Keeps the versions already in requirements.txt; LOCKFLAGS=--upgrade takes the newest. The CUDA
# libraries are left out, because torch itself names their exact versions, and its CPU builds need none.
lock: $(ENV) ## Write requirements.txt anew from pyproject.toml
	@mkdir -p _build; cp requirements.txt _build/lock.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header \
	  --all-extras $(LOCKFLAGS) pyproject.toml --output-file _build/lock.txt
	@{ echo "# Every package the library, the book and the tests use, at the version they are checked with."; \
	   echo "# Written by 'make lock' from pyproject.toml."; \
	   grep -v -E '^(#|cuda-|nvidia-|triton=)' _build/lock.txt; } > _build/requirements.txt
	@mv _build/requirements.txt requirements.txt

book: $(ENV) ## Compute the runs, execute the chapters and make the HTML pages
	@began=$$(date +%s); $(MAKE) --no-print-directory $(RUNS) && $(PARALLEL) pages && \
	  echo "The book is in $(CURDIR)/$(PAGE): open that file, or run 'make serve'. It took $$(($$(date +%s) - began)) s."

pages: $(PAGE)

$(CODE_LIST): FORCE
	@mkdir -p _build; echo "$(CODE)" | cmp -s - $@ || echo "$(CODE)" > $@

$(PAGE_LIST): FORCE
	@mkdir -p _build; echo "$(PROFILE) $(NOTEBOOKS) $(MATTER) $(HTLIB_REPOSITORY)" | cmp -s - $@ || \
	  echo "$(PROFILE) $(NOTEBOOKS) $(MATTER) $(HTLIB_REPOSITORY)" > $@

# The second of two targets is touched only if it has become another file: what depends on it stays otherwise.
define IF_CHANGED
@cmp -s $(1).new $(1) && rm $(1).new || mv $(1).new $(1)
@touch $@
endef

$(CODE_SUM).stamp: book/execute.py book/sources.py $(wildcard book/*.yml) requirements.txt $(DATA) $(CODE_LIST)
	@cat $^ | cksum > $(CODE_SUM).new
	$(call IF_CHANGED,$(CODE_SUM))

$(CODE_SUM): $(CODE_SUM).stamp ;

# `make book` computes the runs of all presets first; without them, a chapter computes those that it reads.
EXECUTE = $(ONE_THREAD) $(BIN)/python book/execute.py --into _build/$(PROFILE) -p profile $(PROFILE) --code $(CODE_SUM)

# What takes longest begins first.  Of the package a chapter depends on what it reaches: book/sources.py.
$(EXECUTED): $(NOTEBOOKS) $(CODE_SUM) $(CODE) | $(ENV)
	@$(EXECUTE) --jobs $(JOBS) $(SLOWEST) $(filter-out $(SLOWEST),$(NOTEBOOKS))
	@touch $@

_build/$(PROFILE)/%.ipynb: book/%.ipynb $(CODE_SUM) $(CODE) | $(ENV)
	@$(EXECUTE) $<

runs: $(RUNS) ## Compute the runs of all presets that are missing

# The store knows which runs are missing, so it costs little to ask again.
$(RUNS): requirements.txt $(CODE) $(CODE_LIST) | $(ENV)
	@mkdir -p $(@D)
	@$(BIN)/python -m htlib.commands.main sweep --all --profile $(PROFILE) $(if $(SCHEDULER),--scheduler $(SCHEDULER))
	@touch $@

# Packing again is cheap, because the runs are in the store.
$(STORED).stamp: $(RUNS) | $(ENV)
	@$(ONE_THREAD) $(BIN)/python -m htlib.explorer.page stored-runs $(PROFILE) $(STORED).new
	$(call IF_CHANGED,$(STORED))

$(STORED): $(STORED).stamp ;

$(ENGINE).stamp: $(CODE) $(CODE_LIST) | $(ENV)
	@$(BIN)/python book/sources.py htlib.explorer.page > $(ENGINE).new
	$(call IF_CHANGED,$(ENGINE))

$(ENGINE): $(ENGINE).stamp ;

$(MODULES): live/package.json live/package-lock.json | $(ENV)
	@cd live && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefer-offline --no-audit --no-fund --silent || { \
	  echo "error: npm cannot install what live/package-lock.json names; is there a network? More: cd live && npm ci" >&2; \
	  exit 1; }
	@touch $@

$(SCRIPTS): $(LIVE_CODE) $(MODULES)
	@rm -rf $(@D) $(@D).new
	@cd live && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent build -- "$(CURDIR)/$(@D).new"
	@cp htlib/explorer/static/explorer.css htlib/explorer/static/layers/layers.css $(@D).new
	@mv $(@D).new $(@D); touch $@

# The target, meta.json, is written last, so that a build that was killed does not count as complete.  Only the
# last step of the book waits for it: until then it takes what chapters and pages leave of the cores.
$(LIVE): $(STORED) $(ENGINE) $(MODULES) requirements.txt | $(ENV)
	@rm -rf $(@D); mkdir -p $(@D)
	@cp $(STORED) $(WASM) $(@D)
	@$(ONE_THREAD) nice $(BIN)/python -m htlib.explorer.page engine $(STORED) $(@D)
	@echo "live: the engine of the explorer is in $(@D)"

$(RENDERED): $(EXECUTED) $(SCRIPTS) $(MATTER) _config.yml _toc.yml requirements.txt $(PAGE_LIST) | $(ENV)
	@$(BIN)/python book/render.py _build/$(PROFILE) $(@D) --live $(dir $(SCRIPTS)) --repository "$(HTLIB_REPOSITORY)"
	@touch $@

$(PAGE): $(RENDERED) $(LIVE)
	@rm -rf $(@D).new; cp -R $(<D) $(@D).new; cp $(dir $(LIVE))* $(@D).new/_static/live
	@rm -rf $(@D); mv $(@D).new $(@D); touch $@

pdf: $(PDF) ## Print the book of this PROFILE as one PDF (needs Chromium)

$(PDF): $(PAGE)
	@$(BIN)/python -m book.pdf _build/html $@

# A check after a change of a formula; it needs no book, no browser, no npm and no second process.
quick: $(ENV) ## Run the linters and the quick tests, in parallel
	$(STYLE)
	@$(PARALLEL) quick-suite pyright

quick-suite: $(ENV)
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(JOBS) -m "not (book or browser or process or long)"

pyright: $(ENV)
	$(BIN)/pyright

browser: $(ENV) ## Get a Chromium for the tests, if this machine has none
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.browser.chromium

# The types take a minute of one core, and the suite leaves one free now and then.
test: style book browser ## Run the linters and the whole suite, on the book of this PROFILE
	@$(PARALLEL) suite types page-suite

suite:
	$(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $$(($(JOBS) + 2)) $(BALANCED) $(if $(filter fast,$(PROFILE)),-m "not long")

page-suite: $(MODULES)
	cd live && PATH="$(CURDIR)/$(BIN):$$PATH" npx vitest run --reporter=dot

lint: style types ## Run only the linters

style: $(ENV)
	$(STYLE)
	$(BIN)/codespell
	$(if $(NOTEBOOKS),$(STRIP) --verify $(NOTEBOOKS))

types: pyright $(MODULES)
	cd live && PATH="$(CURDIR)/$(BIN):$$PATH" npx tsc

format: $(ENV) ## Format the code and strip the notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(NOTEBOOKS),$(STRIP) $(NOTEBOOKS))

note: book ## Print the book's note as a PDF
	@$(BIN)/python book/print_note.py _build/html/book/note.html _build/note.pdf

bench: $(ENV) ## Measure against the calls that cannot be avoided
	$(BIN)/python -m benchmarks

serve: ## Serve the book on this machine
	@test -f $(PAGE) || { echo "error: there is no book yet: run 'make book' first" >&2; exit 1; }
	@echo "The book is at http://localhost:$(PORT)/  (Ctrl-C stops)"
	@$(PYTHON) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean: ## Remove what was built, keep .venv
	rm -rf _build live/node_modules build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find htlib tests book benchmarks experiments -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## Remove .venv too
	rm -rf $(VENV)
