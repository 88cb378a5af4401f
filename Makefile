# Both commands set up what they need: a virtual environment in the checkout, pinned by
# constraints.txt. Python 3.11 or newer is all that must be there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
MINIMUM := .venv-minimum
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow test-random test-bounds test-minimum lint benchmark clean

demo: $(VENV)/.installed
	$(BIN)/hiersearch demo --out out/demo

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-test
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "not gpu"

# Properties, and tests that draw from a seed, on cases that no run saw before. What it prints first
# repeats it: make test-random SEED=...
ifndef SEED
SEED := $(shell date +%s)
endif
test-random: $(VENV)/.installed-test
	HYPOTHESIS_PROFILE=random TEST_SEED=$(SEED) $(BIN)/python -m pytest \
		-m "(hypothesis or seeded) and not slow and not gpu"

# Every index into an array is checked in compiled functions, which are compiled anew for it.
test-bounds: $(VENV)/.installed-test
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/out/bounds $(BIN)/python -m pytest

# The lowest versions that pyproject.toml allows, and none of the extras but what the tests need.
test-minimum: $(MINIMUM)/.installed
	NUMBA_CACHE_DIR=$(CURDIR)/out/minimum $(MINIMUM)/bin/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(VENV)/.installed-benchmark
	$(BIN)/python -m benchmarks

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[torch]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[torch,faiss,test,lint]"
	touch $@

$(VENV)/.installed-benchmark: $(VENV)/.installed-test
	$(PIP) --editable ".[torch,faiss,test,benchmark]"
	touch $@

$(MINIMUM)/.installed: pyproject.toml constraints-minimum.txt
	rm -rf $(MINIMUM)
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
		--constraint constraints-minimum.txt --editable . pytest hypothesis scikit-learn
	touch $@

clean:
	rm -rf $(VENV) $(MINIMUM) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
