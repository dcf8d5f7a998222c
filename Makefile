# The two commands a newcomer needs: `make demo` and `make test`. All else is for who works on the code.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DURATION ?= 60
SEED     ?= 1

# Only pinned files are installed, and no sdist is built, whose build might fetch packages that are not pinned.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
PINNED  := --require-hashes --only-binary :all:

.PHONY: demo page test test-integrations test-torch faults fuzz up down lint fmt bench bench-quick peers soak sbom clean constraints install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trialstream needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(PINNED) -r constraints.txt
	$(INSTALL) --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

demo: install page
	$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

# The page of the dashboard, for the editable install: built when a source has changed.
DASHBOARD := console/trialstream_console/dashboard
SOURCES   := $(shell find $(DASHBOARD)/page -type f -not -path '*/node_modules/*')

page: $(DASHBOARD)/static/index.html

$(DASHBOARD)/static/index.html: $(VENV)/.installed $(SOURCES)
	$(BIN)/python hatch_build.py
	touch $@

# The browser of the tests.
tests/browser/node_modules/.package-lock.json: $(VENV)/.installed tests/browser/package-lock.json
	$(BIN)/python hatch_build.py packages tests/browser unpack.mjs
	touch $@

WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

# Two workers, each with servers of its own: most tests wait for these. tests/distribution.py distributes the files.
test: lint page tests/browser/node_modules/.package-lock.json
	$(BIN)/python -m pytest $(WORKERS)

# The integrations with the real frameworks, as far as their wheels are small; `make test` skips what is not installed.
test-integrations: $(VENV)/.integrations
	$(BIN)/python -m pytest tests/integrations

$(VENV)/.integrations: $(VENV)/.installed constraints-integrations.txt
	$(INSTALL) $(PINNED) --no-binary antlr4-python3-runtime --no-build-isolation -r constraints-integrations.txt
	touch $@

# The integrations that need torch, in an environment of their own: 6 GB, since PyPI's torch for Linux requires CUDA.
test-torch:
	$(MAKE) VENV=.venv-torch .venv-torch/.torch
	.venv-torch/bin/python -m pytest tests/integrations

$(VENV)/.torch: $(VENV)/.installed constraints-torch.txt
	$(INSTALL) $(PINNED) -r constraints-torch.txt
	touch $@

faults: install
	$(BIN)/python -m pytest tests/faults -m "" $(WORKERS)
	$(BIN)/python -m pytest tests --ignore tests/faults -m slow $(WORKERS)
	$(BIN)/python -m pytest tests/property tests/integration/test_query_on_mongodb.py \
		tests/integration/test_memory_queries.py --hypothesis-profile whole $(WORKERS)

lint: install page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python tests/lint/docstrings.py
	$(BIN)/python hatch_build.py check

fmt: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

up: install page
	$(BIN)/trialstream up --data .trialstream

down: install
	$(BIN)/trialstream down --data .trialstream

# Beside other trackers and clients where `make peers` has installed them, and beside the figures of the commit BEFORE;
# SAVE=1 writes docs/performance.md.
bench: install page tests/browser/node_modules/.package-lock.json
	PYTHONPATH=. $(BIN)/python -m benchmarks $(if $(SAVE),--save) $(if $(BEFORE),--before $(BEFORE))

bench-quick: install page tests/browser/node_modules/.package-lock.json
	PYTHONPATH=. $(BIN)/python -m benchmarks --quick

# What the benchmarks compare with; without it they say that it is missing.
peers: $(VENV)/.peers

$(VENV)/.peers: $(VENV)/.installed constraints-peers.txt
	$(INSTALL) $(PINNED) -r constraints-peers.txt
	touch $@

# Random faults under load for DURATION seconds; the same SEED draws the same ones.
soak: install
	PYTHONPATH=tests/faults:tests/integration:tests/property:tests $(BIN)/python tests/faults/soak.py --duration $(DURATION) --seed $(SEED)

# Random bytes for everything that reads bytes from outside, for DURATION seconds in all; findings are kept as seeds.
fuzz: install
	$(BIN)/python tests/fuzz/run_fuzz.py --duration $(DURATION) --seed $(SEED)

# The packages that the wheel requires, as CycloneDX.
sbom: install
	$(BIN)/python release/sbom.py dist/trialstream.cdx.json

# For every platform and every Python from 3.11 on; each file has what is installed with one command.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-annotate --custom-compile-command 'make constraints'

constraints:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --only-binary :all: pyproject.toml --extra local --extra capture --extra dashboard --group dev -o constraints.txt
	$(COMPILE) --only-binary :all: -c constraints.txt pyproject.toml --group build -o constraints-image.txt
	$(COMPILE) --only-binary :all: -c constraints.txt --group peers -o constraints-peers.txt
	$(COMPILE) -c constraints.txt --group integrations -o constraints-integrations.txt
	$(COMPILE) --only-binary :all: -c constraints.txt --group torch -o constraints-torch.txt

clean:
	rm -rf $(VENV) .venv-torch .demo .trialstream .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	rm -rf $(DASHBOARD)/static $(DASHBOARD)/page/node_modules tests/browser/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
