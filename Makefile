# Python 3.11 to 3.13 and make are enough: every target begins with `setup`, which fills .venv.
.DEFAULT_GOAL := help
.PHONY: help setup lab test coverage cuda mutants notebooks html site thumbnails pictures story clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)

# Installed before all else, so that nothing looser pulls another build. On Linux it carries CUDA; without a GPU
# the CPU build is a tenth of the size: make setup TORCH="torch==2.13.0 --index-url <PyTorch's CPU index>".
TORCH ?= torch==2.13.0

PROMPT ?= $(firstword $(sort $(wildcard $(foreach kind,wav flac ogg opus,data/prompts/*.$(kind)))))
BIN := .venv/bin
ONE := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 # notebooks: small tensors, and two run side by side

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1 \t/p' $(MAKEFILE_LIST)

setup: .venv/.lab ## make .venv and install the lab in it, again only when pyproject.toml changes

.venv/.lab: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11 to 3.13 is needed; found: $(PYTHON). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install -e ".[notebooks]"
	$(BIN)/python -m lab.language.compile
	@touch $@

.venv/.test: .venv/.lab
	$(BIN)/python -m pip install -e ".[test]"
	$(BIN)/python -m pip install --no-deps "distillmos>=0.9.1" xls-r-sqa==0.1.0 recurrentgemma==1.0.1 # see pyproject.toml
	@touch $@

lab: setup ## open the notebooks in JupyterLab
	$(ONE) $(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_hear_it.ipynb \
		--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

test: .venv/.test ## lint, types, unit tests, notebooks, the same in a browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 --dist loadfile --ignore tests/browser
	$(ONE) LAB_PROFILE=smoke $(BIN)/pytest -q -n 2 --dist loadscope --nbval-lax --nbval-current-env \
		--nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks
	$(ONE) LAB_PROFILE=smoke $(BIN)/pytest -q -n 2 --dist loadscope tests/browser

coverage: .venv/.test ## the unit tests, and which lines they run; a third more work than without
	$(BIN)/pytest -q -n 2 --dist loadfile --cov=lab --cov-report=term:skip-covered --ignore tests/browser

cuda: setup ## build the fused CUDA ops for this GPU, with nvcc (FROM=FOLDER of their sdists: without a network)
	$(BIN)/python -m lab.recurrence.install $(FROM)

mutants: .venv/.test ## plant each fault of tests/notebooks/test_mutation.py: nbval alone has to see it
	$(ONE) LAB_MUTANTS=all $(BIN)/pytest -q tests/notebooks/test_mutation.py

notebooks: .venv/.test ## run the notebooks and store their outputs and pictures (needs Chromium)
	$(ONE) $(BIN)/python -m tests.notebooks.execute

html: setup ## the notebooks as pages without a kernel and without a network: out/html
	$(BIN)/python -m tests.notebooks.export out/html

site: setup ## the same for GitHub Pages, which .github/workflows/pages.yml puts there: out/site
	$(BIN)/python -m tests.notebooks.export out/site
	@touch out/site/.nojekyll

thumbnails: .venv/.test ## run the notebooks in a browser and take the README's pictures of them (needs Chromium)
	$(ONE) LAB_PROFILE=smoke $(BIN)/pytest -q tests/browser/test_notebooks.py -k runs_in_jupyterlab
	$(BIN)/python -m tests.browser.thumbnails

pictures: .venv/.test ## draw the README's pictures anew (needs Chromium)
	$(BIN)/python -m tests.notebooks.pictures

story: setup ## continue a prompt for two minutes: out/story.wav (PROMPT=FILE for another prompt)
	@mkdir -p out
	$(BIN)/lab story "$(PROMPT)" --minutes 2 -o out/story.wav

clean: ## remove what setup and test made; stories in out/ stay
	rm -rf .venv build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
