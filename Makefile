# Two commands: `make quickstart` runs the main job (ARGS="--set target=numpy" overrides settings), `make test` the tests.
# `make bench` measures speed beside the peers (POOL=file.parquet for a corpus of your own), `make fuzz` looks for crashes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= .curate
POOL ?= environment
MINUTES ?= 60

.PHONY: quickstart test test-slow test-gpu bench fuzz constraints clean

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,test]'
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/curate run pipelines/quickstart.py --config configs/quickstart.toml --engine dask --workers 2 --out $(STORE) $(ARGS)

test: $(VENV)/installed
	$(BIN)/ruff check curate scorers pipelines tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/installed
	$(BIN)/python benchmarks/corpus.py $(POOL) .bench/corpus --bytes 256e6
	$(BIN)/python benchmarks/peers.py .bench/corpus

fuzz: $(VENV)/installed
	$(BIN)/python tests/fuzz.py --minutes $(MINUTES)

constraints: $(VENV)/installed
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -i -E '^(curate|torch)\b' > constraints.new
	echo 'torch==2.13.0' >> constraints.new
	{ echo '# What was tested, so that both README commands give the same environment everywhere. Update: make constraints'; sort -f constraints.new; } > constraints.txt
	rm constraints.new

clean:
	rm -rf $(VENV) $(STORE) .bench .mypy_cache .pytest_cache .ruff_cache
