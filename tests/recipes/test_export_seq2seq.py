"""An encoder-decoder and an adapter on it, by `hfscale export` and `compress`: what transformers loads of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hfscale.cli import main
from tests.recipes.test_export import export, refused
from tests.support.commands import ROOT, records
from tests.support.pairs import pairs
from tests.support.snippets import code_of
from tests.support.tiny import write_csv
from tests.support.warm import WarmRun

pytest.importorskip("sacrebleu", reason="needs the extra `seq2seq`")
pytest.importorskip("peft", reason="needs the extra `peft`")
NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT's own
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast"),
]
SHAPE = [
    "--model.type",
    "t5",
    "--model.hidden_size",
    64,
    "--model.num_layers",
    1,
    "--model.num_heads",
    2,
    "--tokenizer.vocab_size",
    340,
]


def train(folder: Path, name: str, *flags: Any) -> Path:
    rows = pairs(40, longest=4)
    words = ["--data.train", write_csv(folder / "rows.csv", rows), "--data.max_length", 12, "--data.prefix", "say: "]
    words += ["--data.validation", write_csv(folder / "val.csv", rows[:20]), "--train.global_batch_size", 20]
    words += ["--generation.eval_examples", 16, "--train.output_dir", folder / name, *flags]
    finished = WarmRun((ROOT / "recipes" / "finetune_seq2seq.py", *words), folder / f"log_{name}", {}).wait()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, a T5 that has learned its pairs by heart, and `lora`, an adapter on it."""
    folder = tmp_path_factory.mktemp("pairs")
    length = ["--train.max_steps", 120, "--train.eval_steps", 60, "--optim.lr", "3e-3", "--model.dropout", 0.0]
    base = train(folder, "run", *SHAPE, *length)
    length = ["--train.max_steps", 6, "--optim.lr", "1e-2", "--generation.num_beams", 1]
    train(folder, "lora", "--model.name", base / "model", "--lora.r", 4, *length)
    return folder


def written(folder: Path, texts: list[str]) -> list[str]:
    """By plain transformers, as the folder says."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer([f"say: {text}" for text in texts], padding=True, return_tensors="pt")
    return [text.strip() for text in tokenizer.batch_decode(model.generate(**given), skip_special_tokens=True)]


def predicted(capsys: Any, *given: Any) -> list[str]:
    capsys.readouterr()
    main(["predict", *map(str, given), "--text", "one two", "six"])
    return [json.loads(line)["output"] for line in capsys.readouterr().out.splitlines()]


def card_prints(folder: Path, capsys: Any) -> str:
    capsys.readouterr()
    exec(code_of((folder / "README.md").read_text(), PATH_OR_HUB_ID=str(folder)), {})
    return capsys.readouterr().out.strip()


def test_a_merged_adapter_writes_what_it_wrote_beside_its_base(trained: Path, tmp_path: Path, capsys: Any) -> None:
    run, folder = trained / "lora", tmp_path / "merged"
    line = refused(capsys, run, "--merge", "--format", "onnx")
    assert (
        "holds an encoder-decoder (T5ForConditionalGeneration); --format onnx writes models of one stack alone" in line
    )
    expected = predicted(capsys, run)
    said = export(capsys, run, "--merge", "--output", folder)
    assert "model with its adapter -> merged: bleu " in said
    assert "(16 validation pairs of val.csv, written greedily)" in said
    exported = json.loads((folder / "export.json").read_text())
    (found,) = exported["comparisons"]
    assert 0 < found["largest_change"] < 1e-5 and found["metric"] == "bleu" and found["standard_error"] == 0
    best = [record["eval_bleu"] for record in records(run) if "eval_bleu" in record]
    assert found["metric_before"] == found["metric_after"] == pytest.approx(best[-1])
    assert exported["reads"] == {"prefix": "say: ", "max_length": 12}
    assert written(folder, ["one two", "six"]) == predicted(capsys, folder) == expected  # far from the run's settings
    settings = json.loads((folder / "generation_config.json").read_text())
    assert (settings["num_beams"], settings["max_length"]) == (1, 13)  # the adapter's, not its base's
    card = (folder / "README.md").read_text()
    assert "library_name: transformers" in card and "PeftModel" not in card and card.count("## Use") == 1
    assert card_prints(folder, capsys) == str(written(folder, ["your text"]))
    assert str(tmp_path) not in card and str(trained) not in card + json.dumps(exported)


@NEEDS_BITS
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_few_bits(trained: Path, tmp_path: Path, capsys: Any, bits: int) -> None:
    from transformers import AutoModelForSeq2SeqLM

    run, folder = trained / "run", tmp_path / "few"
    export(capsys, run, "--bits", bits, "--tolerance", 0.3, "--output", folder)
    exported = json.loads((folder / "export.json").read_text())
    (found,) = exported["comparisons"]
    assert found["metric"] == "bleu" and found["metric_before"] > 80 and found["metric_after"] > 60
    assert 0 < found["largest_change"] < 0.3
    plain: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert plain.lm_head.weight.dtype == (torch.bfloat16 if bits == 16 else torch.float32)
    assert (
        plain.generation_config.num_beams == 4
        and exported["weights_bytes"]["after"] < 0.8 * (exported["weights_bytes"]["before"])
    )
    assert written(folder, ["one two", "six"]) == predicted(capsys, folder)
    card = (folder / "README.md").read_text()
    assert f"- {bits}-bit" in card and ("torch bitsandbytes`" in card) == (bits < 16)
    assert card_prints(folder, capsys) == str(written(folder, ["your text"]))


def test_too_much_of_a_change_is_not_kept(trained: Path, capsys: Any) -> None:
    before = sorted(trained.rglob("*"))
    line = refused(capsys, trained / "lora", "--merge", "--tolerance", 0)
    assert "logits change by" in line and "--tolerance 0 allows" in line
    assert sorted(trained.rglob("*")) == before


@NEEDS_BITS
@pytest.mark.slow
def test_compress_times_what_is_written(trained: Path, tmp_path: Path, capsys: Any) -> None:
    main(["compress", str(trained / "run"), "--sparsity", "0.5", "--output", str(tmp_path / "compress")])
    printed = capsys.readouterr().out
    values = json.loads((tmp_path / "compress" / "compress.json").read_text())
    rows = {row["name"]: row for row in values["choices"]}
    assert list(rows) == ["full", "bfloat16", "8 bits", "4 bits", "pruned 0.5"]
    assert "what can be pruned are" in rows.pop("pruned 0.5")["note"]
    best = max(record["eval_bleu"] for record in records(trained / "run") if "eval_bleu" in record)
    assert rows["full"]["metrics"]["bleu"] == pytest.approx(best)
    for row in rows.values():
        assert row["latency_median_ms"] > 0 and row["examples_per_second"] > 0
        assert row["points"] == pytest.approx(row["metrics"]["bleu"] - best, abs=1e-6)  # a point is one of BLEU's
    assert "its whole output written with 4 beams" in printed and "points: of bleu, from full" in printed
