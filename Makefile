# Everything runs in .venv, made from constraints.txt: the same versions everywhere, each checked by its hash.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check bench torture gpu-check clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.anogan-installed

export NO_ALBUMENTATIONS_UPDATE := 1
# torch alone is half a gigabyte.
export UV_HTTP_TIMEOUT ?= 300

help: ## Show these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the environment .venv (3 GB to download the first time)

demo: $(STAMP) ## Train on the sample boards, score them, write anogan-report/report.html
	$(BIN)/anogan fit --data datasets/pcb/good --config configs/demo.yaml --out anogan-model
	$(BIN)/anogan evaluate --data datasets/pcb --model anogan-model --report anogan-report/

test: $(STAMP) ## Run the test suite (some minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

check: $(STAMP) ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure speed; writes tests/benchmarks/results/*.json
	$(BIN)/python tests/benchmarks/run.py

torture: $(STAMP) ## Run the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

gpu-check: ## Run every benchmark on a GPU, with this machine's own python3 and its torch >= 2.11
	$(PYTHON) tests/benchmarks/gpu_check.py

clean: ## Remove caches and builds, but keep .venv, models and reports
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find anogan tests datasets -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "anogan needs Python 3.11 or newer; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; install it: sudo apt install python3-venv"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	awk '/^uv==/ { take = 1 } take { print } take && !/\\$$/ { exit }' constraints.txt > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.txt
# pip is slower, but knows a mirror or a certificate that is named in its own settings only.
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r constraints.txt || \
	  $(BIN)/pip install --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/uv pip install --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
	@touch $@
