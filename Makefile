# burnish: `make run` shows it at work, `make test` tests it. Both install what they need into .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Another wheel index for torch, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
INDEX  := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt $(INDEX)
SEED   ?= 0

.PHONY: run test combinations install install-test bench clean

run: install
	@$(BIN)/burnish quickstart --seed $(SEED)

test: install-test
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Every pair of parts from different folders of rl/, two steps each; a few minutes
combinations: install-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m combinations tests/combinations

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: pyproject.toml constraints.txt
	@start=$$(date +%s); \
	echo "Installing into $(VENV) (once; a minute or two) ..."; \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	$(PIP) torch && $(PIP) -e . && touch $@ && echo "Installation: $$(( $$(date +%s) - start )) s"

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[dev,math,text,env,api,bench,quant]'
	@touch $@

# burnish against transformers.generate and against TRL, interleaved and paired; about half an hour. Results and tables: docs/benchmarks
bench: install-test
	$(BIN)/python -m benchmarks.engine --json docs/benchmarks/engine.json
	$(BIN)/python -m benchmarks.memory --json docs/benchmarks/memory.json
	$(BIN)/python -m benchmarks.trl_race --json docs/benchmarks/trl_race.json
	$(BIN)/python -m benchmarks.gpu_step
	$(BIN)/python tools/benchmarks_page.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info
