"""What every recipe pushes is loaded by its name on the Hub, in a fresh process with an empty cache: the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import CHATML, questions, write_json, write_tiny_gpt
from tests.support.commands import ROOT, run
from tests.support.hub import TOKEN, LoopbackHub
from tests.support.language import sentences, write_lines
from tests.support.pairs import pairs as translations
from tests.support.pairs import write_parallel
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

pytest.importorskip("peft", reason="needs the extra `peft`")
pytest.importorskip("sacrebleu", reason="needs the extra `seq2seq`")
pytestmark = pytest.mark.slow
LOADER = ROOT / "tests" / "support" / "load_models.py"
PIPELINE = (
    "from transformers import pipeline; print(pipeline('text-classification', 'alice/classifier')('a good film'))"
)
CLASSIFIER = "AutoModelForSequenceClassification"
SMALL = ["--model.hidden_size", 16, "--model.num_layers", 1, "--model.num_heads", 2, "--tokenizer.vocab_size", 300]


def commands(folder: Path) -> dict[str, tuple[str, str | None, list[Any]]]:
    """(auto class, base of the adapter, command) of each."""
    bert, gpt = write_tiny_bert(folder / "bert"), write_tiny_gpt(folder / "gpt", CHATML)
    rows = write_csv(folder / "rows.csv", reviews(40))
    lines = ["--data.train", write_lines(folder / "lines.txt", sentences(60)), "--data.documents", "line"]
    chats = write_json(folder / "chats.json", questions())
    pairs = write_json(
        folder / "pairs.json",
        [{"prompt": each["input"], "chosen": each["output"], "rejected": "no"} for each in questions()],
    )
    classify = ["finetune_bert", "--data.train", rows, "--baselines", "false", "--model.name"]
    pretrained, gpts = [*lines, "--data.max_length", 32, *SMALL], ["--model.name", gpt, "--data.max_length", 64]
    translate = ["finetune_seq2seq", "--data.train", write_parallel(folder, translations(40)), *SMALL]
    return {
        "classifier": (CLASSIFIER, None, [*classify, bert]),
        "adapter": (CLASSIFIER, str(bert), [*classify, bert, "--lora.r", 4]),
        "masked": ("AutoModelForMaskedLM", None, ["pretrain_bert", *pretrained]),
        "causal": ("AutoModelForCausalLM", None, ["pretrain_gpt", *pretrained, "--samples.max_new_tokens", 2]),
        "chat": ("AutoModelForCausalLM", None, ["finetune_gpt", *gpts, "--data.train", chats]),
        "aligned": ("AutoModelForCausalLM", str(gpt), ["align_gpt", *gpts, "--data.train", pairs]),
        "translator": ("AutoModelForSeq2SeqLM", None, [*translate, "--data.max_length", 24]),
        "cnn": ("AutoModelForImageClassification", None, ["train_cnn", "--baselines", "false"]),
        "rnn": (CLASSIFIER, None, ["train_rnn", "--data.train", rows, "--baselines", "false"]),
    }


def test_the_same_bits_from_the_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    given = commands(tmp_path)
    environ = hub.environment(TOKEN, tmp_path / "cache")
    for name, (_, _, (recipe, *flags)) in given.items():
        words = [ROOT / "recipes" / f"{recipe}.py", *flags, "--train.max_steps", 2, "--train.global_batch_size", 2]
        words += ["--train.output_dir", tmp_path / name, "--hub.repo_id", f"alice/{name}"]
        done = WarmRun(tuple(words), tmp_path / f"{name}-log", {"hub": environ}).wait()
        assert done.returncode == 0 and f"pushed     alice/{name}" in done.stdout, (name, done.stdout, done.stderr)
    here = {name: (auto, str(tmp_path / name / "model"), base) for name, (auto, base, _) in given.items()}
    there = {name: (auto, f"alice/{name}", base) for name, (auto, base, _) in given.items()}
    fresh = {**environ, "HF_HOME": str(tmp_path / "empty"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    local = run(LOADER, json.dumps(here), env={"HF_MODULES_CACHE": str(tmp_path / "local")})
    loaded = run(LOADER, json.dumps(there), env=fresh)
    assert loaded.returncode == local.returncode == 0, loaded.stderr + local.stderr
    assert json.loads(loaded.stdout) == json.loads(local.stdout)
    assert len(set(json.loads(local.stdout).values())) == len(given)
    piped = run("-c", PIPELINE, env={**fresh, "HF_HOME": str(tmp_path / "empty-too")})
    assert piped.returncode == 0 and "'score'" in piped.stdout, piped.stderr
