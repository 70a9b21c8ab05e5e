"""`hfscale export` on model folders: what it writes and says, and what it refuses without leaving anything."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from hfscale.cli import main
from hfscale.hub import onnx_usage
from tests.support.chat import CHATML, questions, write_json, write_tiny_gpt
from tests.support.language import language_model
from tests.support.snippets import printed_by
from tests.unit.models.test_adapters import logits

pytestmark = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path, tiny_tokenizer: Any) -> Path:
    """A classifier's folder, in no run."""
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3)
    classifier.save_pretrained(tmp_path / "bert")
    tiny_tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def export(capsys: Any, *words: Any) -> str:
    capsys.readouterr()
    main(["export", *map(str, words)])
    return capsys.readouterr().out


def mistake(capsys: Any, *words: Any) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, words)])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    lines = [line for line in printed.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), printed
    return lines[0]


def test_a_bare_model_folder_is_compared_on_made_up_tokens(model: Path, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    main(["export", str(model), "--bits", "8", "--output", str(tmp_path / "few")])
    said = capsys.readouterr()
    assert "no run's folder is around it, and it names none (--run RUN); 32 made-up sequences of 64" in said.err
    assert "layers     12 quantized" in said.out and "scales included" in said.out
    exported = json.loads((tmp_path / "few" / "export.json").read_text())
    assert exported["bits"] == 8 and exported["comparisons"][0]["metric"] is None
    assert exported["comparisons"][0]["inputs"].startswith("32 made-up")
    on_disk = sum(path.stat().st_size for path in (tmp_path / "few").glob("*.safetensors"))
    assert exported["weights_bytes"]["after"] == on_disk
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "few")
    assert logits(again.eval()).shape == (2, 3)
    assert "tokenizer.json" in {path.name for path in (tmp_path / "few").iterdir()}
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "few").glob("*.json"))


def test_beyond_the_tolerance_nothing_is_left(model: Path, tmp_path: Path, capsys: Any) -> None:
    before = sorted(tmp_path.rglob("*"))
    line = mistake(capsys, model, "--bits", 4, "--tolerance", "1e-6")
    assert (
        "float32 -> 4 bits: logits change by 0." in line
        and "--tolerance 1e-06 allows, and nothing was written" in line
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_refused(model: Path, tmp_path: Path, capsys: Any) -> None:
    assert "nothing to export: give --merge" in mistake(capsys, model)
    assert "there is no adapter in" in mistake(capsys, model, "--merge")
    assert "--base has no effect without --merge" in mistake(capsys, model, "--bits", 4, "--base", model)
    assert "--bits has no effect on --format onnx" in mistake(capsys, model, "--bits", 4, "--format", "onnx")
    assert "llama.cpp" in mistake(capsys, model, "--bits", 4, "--format", "gguf")
    assert "--tolerance must be a number" in mistake(capsys, model, "--bits", 4, "--tolerance", "nan")
    assert "exists already" in mistake(capsys, model, "--bits", 4, "--output", model)
    assert "its folder doesn't exist" in mistake(capsys, model, "--bits", 4, "--output", tmp_path / "a" / "b")
    assert "no such folder" in mistake(capsys, tmp_path / "nothing", "--bits", 4)
    export(capsys, model, "--bits", 4)
    few = tmp_path / "bert-4bit"
    assert "holds its weights in few bits already" in mistake(capsys, few, "--bits", 8)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"architectures": ["BertForImageClassification"]}))
    assert "holds a BertForImageClassification; what can be exported" in mistake(
        capsys, model, "--bits", 4, "--output", tmp_path / "new"
    )


def language_run(kind: str, folder: Path, tiny_model: Path) -> Path:
    """The folder of a run that pretrained on a text file, or taught to answer questions in one."""
    run, shape = folder / "run", {"max_length": 64, "train": str(folder / "text.txt")}
    if kind == "chat":
        write_tiny_gpt(run / "model", CHATML)
        write_json(folder / "text.json", [*questions(), *questions()] * 8)
        told: dict[str, Any] = {"data": shape | {"train": str(folder / "text.json"), "max_length": 128}, "answers": {}}
    else:
        lines = (f"the film was good and the plot not slow {'very ' * (number % 7)}bad" for number in range(300))
        (folder / "text.txt").write_text("\n".join(lines))
        tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.add_special_tokens({"bos_token": "[CLS]", "eos_token": "[SEP]"})
        tokenizer.save_pretrained(run / "model")
        language_model(kind, "sdpa", spread=None).save_pretrained(run / "model")
        told = {"data": shape | {"documents": "line"}, "mask" if kind == "bert" else "samples": {}}
    (run / "config.yaml").write_text(json.dumps(told))
    return run


