"""Translating and summarizing, as a user does."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from hfscale.evaluation.seq2seq import score_texts
from tests.support.commands import ROOT, records, result, run
from tests.support.pairs import pairs, write_parallel
from tests.support.tiny import write_csv
from tests.support.warm import WarmRun

pytest.importorskip("sacrebleu", reason="needs the extra `seq2seq`")
RECIPE = ROOT / "recipes" / "finetune_seq2seq.py"
SHAPE = [
    "--model.type",
    "t5",
    "--model.hidden_size",
    32,
    "--model.num_layers",
    1,
    "--model.num_heads",
    2,
    "--tokenizer.vocab_size",
    340,
]


def finetune(folder: Path, name: str, *flags: Any, **hooks: Any) -> Any:
    rows = pairs(40, longest=4)  # few enough to be learned by heart in seconds
    words = [RECIPE, "--data.train", write_parallel(folder, rows), *SHAPE, "--data.max_length", 12]
    words += ["--data.validation", write_parallel(folder, rows[:20], "val"), "--model.dropout", 0.0]
    words += ["--data.test", write_parallel(folder, rows[20:], "test"), "--optim.lr", "3e-3"]
    words += ["--train.global_batch_size", 20, "--train.max_steps", 120, "--train.eval_steps", 60]
    words += ["--train.save_steps", 25, "--train.log_steps", 1, "--train.output_dir", folder / name, *flags]
    return WarmRun(tuple(words), folder / f"log{len(list(folder.iterdir()))}", hooks).wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seq2seq")
    finished = finetune(folder, "run")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (folder / "printed").write_text(finished.stdout)
    return folder


def test_it_learns_to_translate(trained: Path) -> None:
    values, printed = result(trained / "run"), (trained / "printed").read_text()
    assert list(values["metrics"]) == ["bleu", "chrf", "beam_bleu", "beam_chrf", "loss", "perplexity"]
    assert values["metrics"]["chrf"] > 80 and values["metrics"]["beam_bleu"] > 80
    assert values["num_examples"] == {"train": 40, "validation": 20, "test": 20} and values["held_out"] == "test"
    evaluated = [record for record in records(trained / "run") if "eval_bleu" in record]
    assert [record["step"] for record in evaluated] == [60, 120]
    example = next(line for line in printed.splitlines() if line.startswith("example"))
    assert "</s>' -> '" in example and "tokens read" in example
    assert "written    " in printed and "(right: " in printed
    card = (trained / "run" / "model" / "README.md").read_text()
    assert "pipeline_tag: translation" in card and str(trained) not in card


def test_predict_writes_what_transformers_writes(trained: Path) -> None:
    printed = (trained / "printed").read_text()
    command = next(line for line in printed.splitlines() if line.startswith("try it")).split(maxsplit=2)[2]
    assert command.startswith("hfscale predict")
    rows = write_csv(trained / "new.csv", [{"en": "one two ten"}, {"en": "six"}, {"en": "four four"}])
    finished = run("-m", "hfscale", "predict", trained / "run", "--file", rows, "--batch_size", 2)
    assert finished.returncode == 0, finished.stderr
    outputs = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [output["text"] for output in outputs] == ["one two ten", "six", "four four"]
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model: Any = AutoModelForSeq2SeqLM.from_pretrained(trained / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(trained / "run" / "model")
    assert model.generation_config.num_beams == 4 and model.generation_config.max_length == 13
    for output in outputs:
        ids = model.generate(**tokenizer([output["text"]], return_tensors="pt"))
        assert tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip() == output["output"]
    assert shlex.split(command)[2] == str(trained / "run")


def test_interrupted_and_gone_on_with_it_ends_with_the_same_bits(trained: Path) -> None:
    stopped = finetune(trained, "resumed", signal_in_training=("SIGTERM", 37))
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    finished = finetune(trained, "resumed")
    assert finished.returncode == 0 and "resume" in finished.stdout, finished.stdout + finished.stderr
    weights, expected = (load_file(trained / name / "model" / "model.safetensors") for name in ("resumed", "run"))
    assert all(weights[name].equal(expected[name]) for name in expected)
    assert result(trained / "resumed")["metrics"] == result(trained / "run")["metrics"]


def test_any_split_of_a_batch_has_the_same_losses(trained: Path) -> None:
    flags = ["--train.max_steps", 12, "--train.eval_steps", 12]
    for name, size in (("one", 20), ("four", 5)):
        finished = finetune(trained, name, *flags, "--train.micro_batch_size", size)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    for one, four in zip(records(trained / "one"), records(trained / "four"), strict=True):
        assert four["loss"] == pytest.approx(one["loss"], abs=1e-5)


def test_an_adapter_learns_summaries_by_rouge(trained: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra `peft`")
    pytest.importorskip("rouge_score", reason="needs the extra `seq2seq`")
    words = [RECIPE, "--task", "summarization", "--model.name", trained / "run" / "model", "--lora.r", 4]
    words += ["--data.train", write_csv(trained / "rows.csv", pairs(40, longest=4)), "--data.prefix", "say: "]
    words += ["--data.max_length", 12, "--generation.num_beams", 1, "--train.max_steps", 6]
    folder = trained / "adapter"
    finished = WarmRun((*words, "--train.output_dir", folder), trained / "log_adapter", {}).wait()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert list(result(folder)["metrics"]) == ["rouge1", "rouge2", "rougeL", "loss", "perplexity"]
    assert (folder / "model" / "adapter_model.safetensors").is_file()
    card = (folder / "model" / "README.md").read_text()
    assert "library_name: peft" in card and "'say: ' + \"your text\"" in card
    assert "GenerationConfig.from_pretrained" in card


def test_metrics_of_known_texts() -> None:
    """A perfect translation, one without a right word, and ROUGE by hand."""
    same = ["the cat sat on the mat today"]
    assert score_texts("translation", same, same) == pytest.approx({"bleu": 100, "chrf": 100})
    assert score_texts("translation", ["x"], same)["bleu"] == 0
    pytest.importorskip("rouge_score", reason="needs the extra `seq2seq`")
    scores = score_texts("summarization", ["the cat sat"], ["the cat ran home"])
    assert scores["rouge1"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--train.best_metric", "accuracy"], "accuracy is not measured here; there are bleu, chrf, loss, perplexity"),
        (["--quant.bits", "4"], "lora"),
        (["--label_smoothing", "1"], "--label_smoothing must be in [0, 1), got 1.0"),
        (["--generation.eval_examples", "0", "--train.best_metric", "bleu"], "bleu is not measured when"),
        (["--generation.num_beams", "1", "--generation.length_penalty", "2"], "length_penalty has no effect"),
        (["--tokenizer.kind", "wordpiece"], "wordpiece has no end-of-text token"),
        (["--data.source", "english"], "columns en, fr; pairs need english and fr"),
    ],
)
def test_bad_settings_end_in_one_line(tmp_path: Path, flags: list[Any], complaint: str) -> None:
    finished = finetune(tmp_path, "run", *flags)
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert complaint in finished.stderr.splitlines()[-1]
