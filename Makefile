# Front door: every target makes the virtual environment first where it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TORCH  := $(shell grep -m1 '^torch==' constraints.txt)
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all check format bench bench-pretrain bench-cnn constraints clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# torch comes first and alone, so that a CPU build that was chosen beforehand (or lies in pip's find-links) is kept.
$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV): a few minutes, 2 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[quickstart,dev]'
	@touch $@

setup: $(READY) ## make the virtual environment, nothing more

quickstart: $(READY) ## fine-tune a small BERT offline and compare it with two baselines
	rm -rf runs/quickstart
	$(BIN)/python recipes/finetune_bert.py --config recipes/configs/finetune_bert/quickstart.yaml \
		--train.output_dir runs/quickstart

test: $(READY) ## the tests, without the slow ones
	$(BIN)/python -m pytest -m 'not slow'

test-all: $(READY) ## all tests, as CI runs them
	$(BIN)/python -m pytest

check: $(READY) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY) ## format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## fine-tuning beside transformers.Trainer; needs SST2=folder with train.tsv and dev.tsv
	$(BIN)/python benchmarks/finetune_throughput.py --train $(SST2)/train.tsv --validation $(SST2)/dev.tsv \
		--text sentence --quoting false

bench-pretrain: $(READY) ## pretraining beside transformers.Trainer
	$(BIN)/python benchmarks/pretrain_bert.py --steps 40
	$(BIN)/python benchmarks/pretrain_gpt.py --steps 20

bench-cnn: $(READY) ## the CNN beside Keras; needs MNIST=folder with the four files, KERAS=python with tensorflow-cpu
	$(BIN)/python benchmarks/cnn_mnist.py --mnist $(MNIST) --keras_python $(KERAS)

constraints: $(READY) ## pin the versions that are installed now
	(echo "# The exact versions that CI runs; written by \`make constraints\`."; \
	 $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.txt

clean: ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache
