"""Runs exported by `hfscale export --format onnx`, and the lines of their cards run without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.test_adapters import words
from tests.recipes.test_export import export, refused
from tests.recipes.test_words_and_questions import QUESTIONS, WORDS, column_file, squad
from tests.support.commands import FINETUNE_BERT, ROOT
from tests.support.snippets import printed_by
from tests.support.tiny import write_tiny_bert
from tests.support.warm import warm_run

pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")


def trained(*given: Any) -> None:
    done = warm_run(*given)
    assert done.returncode == 0, done.stdout + done.stderr


def exported(capsys: Any, run: Path, *more: Any) -> dict[str, Any]:
    """`export.json` of a run, of which nothing but its own lines was said."""
    said = export(capsys, run, "--format", "onnx", *more)
    assert {line.split()[0] for line in said.splitlines()} == {"compared", "size", "saved"}, said
    folder = run / ("model-merged-onnx" if more else "model-onnx")
    text = (folder / "export.json").read_text()
    found = json.loads(text)["comparisons"][-1]
    assert found["after"] == "ONNX Runtime" and 0 < found["largest_change"] < 1e-5
    assert found["metric_before"] == found["metric_after"]
    assert found["standard_error"] == 0
    private = [path for path in folder.iterdir() for it in (run.parent, ROOT) if str(it).encode() in path.read_bytes()]
    assert private == []
    return found


def said_by_card(folder: Path, **put: str) -> str:
    """What the lines under "Use" print, with some of their words replaced."""
    card = (folder / "README.md").read_text()
    assert card.count("## Use") == 1 and "library_name: onnx" in card
    return printed_by(card, PATH_OR_HUB_ID=str(folder), **put)


@pytest.mark.slow
def test_an_adapter_becomes_onnx_once_it_is_merged(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("peft", reason="needs the extra `peft`")
    run = tmp_path / "run"
    trained(*words(tmp_path, "--lora.r", 4, "--train.max_steps", 6, "--train.output_dir", run))
    before = sorted(run.rglob("*"))
    assert "holds an adapter, which --format onnx can't write alone; add --merge" in refused(
        capsys, run, "--format", "onnx"
    )
    assert "--tolerance 0 allows" in refused(capsys, run, "--merge", "--format", "onnx", "--tolerance", 0)
    assert sorted(run.rglob("*")) == before
    assert exported(capsys, run, "--merge")["inputs"] == "50 validation examples of rows.csv"
    from hfscale.cli import main

    main(["predict", str(run), "--text", "a fine film"])
    label = json.loads(capsys.readouterr().out)["label"]
    assert said_by_card(run / "model-merged-onnx", **{"your text": "a fine film"}) == label


@pytest.mark.slow
def test_words_and_questions(tmp_path: Path, capsys: Any) -> None:
    write_tiny_bert(tmp_path / "bert", dropout=0.0)
    (tmp_path / "train.txt").write_text(column_file(200, seed=0))
    (tmp_path / "train.json").write_text(json.dumps(squad(100, seed=0)))
    shared = (FINETUNE_BERT, "--model.name", tmp_path / "bert", "--optim.lr", "3e-3", "--train.max_steps", 10)
    trained(*shared, *WORDS, "--data.train", tmp_path / "train.txt", "--train.output_dir", tmp_path / "tags")
    trained(*shared, *QUESTIONS, "--data.train", tmp_path / "train.json", "--train.output_dir", tmp_path / "spans")
    assert exported(capsys, tmp_path / "tags")["metric"] == "f1"
    tags = said_by_card(tmp_path / "tags" / "model-onnx", **{"your text": "the film was very good"})
    assert tags.startswith("[('[CLS]', ") and "('good', '" in tags
    assert exported(capsys, tmp_path / "spans")["metric"] == "f1"
    context = "the film was good and slow"
    put = {"your question": "bad", "the context that answers it": context}
    assert said_by_card(tmp_path / "spans" / "model-onnx", **put) in context


@pytest.mark.slow
def test_the_cnn_and_the_rnn(tmp_path: Path, capsys: Any) -> None:
    from PIL import Image
    from transformers import pipeline

    cnn, rnn = tmp_path / "cnn", tmp_path / "rnn"
    for run in (cnn, rnn):
        trained(ROOT / "recipes" / f"train_{run.name}.py", "--train.max_steps", 20, "--train.output_dir", run)
    assert "which --bits has no effect; it takes --format onnx alone" in refused(capsys, cnn, "--bits", 4)
    assert exported(capsys, cnn)["inputs"] == "131 validation images of builtin:digits"
    picture = str(cnn / "example.png")
    (best, *_) = pipeline("image-classification", str(cnn / "model"), trust_remote_code=True)(Image.open(picture))
    assert said_by_card(cnn / "model-onnx", **{"image.png": picture}) == best["label"]
    assert exported(capsys, rnn)["inputs"] == "100 validation examples of builtin:tickets"
    best = pipeline("text-classification", str(rnn / "model"), trust_remote_code=True)("where is my card?")[0]
    assert said_by_card(rnn / "model-onnx", **{"your text": "where is my card?"}) == best["label"]
