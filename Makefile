# make demo   analyse the sample images and say where the report is
# make test   everything that must pass: lint, types, import direction, tests, README commands, notebooks
# Needs Python 3.11 or newer and make; everything else goes into .venv at the pinned versions.

PYTHON ?= python3
BIN := .venv/bin
DEMO := demo_results

.PHONY: demo test setup lint types direction tests samples clean

demo: .venv/installed
	$(BIN)/chromamol infer data_samples --output $(DEMO) --overwrite
	@echo "Open the report in a browser: $(CURDIR)/$(DEMO)/report.html"

test: lint types direction tests

setup: .venv/installed

# Bytecode is written for what is imported: compiling all that is installed takes half of the time.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,formats]'
	@touch $@

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

direction: .venv/installed
	$(BIN)/lint-imports

# Two processes with one thread each: fields this small gain nothing from more threads.
tests: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

samples: .venv/installed
	$(BIN)/python -m chromamol.samples

clean:
	rm -rf .venv $(DEMO)
