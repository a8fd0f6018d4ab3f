# make report   measure the lecture's table on this machine and write results/report/index.html
# make test     run the tests
# Each sets up its own .venv, with the versions of constraints.txt.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: report test
.DELETE_ON_ERROR:

report: .venv/installed
	$(BIN)/suite run
	$(BIN)/suite report

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadgroup

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[test]'
	touch $@
