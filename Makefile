# Every target sets up what it needs and can be run again.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BOUNDS := tests/test_imports.py tests/test_chatbot.py tests/test_examples.py tests/tasks/test_runs.py

.PHONY: demo real test check bounds docs clean

demo: $(READY)
	$(BIN)/empathy-lightning demo run

# Real pretrained models, from the Hub or from EMPATHY_BACKBONES=FOLDER; docs/real-models.md says what it takes.
real: $(READY)
	$(BIN)/python examples/real.py

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site, into site/: strict, so that a dead link fails, and without a network.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# At the lowest versions that setup.cfg allows, and at the newest that there are.
bounds: .venv-lowest/.ready .venv-newest/.ready
	.venv-lowest/bin/python -m pytest $(BOUNDS)
	.venv-newest/bin/python -m pytest $(BOUNDS)

.venv-lowest/.ready: setup.cfg constraints-lowest.txt
	python3 -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev,live,serve,synthetic]'
	touch $@

.venv-newest/.ready: setup.cfg
	python3 -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev,live,serve,synthetic]'
	touch $@

$(READY): setup.py setup.cfg pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,live,serve,storage,synthetic]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest outputs build dist site
