# Two commands set everything up: `make train` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .peers
SUITES := .suites
ARGS ?=
SUITE_EXTRAS := dev,brax,envpool,gymnax,jumanji,playground

.PHONY: train test test-slow test-suites lint format bench clean

train: $(VENV)/.train
	$(BIN)/rlgd train ppo --env CartPole-v1 $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

# Suites of environments that are extras bring other versions of what rlgd needs: they get a place of their own.
test-suites: $(SUITES)/.ready
	$(SUITES)/bin/python -m pytest tests/test_suites.py tests/test_host.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev $(PEERS)/.ready
	$(BIN)/python benchmarks/speed.py --peers $(PEERS)/bin/python $(ARGS)

clean:
	rm -rf $(VENV) $(PEERS) $(SUITES)

# uv where it is there, else venv and pip; the versions are those that were tested.
INSTALL = if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(1)/bin/python $(2); \
	else $(1)/bin/python -m pip install -q --disable-pip-version-check $(2); fi

define VENV_RULE
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "rlgd needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(1) >/dev/null 2>&1 || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
endef

$(VENV)/bin/python:
	$(call VENV_RULE,$(VENV))

$(PEERS)/bin/python:
	$(call VENV_RULE,$(PEERS))

$(SUITES)/bin/python:
	$(call VENV_RULE,$(SUITES))

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (once; about a minute)"
	@$(call INSTALL,$(VENV),-c constraints.txt -e .)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing with the test tools into $(VENV) (once; about two minutes)"
	@$(call INSTALL,$(VENV),-c constraints.txt -e .[dev])
	@touch $@

$(SUITES)/.ready: pyproject.toml | $(SUITES)/bin/python
	@echo "installing with the suites of environments into $(SUITES) (once; some minutes)"
	@$(call INSTALL,$(SUITES),-e .[$(SUITE_EXTRAS)])
	@touch $@

$(PEERS)/.ready: benchmarks/peers.txt | $(PEERS)/bin/python
	@echo "installing the peers into $(PEERS) (once)"
	@$(call INSTALL,$(PEERS),-r benchmarks/peers.txt)
	@touch $@
