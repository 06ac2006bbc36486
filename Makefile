# Every verb sets up what it needs by itself and is safe to repeat. `make help` explains them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLUSTER_TOOL := $(PYTHON) deploy/local/cluster.py

.PHONY: help setup demo test soak test-fast lint format verify generate cluster cluster-down images bench lock timelines

help: ## Explain every verb
	@echo 'modelrollout: rolls out machine-learning models on Triton and takes bad ones back'
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' \
	  | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo
	@echo 'A local Kubernetes is made for demo, test and bench; your own kubeconfig is not touched.'
	@echo 'CLUSTER=existing KUBECONFIG=... make demo uses your cluster instead (docs/local-cluster.md).'

$(STAMP): requirements-dev.lock pyproject.toml
	@deploy/setup.sh '$(PYTHON)' '$(VENV)'
	@touch $@

setup: $(STAMP) ## Make .venv with all locked dependencies and the package itself

demo: $(STAMP) ## The whole story on real parts: v1 serves, v2 is promoted, v3 takes itself back (first command)
	@$(BIN)/python deploy/demo/demo.py $(DEMO_ARGS)

test: $(STAMP) ## All tests: unit, simulation, component, cluster (second command); takes down what it brought up
	@$(BIN)/python tests/run.py $(TEST_ARGS)

soak: $(STAMP) ## The simulation with new seeds for SOAK_MINUTES (30); tells each failure as a test to paste
	@$(BIN)/python -m tests.simulation.soak $(SOAK_ARGS)

test-fast: $(STAMP) ## Unit and simulation tests only
	@$(BIN)/python -m pytest tests/unit tests/simulation $(TEST_ARGS)

lint: $(STAMP) ## ruff, mypy strict, the layers of the architecture
	@deploy/part.sh 'ruff: rules' $(BIN)/ruff check .
	@deploy/part.sh 'ruff: format' $(BIN)/ruff format --check .
	@deploy/part.sh 'mypy, strict' $(BIN)/mypy
	@deploy/part.sh 'import-linter: the layers' $(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .

generate: $(STAMP) ## Make everything generated anew: CRDs, the chart's copy of them, reference documents
	@$(BIN)/modelrollout crds write crds --docs docs
	@$(BIN)/python charts/generate.py

verify: $(STAMP) ## Everything generated is up to date, and nothing shadows the standard library
	@deploy/part.sh 'CRDs and reference documents' $(BIN)/modelrollout crds check crds --docs docs
	@deploy/part.sh "the chart's copies and schema" $(BIN)/python charts/generate.py --check
	@deploy/part.sh 'the tree' $(BIN)/python deploy/check_tree.py

cluster: ## Bring up the local cluster (real Kubernetes, Envoy Gateway, Prometheus, S3); writes .local/kubeconfig
	@$(CLUSTER_TOOL) up

cluster-down: ## Take the local cluster down and leave nothing behind
	@$(CLUSTER_TOOL) down

images: ## Build the images of the operator and of Triton, and give them to the local cluster
	@$(CLUSTER_TOOL) images

bench: $(STAMP) ## The numbers: a table, and .local/bench/<name>.json each
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

timelines: $(STAMP) ## Draw docs/strategies/*.png anew from what the last cluster tests recorded (.local/timelines)
	@$(BIN)/python deploy/demo/timelines.py

lock: $(STAMP) ## Resolve the dependencies anew into the hashed lock files
	@$(BIN)/uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-header --upgrade -q \
	  --python-version 3.11 -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --no-emit-index-url --no-header --upgrade -q \
	  --python-version 3.11 -o requirements-dev.lock
