# The README's commands. Each makes what it needs on a fresh machine: a virtual environment with pinned dependencies.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: features test lint bench gpu fuzz crash clean

features: $(READY)
	$(BIN)/luigi --module pipeline BuildFeatures

test: $(READY)
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then $(BIN)/python -m pytest -q -m browser -n logical --maxprocesses 8 --dist loadfile; \
	else echo "No Chromium on this machine: the report was not rendered (pytest -m browser)."; fi

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	for benchmark in tests/benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done

# Equality and speed on a GPU, in MINUTES. Takes the environment if there is one, else the python3 of a CUDA image: it installs nothing.
MINUTES ?= 8

gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/benchmarks/gpu.py --device cuda --minutes $(MINUTES) --out gpu.json

# Reads damaged files, CASES of every reader, and kills builds and sweeps at random moments. SECONDS bounds either; SEED repeats it.
SECONDS ?= 3600
SEED ?= 1
CASES ?= 400
KILLS ?= 140

fuzz: $(READY)
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) --seed $(SEED) --cases $(CASES)

crash: $(READY)
	PYTHONPATH=tests $(BIN)/python -m crash --seconds $(SECONDS) --seed $(SEED) --kills $(KILLS)

# Removes the outputs of a build, after it has asked; the environment stays. YES=1 does not ask.
clean:
	@if [ ! -e cache ]; then echo "There is no cache/."; exit 0; fi; \
	if [ "$(YES)" != 1 ]; then \
		printf 'Remove cache/ (%s: features, manifests, pseudo-labels, adapted encoders)? [y/N] ' "$$(du -sh cache | cut -f1)"; \
		read answer || answer=; case "$$answer" in y|Y|yes) ;; *) echo "Nothing was removed."; exit 1;; esac; \
	fi; \
	rm -rf cache

$(READY): setup.cfg constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $(READY)
