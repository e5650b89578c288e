# Python 3.11 to 3.13 and make are enough: every target begins with `setup`, which fills .venv.
.DEFAULT_GOAL := help
.PHONY: help setup lab test cuda notebooks pictures story clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)

# Installed before all else, so that nothing looser pulls another build. On Linux it carries CUDA; without a GPU
# the CPU build is a tenth of the size: make setup TORCH="torch==2.13.0 --index-url <PyTorch's CPU index>".
TORCH ?= torch==2.13.0

PROMPT ?= $(firstword $(sort $(wildcard $(foreach kind,wav flac ogg opus,data/prompts/*.$(kind)))))
BIN := .venv/bin
STAMP := .venv/.installed

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1 \t/p' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install the lab in it, again only when pyproject.toml changes

$(STAMP): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11 to 3.13 is needed; found: $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -e ".[test]"
	@touch $@

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_hear_it.ipynb

test: setup ## lint, types, unit tests, notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q
	$(BIN)/pytest -q --nbval-lax --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks

cuda: setup ## build the fused CUDA ops for this GPU, with nvcc (FROM=FOLDER of their sdists: without a network)
	$(BIN)/python -m lab.recurrence.install $(FROM)

notebooks: setup ## run the notebooks and store their outputs
	$(BIN)/python -m tests.notebooks.execute

pictures: setup ## draw the README's pictures anew (needs Chrome or Chromium)
	$(BIN)/python -m pip install -q -e ".[pictures]"
	$(BIN)/python -m lab.view.pictures

story: setup ## continue a prompt for two minutes: out/story.wav (PROMPT=FILE for another prompt)
	@mkdir -p out
	$(BIN)/lab story "$(PROMPT)" --minutes 2 -o out/story.wav

clean: ## remove what setup and test made; stories in out/ stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
