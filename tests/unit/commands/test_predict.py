"""`hfscale predict`: objects on standard output, mistakes in one line."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest

from hfscale.cli import main
from hfscale.models import load_text_classifier, save_text_classifier
from hfscale.schemas import ModelSettings
from tests.support.rows import write


@pytest.fixture(scope="module")
def run_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    task = "single_label_classification"
    classifier = load_text_classifier(ModelSettings(name=str(tiny_model)), task, ["no", "yes"], 0)
    save_text_classifier(classifier, folder / "model")
    (folder / "config.yaml").write_text("data: {train: x.csv, text: review, bad_rows: skip, max_length: 16}\n")
    return folder


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def mistake(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, words)])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    return printed


def test_texts(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["predict", str(run_folder), "--text", "good film", "bad", "--text", "well"])
    found = objects(capsys)
    assert [item["text"] for item in found] == ["good film", "bad", "well"]
    assert all(item["label"] in ("no", "yes") for item in found)


def test_a_file_is_read_by_the_runs_own_column(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", "id,review\n1,good\n2,bad\n")
    for number, folder in enumerate((run_folder, run_folder / "model")):
        main(["predict", str(folder), "--file", str(path), "--output", f"{tmp_path}/out{number}.jsonl"])
        lines = (tmp_path / f"out{number}.jsonl").read_text().splitlines()
        assert [json.loads(line)["text"] for line in lines] == ["good", "bad"]


@pytest.mark.parametrize("ending, delimiter", [(".CSV", ","), (".tsv", "\t")])
def test_a_table(run_folder: Path, tmp_path: Path, ending: str, delimiter: str) -> None:
    texts = ['good, "very"\tgood', "caf\xe9\nbad"]
    main(["predict", str(run_folder), "--output", f"{tmp_path}/out{ending}", "--text", *texts])
    main(["predict", str(run_folder), "--output", f"{tmp_path}/out.jsonl", "--text", *texts])
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    with (tmp_path / f"out{ending}").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    assert rows == [
        {**{name: each[name] for name in ("text", "label")}, "score": str(each["score"])} for each in expected
    ]


def test_what_fits_into_no_table(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, names in (("token_classification", ["O", "B-X"]), ("multi_label_classification", ["a", "b"])):
        classifier = load_text_classifier(ModelSettings(name=str(tiny_model)), task, names, 0)  # type: ignore[arg-type]
        save_text_classifier(classifier, tmp_path / task)
        capsys.readouterr()
        printed = mistake(capsys, tmp_path / task, "--output", tmp_path / "out.csv", "--text", "good")
        assert "doesn't fit into one row" in printed and printed.endswith(f"name it {tmp_path}/out.jsonl\n")
        assert not (tmp_path / "out.csv").exists()


def test_another_column(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", "id,body\n1,good\n")
    main(["predict", str(run_folder), "--file", str(path), "--column", "body"])
    assert [item["text"] for item in objects(capsys)] == ["good"]


def test_standard_output_holds_objects_alone(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.txt", "good\nbad\n")
    main(["predict", str(run_folder), "--file", str(path)])
    assert [item["text"] for item in objects(capsys)] == ["good", "bad"]


def test_mistakes(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", "id,body\n1,good\n")
    assert "no such folder: nowhere" in mistake(capsys, "nowhere", "--text", "x")
    assert "holds no model" in mistake(capsys, tmp_path, "--text", "x")
    assert "--batch_size must be at least 1" in mistake(capsys, run_folder, "--text", "x", "--batch_size", "0")
    assert "--column has no effect without --file" in mistake(capsys, run_folder, "--text", "x", "--column", "y")
    assert "--encoding has no effect without --file" in mistake(
        capsys, run_folder, "--text", "x", "--encoding", "latin-1"
    )
    assert "has no column review" in mistake(capsys, run_folder, "--file", path)
    assert "no such file" in mistake(capsys, run_folder, "--file", tmp_path / "b.csv")
    assert "folder doesn't exist" in mistake(capsys, run_folder, "--text", "x", "--output", tmp_path / "no" / "out")
    assert "exists already" in mistake(capsys, run_folder, "--text", "x", "--output", path)
    gap = write(tmp_path / "gap.csv", "review\ngood\n \n")
    printed = mistake(capsys, run_folder, "--file", gap)
    assert "gap.csv line 3: no text" in printed and "--data" not in printed


def test_settings_that_the_file_does_not_heed(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, text = write(tmp_path / "a.jsonl", '{"review": "good"}\n'), write(tmp_path / "a.txt", "good\n")
    for path in (lines, text):
        for name, value in (("delimiter", ";"), ("columns", "a"), ("quoting", "false"), ("quoting", "true")):
            printed = mistake(capsys, run_folder, "--file", path, f"--{name}", value)
            assert f"--{name} has no effect on {path}" in printed


def test_a_model_without_a_trained_head_is_refused(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no trained classifier" in mistake(capsys, tiny_model, "--text", "x")


def test_too_many_columns(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", "a,b,c\n1,2,3\n")
    mistake(capsys, run_folder, "--file", path, "--column", "a", "b", "c")


def test_a_new_file_need_not_be_like_the_training_file(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id;review\n1;caf\xe9\n".encode("latin-1"))
    printed = mistake(capsys, run_folder, "--file", path)
    assert "--delimiter ';'" in printed and "--data" not in printed
    main(["predict", str(run_folder), "--file", str(path), "--delimiter", ";", "--encoding", "latin-1"])
    assert [item["text"] for item in objects(capsys)] == ["caf\xe9"]


def test_a_run_that_did_not_finish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("data: {text: text}\n")
    for step in (5, 12):
        (tmp_path / "checkpoints" / f"best-{step:06d}").mkdir(parents=True)
    assert "its best model so far is in" in (said := mistake(capsys, tmp_path, "--text", "x"))
    assert "checkpoints/best-000012" in said


def with_config(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


CODE = """
import os, pathlib
pathlib.Path(os.environ["MARK"]).touch()
from transformers import BertConfig, BertForSequenceClassification
class OwnConfig(BertConfig):
    model_type = "own_bert"
