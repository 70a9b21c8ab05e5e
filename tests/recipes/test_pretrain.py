"""The pretraining recipes as a user runs them, at small size: what comes out, and what goes wrong in one line."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from hfscale.config import parse_config
from tests.support.commands import DDP, FINETUNE_BERT, ROOT, assert_one_line, launch, records, result
from tests.support.language import sentences, write_lines
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run

STEPS = 25
RECIPES = {name: ROOT / "recipes" / f"pretrain_{name}.py" for name in ("bert", "gpt")}
# About 150 sequences in batches of 8: the second epoch begins on the way, after a smaller batch.
COMMON = [
    "--data.documents", "line", "--data.max_length", "32", "--train.global_batch_size", "8", "--train.log_steps", "1",
    "--train.eval_steps", "15", "--train.max_steps", STEPS,
]  # fmt: skip
SHAPE = ["--model.hidden_size", "32", "--model.num_heads", "2", "--model.num_layers", "2"]
OWN = {
    # so few targets that some micro-batches have none
    "bert": [*SHAPE, "--tokenizer.vocab_size", "80", "--mask.fraction", "0.05", "--optim.lr", "1e-2"],
    # at 1e-2 its loss leaps at times, to where a rounding error of 1e-7 grows to 1e-5
    "gpt": [*SHAPE, "--tokenizer.vocab_size", "300", "--samples.max_new_tokens", "8", "--optim.lr", "6e-3"],
}
RESULT_KEYS = {
    "metrics", "steps", "epochs", "train_seconds", "samples_per_second", "tokens_per_second", "peak_memory_bytes",
    "num_parameters", "num_trained_parameters", "num_processes", "resumed_from", "baselines", "num_examples",
    "num_tokens", "fill", "held_out", "best_step",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    write_lines(folder / "lines.txt", sentences(130))
    return folder


def pretrain(name: str, folder: Path, to: Path, *flags: Any, launcher: Any = None) -> Any:
    words = [RECIPES[name], "--data.train", folder / "lines.txt", *COMMON, "--train.output_dir", to, *flags]
    finished = launch(launcher, *words) if launcher else warm_run(*words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, tuple[Path, Any]]:
    """Run folder and finished process of each recipe."""
    return {name: (folder / name, pretrain(name, folder, folder / name, *OWN[name])) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_learns_and_says_so(runs: dict[str, tuple[Path, Any]], name: str) -> None:
    path, finished = runs[name]
    assert not finished.stderr, finished.stderr
    losses = [record["loss"] for record in records(path)]
    assert losses[0] == pytest.approx(math.log(80 if name == "bert" else 300), abs=0.3), "knows nothing yet"
    assert sum(losses[-3:]) < sum(losses[:3]) - 1
    values = result(path)
    assert values.keys() >= RESULT_KEYS
    assert values["steps"] == STEPS and values["held_out"] == "validation" and values["num_processes"] == 1
    assert values["epochs"] > 1, "the second epoch has begun"
    assert values["fill"] > 0.95 and values["num_tokens"]["train"] > 3000
    metrics = values["metrics"]
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert [record["step"] for record in records(path) if "eval_bits_per_byte" in record] == [15, STEPS]
    if name == "gpt":
        assert metrics["bits_per_byte"] < values["baselines"]["unigram"]["bits_per_byte"] - 0.2
    names = {"config.yaml", "environment.json", "metrics.jsonl", "model", "result.json", "learning_curve.png"}
    assert names <= {child.name for child in path.iterdir()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_model_folder_is_a_plain_one(runs: dict[str, tuple[Path, Any]], name: str) -> None:
    from transformers import pipeline

    model = runs[name][0] / "model"
    if name == "bert":
        guesses = pipeline("fill-mask", str(model))("the film [MASK] good.")
        assert len(guesses) == 5 and all(0 < guess["score"] < 1 for guess in guesses)
    else:
        (text,) = pipeline("text-generation", str(model))("the film", max_new_tokens=4)
        assert text["generated_text"].startswith("the film")
    card = (model / "README.md").read_text()
    assert f"pipeline_tag: {'fill-mask' if name == 'bert' else 'text-generation'}" in card
    assert f"{result(runs[name][0])['metrics']['bits_per_byte']:.4f}" in card
    assert str(runs[name][0].parent) not in card, "no path of this machine"


def test_samples_are_shown_at_each_evaluation(runs: dict[str, tuple[Path, Any]]) -> None:
    path, finished = runs["gpt"]
    samples = re.findall(r"^sample     '(.+)'$", finished.stdout, re.MULTILINE)
    assert len(samples) == 2
    assert len(result(path)["samples"]) == 1


@pytest.mark.parametrize(
    "name, launcher, micro",
    [
        pytest.param("bert", None, 2, id="1x4"),
        pytest.param("bert", DDP, 2, id="2x2"),
        pytest.param("gpt", DDP, 2, id="2x2 gpt", marks=pytest.mark.slow),
    ],
)
def test_splits_of_a_batch_train_the_same(
    runs: dict[str, tuple[Path, Any]], folder: Path, tmp_path: Path, name: str, launcher: Any, micro: int
) -> None:
    flags = [*OWN[name], "--train.micro_batch_size", micro, "--train.eval_batch_size", "3"]
    pretrain(name, folder, tmp_path / "run", *flags, launcher=launcher)
    whole, other = records(runs[name][0]), records(tmp_path / "run")
    assert result(tmp_path / "run")["num_processes"] == (2 if launcher else 1)
    assert len(whole) == len(other) == STEPS
    for a, b in zip(whole, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    assert result(tmp_path / "run")["metrics"] == pytest.approx(result(runs[name][0])["metrics"], rel=1e-5)
    assert result(tmp_path / "run")["num_tokens"] == result(runs[name][0])["num_tokens"]


def test_going_on_starts_where_the_run_ended(runs: dict[str, tuple[Path, Any]], folder: Path, tmp_path: Path) -> None:
    flags = ["--model.name", runs["gpt"][0], "--optim.lr", "1e-12", "--optim.warmup_steps", "0"]
    flags += ["--train.max_steps", "1", "--samples.max_new_tokens", "0"]
    finished = pretrain("gpt", folder, tmp_path / "run", *flags)
    assert not finished.stderr, finished.stderr
    assert "\nsample " not in finished.stdout
    assert result(tmp_path / "run")["metrics"] == pytest.approx(result(runs["gpt"][0])["metrics"], rel=1e-4)


def test_what_was_pretrained_can_be_fine_tuned(runs: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", reviews(60))
    words = [FINETUNE_BERT, "--model.name", runs["bert"][0], "--data.train", rows, "--train.max_steps", "2"]
    finished = warm_run(*words, "--train.output_dir", tmp_path / "run", "--baselines", "false")
    assert finished.returncode == 0, finished.stderr
    assert "accuracy" in result(tmp_path / "run")["metrics"]


@cache
def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pretrain_{name}", RECIPES[name])
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETTINGS: dict[str, tuple[str, list[str], list[str]]] = {
    "tokenizer beside a model": ("bert", ["--model.name", "x", "--tokenizer.vocab_size", "99"], ["brings its own"]),
    "shape beside a model": (
        "gpt",
        ["--model.name", "x", "--model.hidden_size", "64"],
        ["--model.hidden_size", "effect"],
    ),
    "unknown metric": ("bert", ["--train.best_metric", "accuracy"], ["--train.best_metric accuracy", "bits_per_byte"]),
    "few documents": ("gpt", ["--data.max_documents", "1"], ["--data.max_documents must be at least 2"]),
    "short sequences": ("gpt", ["--data.max_length", "4"], ["--data.max_length must be at least 8"]),
    "unknown type": ("bert", ["--model.type", "gpt2"], ["model.type", "bert, roberta, modernbert, electra"]),
    "unknown cut": ("gpt", ["--data.documents", "word"], ["data.documents", "file, line, blank_line"]),
    "no labels here": ("bert", ["--data.label", "x"], ["unknown", "data.label"]),
}


@pytest.mark.parametrize("case", list(SETTINGS))
def test_settings_are_checked_before_anything_is_read(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    from hfscale.errors import SettingsError

    name, flags, parts = SETTINGS[case]
    with pytest.raises(SettingsError) as caught:
        parse_config(recipe(name).Config, flags)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), caught.value


LATER: dict[str, tuple[str, list[str], list[str]]] = {
    "empty corpus": ("gpt", ["--data.train", "{f}/empty.txt"], ["empty.txt holds no text"]),
    "larger vocabulary": (
        "bert",
        ["--data.train", "{f}/lines.txt", "--model.name", "{f}/small", "--tokenizer.name", "{f}/large"],
        ["the tokenizer has 99 tokens", "small 25", "--tokenizer.name"],
    ),
}
"""What is found out where data and model are read; the other cases are those of the library's own tests."""


