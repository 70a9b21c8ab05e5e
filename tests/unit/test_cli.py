"""`hfscale predict`: objects on standard output, mistakes in one line."""

from __future__ import annotations

import json
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
    main(["predict", str(run_folder), "--text", "good film", "bad"])
    found = objects(capsys)
    assert [item["text"] for item in found] == ["good film", "bad"]
    assert all(item["label"] in ("no", "yes") for item in found)


def test_a_file_is_read_by_the_runs_own_column(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.csv", "id,review\n1,good\n2,bad\n")
    main(["predict", str(run_folder), "--file", str(path), "--output", f"{tmp_path}/out.jsonl"])
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["good", "bad"]


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
    assert "checkpoints/best" in mistake(capsys, tmp_path, "--text", "x")
