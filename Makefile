# Two commands set everything up: `make train` and `make test`.
PYTHON ?= python3
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# .venv stays with the Python that made it: one of another version, named by PYTHON=, gets .venv-3.13 or the like.
MADE := $(call version,.venv/bin/python)
VERSION := $(or $(if $(filter file,$(origin PYTHON)),$(MADE)),$(call version,$(PYTHON)))
VENV := .venv$(if $(filter-out $(VERSION),$(MADE)),-$(VERSION))
# JAX dropped Python 3.11 in 0.11, and so did what is built on it: other versions were tested there.
CONSTRAINTS := constraints-py$(if $(filter 3.11,$(VERSION)),311,312).txt
BIN := $(VENV)/bin
PEERS := .peers
SUITES := .suites
SERVICES := .services
CONSUMERS := .consumers
# What runs an exported policy in JavaScript, where npm is here to install it.
WEB := $(if $(shell command -v npm 2>/dev/null),.web/.ready)
ARGS ?=
CORE := $(addprefix tests/,test_architecture.py test_public_names.py test_hyperparameters.py test_learning.py \
	maths/test_distributions.py maths/test_returns.py ascent/test_ascent.py agents/test_contract.py \
	envs/device/test_device_env.py training/test_loop.py training/test_chunks.py training/test_rollout.py \
	run/test_run.py run/test_old_runs.py run/checkpoints cli/test_train.py)
# Of a comma `call` would make two arguments.
SUITE_EXTRAS := dev,brax,craftax,envpool,gymnax,jumanji,minatar-original,navix,pgx,playground
SERVICE_EXTRAS := dev,mlflow,comet

.PHONY: train test test-core test-slow test-suites test-services test-consumers docs lint format bench clean

train: $(VENV)/.train
	$(BIN)/rlgd train ppo --env CartPole-v1 $(ARGS)
	@echo "next:        $(BIN)/rlgd train ppo --env CartPole-v1 --momentum 0.5"
	@echo "             $(BIN)/rlgd study momentum"
	@echo "             docs/start.md has the first ten minutes"

test: $(VENV)/.dev $(WEB)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

# The tests that most likely break on another Python and its JAX: make test-core PYTHON=python3.13
test-core: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(CORE) $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

# Suites of environments that are extras need other versions of some packages: they get an environment of their own.
test-suites: $(SUITES)/.ready
	$(SUITES)/bin/python -m pytest tests/envs/suites tests/envs/host tests/agents/test_presets.py \
		tests/reproduction/test_suite.py $(ARGS)

# Services that keep curves: MLflow needs other versions of some packages, and Comet is large.
test-services: $(SERVICES)/.ready
	$(SERVICES)/bin/python -m pytest tests/run/sinks $(ARGS)

# Programs that use an exported policy: in PyTorch, Keras and TensorFlow Lite, in environments of their own.
test-consumers: $(VENV)/.dev $(CONSUMERS)/.ready
	$(BIN)/python -m pytest tests/exporting/test_consumers.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in docs/_build/index.html; a warning is an error.
docs: $(VENV)/.dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo "the site: docs/_build/index.html"

bench: $(VENV)/.dev $(PEERS)/.ready
	$(BIN)/python benchmarks/speed.py --peers $(PEERS)/bin/python $(ARGS)

clean:
	rm -rf .venv .venv-* $(PEERS) $(SUITES) $(SERVICES) $(CONSUMERS) .web docs/_build

# uv if it is installed, else venv and pip; the versions are those that were tested.
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

$(SERVICES)/bin/python:
	$(call VENV_RULE,$(SERVICES))

$(VENV)/.train: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "installing into $(VENV) (once; about a minute)"
	@$(call INSTALL,$(VENV),-c $(CONSTRAINTS) -e .)
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "installing with the test tools into $(VENV) (once; about two minutes)"
	@$(call INSTALL,$(VENV),-c $(CONSTRAINTS) -e .[dev])
	@touch $@

$(SUITES)/.ready: pyproject.toml | $(SUITES)/bin/python
	@echo "installing with the suites of environments into $(SUITES) (once; some minutes)"
	@$(call INSTALL,$(SUITES),-e .[$(SUITE_EXTRAS)])
	@touch $@

$(SERVICES)/.ready: pyproject.toml | $(SERVICES)/bin/python
	@echo "installing with the services that keep curves into $(SERVICES) (once; some minutes)"
	@$(call INSTALL,$(SERVICES),-e .[$(SERVICE_EXTRAS)])
	@touch $@

# An exported policy in PyTorch and in TensorFlow.
$(CONSUMERS)/.ready: examples/without_rlgd/requirements-torch.txt examples/without_rlgd/requirements-tensorflow.txt
	@echo "installing PyTorch and TensorFlow into $(CONSUMERS) (once; some minutes)"
	@for name in torch tensorflow; do $(PYTHON) -m venv $(CONSUMERS)/$$name && \
		$(call INSTALL,$(CONSUMERS)/$$name,-r examples/without_rlgd/requirements-$$name.txt) || exit 1; done
	@touch $@

.web/.ready:
	@npm install --silent --no-save --no-audit --no-fund --prefix .web onnxruntime-web@1.30.0 && touch $@ || \
		echo "onnxruntime-web could not be installed: its tests are left out" >&2

$(PEERS)/.ready: benchmarks/peers.txt | $(PEERS)/bin/python
	@echo "installing the peers into $(PEERS) (once)"
	@$(call INSTALL,$(PEERS),-r benchmarks/peers.txt)
	@touch $@
