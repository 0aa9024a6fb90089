# Two commands do everything: `make dashboard` and `make test`. Each makes .venv and installs what it needs.
#   make dashboard TORCH_INDEX=URL   takes torch from another index, such as the CPU-only one that torch's own
#                                    installation page names; a build that pip finds on disk is taken as it is
#   make dashboard PORT=8600         another port
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
TORCH_INDEX ?=
BIN = $(VENV)/bin

.PHONY: dashboard test test-slow lint screenshots clean

dashboard: $(VENV)/.run-time
	$(BIN)/streamlit run dashboard/app.py --server.port $(PORT)

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

screenshots: $(VENV)/.dev
	$(BIN)/python tests/screenshots.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-time: requirements.txt pyproject.toml | $(VENV)/bin/python
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) "$$(grep '^torch' requirements.txt)"
endif
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run-time requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
