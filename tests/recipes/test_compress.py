"""`hfscale compress` on a run as a user makes it: what it measures, says and leaves, and that its advice works."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from hfscale.cli import main
from tests.support.commands import ROOT, result
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run

NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = write_csv(folder / "rows.csv", reviews(300))
    given = ["--model.name", write_tiny_bert(folder / "bert"), "--data.train", rows, "--train.max_steps", 60]
    given += ["--optim.lr", "5e-3", "--baselines", "false", "--train.output_dir", folder / "run"]
    finished = warm_run(ROOT / "recipes" / "finetune_bert.py", *given)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "run"


def mistake(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["compress", *map(str, words)])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    return printed


@NEEDS_BITS
@pytest.mark.slow
def test_every_choice_is_measured_and_the_command_makes_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prune", str(run), "--sparsity", "0.75", "--examples", "64"])
    capsys.readouterr()
    before = sorted(run.rglob("*"))
    given = ["--also", str(run.with_name("run-pruned")), str(run.parent / "bert"), "--sparsity", "0.5"]
    main(["compress", str(run), *given, "--tolerance", "100"])
    printed = capsys.readouterr().out
    left = {path.name for path in (run / "compress").iterdir()}
    assert left == {"compress.json", "compress.md", "compress.png"}
    assert sorted(path for path in run.rglob("*") if (run / "compress") not in (path, *path.parents)) == before
    values = json.loads((run / "compress" / "compress.json").read_text())
    rows = {row["name"]: row for row in values["choices"]}
    assert list(rows) == ["full", "bfloat16", "8 bits", "4 bits", "pruned 0.5", "run-pruned", "bert"]
    other = rows.pop("bert")
    assert "holds a BertModel" in other["note"] and other["points"] is None
    told = result(run)["metrics"]
    assert values["inputs"].endswith(" validation examples of rows.csv")
    assert rows["full"]["metrics"]["accuracy"] == pytest.approx(told["accuracy"], abs=1e-6)
    for row in rows.values():
        assert 0 < row["latency_median_ms"] <= row["latency_p95_ms"] and row["examples_per_second"] > 0
        assert 0 <= row["points_error"] < 20 and row["held_bytes"] >= 0 and row["disk_bytes"] > 0
        assert f"{row['metrics']['accuracy']:.4f}" in printed
    assert rows["full"]["points"] == 0 and rows["full"]["threads"] >= 1 and values["device"] == "cpu"
    assert 0.4 < rows["bfloat16"]["disk_bytes"] / rows["full"]["disk_bytes"] < 0.6
    assert rows["run-pruned"]["num_parameters"] < rows["pruned 0.5"]["num_parameters"] < rows["full"]["num_parameters"]
    assert "no recovery" in rows["pruned 0.5"]["note"]
    with Image.open(run / "compress" / "compress.png") as picture:
        assert picture.size == (900, 450)
    advice = [row for row in values["recommended"] if row["command"]]
    assert advice and all(f"with       {row['command']}" in printed for row in advice)
    main(shlex.split(advice[0]["command"])[1:])
    assert "saved      " in capsys.readouterr().out
    assert "exists already" in mistake(capsys, run)


def test_what_is_missing_is_a_row_and_models_are_kept_where_wanted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    main(["compress", str(run), "--sparsity", "--keep", "--output", str(tmp_path / "kept")])
    assert (
        "left out   8 bits: quantization needs bitsandbytes: pip install 'hfscale[quant]'" in capsys.readouterr().out
    )
    values = json.loads((tmp_path / "kept" / "compress.json").read_text())
    rows = {row["name"]: row for row in values["choices"]}
    assert list(rows) == ["full", "bfloat16", "8 bits", "4 bits"]
    assert "hfscale[quant]" in rows["4 bits"]["note"] and "latency_median_ms" not in rows["4 bits"]
    kept = [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]
    assert [path.name for path in kept] == ["16-bits"] and (kept[0] / "model.safetensors").is_file()


def test_mistakes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(run, tmp_path / "whole", ignore=shutil.ignore_patterns("compress"))
    assert "no such folder" in mistake(capsys, tmp_path / "none")
    assert "is no run's folder" in mistake(capsys, run / "model")
    assert "--sparsity must be between 0 and 1, got 1.5" in mistake(capsys, run, "--sparsity", 1.5)
    assert "--tolerance must be a number" in mistake(capsys, run, "--tolerance", "nan")
    assert "exists already" in mistake(capsys, run, "--output", run)
    assert "--base has no effect" in mistake(capsys, run, "--base", "builtin:minilm")
    assert "no such folder" in mistake(capsys, run, "--also", tmp_path / "gone")
    unfinished = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    assert "has not finished" in mistake(capsys, unfinished)
    gone = shutil.copytree(run, tmp_path / "gone")
    config = (gone / "config.yaml").read_text()
    (gone / "config.yaml").write_text(config.replace("rows.csv", "away.csv"))
    line = mistake(capsys, gone)
    assert "can't be measured on its validation rows: no such file" in line and not (gone / "compress").exists()
    (gone / "config.yaml").write_text(config.replace("validation_fraction: null", "validation_fraction: 0.0"))
    assert "the run held none out" in mistake(capsys, gone)