class Own(BertForSequenceClassification):
    config_class = OwnConfig
"""


def test_code_of_a_run_folder_runs_only_if_asked_for(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "it ran"))
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "model" / "config.json"
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.Own"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own_bert", "auto_map": own}))
    (tmp_path / "run" / "model" / "own.py").write_text(CODE)
    (tmp_path / "run" / "config.yaml").write_text("model: {trust_remote_code: true}\ndata: {text: text}\n")
    printed = mistake(capsys, tmp_path / "run", "--text", "good")
    assert printed.rstrip().endswith("if you trust its author, pass --trust_remote_code")
    assert not (tmp_path / "it ran").exists()
    main(["predict", str(tmp_path / "run"), "--trust_remote_code", "--text", "good"])
    assert objects(capsys)[0]["label"] in ("no", "yes")
    assert (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "config", [{"model_type": "hfscale_cnn"}, {"model_type": "vit", "architectures": ["ViTForImageClassification"]}]
)
def test_an_image_model_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, object]
) -> None:
    with_config(tmp_path / "a run" / "model", **config)
    printed = mistake(capsys, tmp_path / "a run", "--text", "x")
    assert "holds an image model" in printed
    *_, python, option, code = shlex.split(printed)
    pipe = f'pipeline("image-classification", "{tmp_path}/a run/model", trust_remote_code=True)("image.png")'
    assert (python, option) == ("python", "-c") and pipe in code
    compile(code, "shown", "exec")


@pytest.mark.parametrize(
    "architecture, task",
    [
        ("GPT2LMHeadModel", "text-generation"),
        ("LlamaForCausalLM", "text-generation"),
        ("BertForMaskedLM", "fill-mask"),
    ],
)
def test_a_language_model_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], architecture: str, task: str
) -> None:
    folder = with_config(tmp_path / "model", model_type="x", architectures=[architecture])
    printed = mistake(capsys, folder, "--text", "x")
    assert "holds a language model" in printed
    assert f'pipeline("{task}", "{folder}")' in printed and f"--model.name {folder}" in printed


@pytest.mark.parametrize("settings", ["data: {text: [question, context]}", "data: {text: [a, b]}"])
def test_half_a_pair_is_no_text(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str
) -> None:
    (tmp_path / "config.yaml").write_text(settings)
    (tmp_path / "model").symlink_to(run_folder / "model")
    for texts in (("", "b"), ("a", " ")):
        assert "--text is empty" in mistake(capsys, tmp_path, "--text", *texts)
    assert "give --text FIRST SECOND" in mistake(capsys, tmp_path, "--text", "a")


def test_a_question_without_a_context_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = load_text_classifier(ModelSettings(name=str(tiny_model)), "question_answering", ["start", "end"], 0)
    save_text_classifier(classifier, tmp_path / "model")
    assert "--text is empty" in mistake(capsys, tmp_path / "model", "--text", "what film", " ")
