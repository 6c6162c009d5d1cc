# Every target installs what it needs in .venv first. TORCH selects other builds of torch, e.g.
#   make demo TORCH="torch==2.13.0 torchvision==0.28.0"
# and other indexes with pip's own variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL).
PYTHON ?= python3
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?=

export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-deps test-fast check bench docs clean setup

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("paretoseg needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifneq ($(strip $(TORCH)),)
	$(BIN)/python -m pip install --quiet $(TORCH)
endif
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Calibrate this machine, search, export and measure the front, write a report. A second run resumes the study.
ifeq ($(strip $(DATA)),)
DEMO := configs/demo.yaml
else
DEMO := configs/demo-camvid.yaml
demo: export CAMVID := $(abspath $(DATA))
endif
demo: $(STAMP)
	$(BIN)/paretoseg calibrate --device local-cpu --if-missing --minutes 0.8 $(DEMO)
	$(BIN)/paretoseg launch $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What tests use beside `.[dev]`: MLflow and W&B; an sshd, PostgreSQL, Slurm, Chromium, tmux, a C++ compiler (Debian and Ubuntu; root or sudo).
# Without, they are skipped.
test-deps: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[mlflow,wandb]'
	@missing=; \
	test -x /usr/sbin/sshd || missing="$$missing openssh-server"; \
	command -v ssh >/dev/null || missing="$$missing openssh-client"; \
	command -v g++ >/dev/null || missing="$$missing g++"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v tmux >/dev/null || missing="$$missing tmux"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	test -x /usr/sbin/slurmctld || missing="$$missing slurmctld slurmd slurm-client slurm-wlm-torque munge"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" -eq 0 ]; then sudo=; \
	elif command -v sudo >/dev/null; then sudo=sudo; \
	else echo "make test-deps: run it as root, or install:$$missing"; exit 1; fi; \
	$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

# The reference of all public names, from their docstrings: build/docs/index.html.
docs: $(STAMP)
	$(BIN)/python docs/build_reference.py build/docs

clean:
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