@pytest.mark.parametrize("kind", ["llama", "bert", "chat"])
def test_a_language_model_is_compared_by_its_bits_per_byte(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: Any
) -> None:
    run = language_run(kind, tmp_path, tiny_model)
    said = export(capsys, run, "--bits", 8, "--tolerance", 0.1)
    exported = json.loads((run / "model-8bit" / "export.json").read_text())
    (found,) = exported["comparisons"]
    text = "text.json" if kind == "chat" else "text.txt"
    assert found["metric"] == "bits_per_byte" and found["inputs"].endswith(f"validation sequences of {text}")
    assert found["metric_before"] != found["metric_after"] and "bits_per_byte" in said
    assert abs(found["metric_before"] - found["metric_after"]) < 0.1 * found["metric_before"]
    assert str(tmp_path) not in json.dumps(exported)


def test_a_folder_elsewhere_is_compared_on_the_data_of_the_run_that_is_named(
    tiny_model: Path, tmp_path: Path, capsys: Any
) -> None:
    run = language_run("llama", tmp_path, tiny_model)
    elsewhere = shutil.copytree(run / "model", tmp_path / "far" / "away" / "model")
    assert "is no run's folder" in mistake(capsys, elsewhere, "--bits", 16, "--run", tmp_path)
    (elsewhere / "README.md").write_text("---\ntags: [hfscale]\n---\n# A model\n")
    record = {"repo_id": "me/gpt", "complete": False}
    (run / "push.json").write_text(json.dumps(record))
    said = export(capsys, elsewhere, "--bits", 16, "--run", run, "--output", tmp_path / "half")
    assert "base_model" not in (tmp_path / "half" / "README.md").read_text()  # there is no such repository yet
    (run / "push.json").write_text(json.dumps(record | {"complete": True}))
    exported = json.loads((tmp_path / "half" / "export.json").read_text())
    (found,) = exported["comparisons"]
    assert exported["run"] == "../run" and found["after"] == "bfloat16" and found["metric"] == "bits_per_byte"
    assert 0 < found["standard_error"] < found["metric_before"] and "standard error of the change" in said
    half, whole = (
        path.stat().st_size for folder in ("half", "run/model") for path in (tmp_path / folder).glob("*.safetensors")
    )
    assert 0.4 < half / whole < 0.6
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    assert "standard error" in export(capsys, tmp_path / "half", "--bits", 8, "--tolerance", 1)
    assert "base_model: me/gpt\nbase_model_relation: quantized" in (tmp_path / "half-8bit" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["llama", "bert", "chat"])
def test_a_language_model_as_onnx(kind: str, tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    """Documents that share a sequence are scored as by the model: one that sees others would score differently."""
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    run = language_run(kind, tmp_path, tiny_model)
    export(capsys, run, "--format", "onnx")
    exported = json.loads((run / "model-onnx" / "export.json").read_text())
    (found,) = exported["comparisons"]
    assert found["metric"] == "bits_per_byte" and 0 < found["largest_change"] < 1e-5
    assert found["metric_after"] == pytest.approx(found["metric_before"], rel=1e-6)
    if kind != "chat":  # too few batches to tell
        assert 0 <= found["standard_error"] < 1e-6 * found["metric_before"]
    masked = {"your text with MASK, the tokenizer's mask token": "the film was [MASK]"}
    text = masked if kind == "bert" else {"your text": "the film was"}
    folder = run / "model-onnx"
    said = printed_by(onnx_usage("masked" if kind == "bert" else "causal"), PATH_OR_HUB_ID=str(folder), **text)
    model = (AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM).from_pretrained(run / "model")
    tokenizer: Any = AutoTokenizer.from_pretrained(run / "model")
    with torch.no_grad():
        best = model(**tokenizer(*text.values(), return_tensors="pt")).logits[0].argmax(-1)
    next_token = tokenizer.decode(best[-1:], skip_special_tokens=True)
    assert said == (str(tokenizer.convert_ids_to_tokens(best)) if kind == "bert" else next_token)
    before = sorted(tmp_path.rglob("*"))
    words = (run, "--format", "onnx", "--tolerance", 0, "--output", tmp_path / "new")
    assert "PyTorch -> ONNX Runtime: logits change by" in mistake(capsys, *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_onnx_is_an_extra(model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "needs onnxscript: pip install 'hfscale[onnx]'" in mistake(capsys, model, "--format", "onnx")


def test_data_that_is_gone_is_said(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    run = language_run("llama", tmp_path, tiny_model)
    (tmp_path / "text.txt").unlink()
    capsys.readouterr()
    main(["export", str(run), "--bits", "4"])
    assert "can't be compared on its run's validation data: no such file or folder" in capsys.readouterr().err
    assert json.loads((run / "model-4bit" / "export.json").read_text())["comparisons"][0]["metric"] is None