@pytest.mark.parametrize("case", list(LATER))
def test_one_line(folder: Path, tmp_path: Path, case: str) -> None:
    name, flags, parts = LATER[case]
    if case == "empty corpus":
        (folder / "empty.txt").write_text("\n \n")
    else:
        _masked_bert(folder / "small")
        _add_tokens(folder / "small", folder / "large", 99)
    finished = warm_run(
        RECIPES[name], *[flag.format(f=folder) for flag in flags], "--train.output_dir", tmp_path / "run"
    )
    assert_one_line(finished, *parts)
    assert not (tmp_path / "run").exists()


def _masked_bert(folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(write_tiny_bert(folder))
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)


def _add_tokens(source: Path, folder: Path, size: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([f"token{number}" for number in range(size - len(tokenizer))])
    tokenizer.save_pretrained(folder)


PARAMETERS = {
    "bert_tiny": 1.5e6, "bert_mini": 11.2e6, "bert_small": 28.8e6, "bert_base": 110e6, "roberta_base": 125e6,
    "electra_small": 13.5e6, "modernbert_tiny": 1.7e6, "modernbert_base": 149e6,
    "gpt2_tiny": 0.95e6, "gpt2_mini": 5.3e6, "gpt2_small": 124e6,
    "llama_tiny": 1.25e6, "llama_1b": 1.2e9, "qwen3_small": 420e6,
}  # fmt: skip
"""Of the model that each settings file makes, with the vocabulary that it asks for."""
VOCABULARIES = {"answerdotai/ModernBERT-base": 50368, "FacebookAI/roberta-base": 50265, "openai-community/gpt2": 50257}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "configs").glob("pretrain_*/*.yaml")), ids=lambda path: path.stem
)
def test_shipped_settings_make_the_model_that_they_promise(path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    from hfscale.models import new_config

    name = path.parent.name.removeprefix("pretrain_")
    config = parse_config(recipe(name).Config, ["--config", str(path)])
    given = yaml.safe_load(path.read_text())
    for block, values in given.items():
        for key, value in values.items():
            found = getattr(getattr(config, block), key)
            assert (list(found) if isinstance(found, tuple) else found) == value

    class Tokenizer:
        pad_token_id, bos_token_id, eos_token_id = 1, 0, 0

        def __len__(self) -> int:
            return config.tokenizer.vocab_size or VOCABULARIES[config.tokenizer.name]

    auto = AutoModelForMaskedLM if name == "bert" else AutoModelForCausalLM
    tokenizer: Any = Tokenizer()
    shape = new_config.new_model_config(config.model, config.model.type, tokenizer, config.data.max_length)
    with torch.device("meta"):
        model = auto.from_config(shape)
    assert model.num_parameters() == pytest.approx(PARAMETERS[path.stem], rel=0.05)
    assert config.train.global_batch_size % (config.train.micro_batch_size or 1) == 0
