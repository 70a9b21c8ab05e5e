"""The recipe as a user runs it: it learns, splits over processes, and ends every mistake in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.support.commands import DDP, ROOT, assert_one_line, launch, records, result, run
from tests.support.pictures import bars, idx_bytes, write_folder, write_mnist
from tests.support.warm import warm_run

TRAIN_CNN = ROOT / "recipes" / "train_cnn.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def train(folder: Path, *flags: Any) -> Any:
    finished = warm_run(TRAIN_CNN, "--train.output_dir", folder / "run", *flags)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not finished.stderr, finished.stderr
    return finished


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/` and `test/` with class folders of 12x12 pixels, and `mnist/`."""
    folder = tmp_path_factory.mktemp("pictures")
    write_folder(folder / "train", *bars(300))
    write_folder(folder / "test", *bars(60, seed=1))
    write_mnist(folder / "mnist", bars(40), bars(10, seed=1))
    return folder


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--data.train", pictures / "train", "--data.test", pictures / "test", "--augment.shift", "0.1"]
    return folder / "run", train(folder, *flags, "--train.epochs", "10")


def test_learns_and_beats_the_majority(trained: tuple[Path, Any]) -> None:
    values = result(trained[0])
    assert values["metrics"]["accuracy"] > 0.95
    assert set(values["baselines"]) == {"majority", "logistic"}
    assert values["metrics"]["accuracy"] > values["baselines"]["majority"]["accuracy"] + 0.3
    assert values["num_examples"]["test"] == 60
    assert values["held_out"] == "test"
    assert values["tokens_per_second"] is None
    losses = [record["loss"] for record in records(trained[0])]
    assert losses[0] == pytest.approx(np.log(2), abs=0.3)


def test_run_folder_can_be_tried_and_published(trained: tuple[Path, Any], pictures: Path) -> None:
    run_folder, finished = trained
    card = (run_folder / "model" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["pipeline_tag"] == "image-classification"
    assert f"{result(run_folder)['metrics']['accuracy']:.4f}" in card and "shift 0.1" in card
    for path in (run_folder / "model").iterdir():
        if path.suffix in (".json", ".md"):
            assert str(pictures) not in path.read_text(), path.name
    command = next(line for line in finished.stdout.splitlines() if line.startswith("try it"))
    code = command.partition("python -c ")[2].strip("'")
    tried = run("-c", code, env={**ONE_THREAD, "HF_MODULES_CACHE": str(run_folder / "modules")})
    assert tried.returncode == 0, tried.stderr
    assert "standing" in tried.stdout and "lying" in tried.stdout


def test_the_same_seed_gives_the_same_bits(trained: tuple[Path, Any], tmp_path: Path) -> None:
    train(tmp_path, "--config", trained[0] / "config.yaml")
    assert [r["loss"] for r in records(tmp_path / "run")] == [r["loss"] for r in records(trained[0])]


def test_continues_from_a_run(trained: tuple[Path, Any], pictures: Path, tmp_path: Path) -> None:
    flags = ["--data.train", pictures / "train", "--data.test", pictures / "test", "--baselines", "false"]
    train(tmp_path, "--model.name", trained[0], *flags, "--train.max_steps", "2", "--optim.lr", "1e-9")
    before, after = result(trained[0])["metrics"], result(tmp_path / "run")["metrics"]
    assert after == pytest.approx(before, abs=1e-4)


def test_bad_images_that_are_left_out_spoil_no_others(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "train", tmp_path / "train")
    for path in sorted((tmp_path / "train" / "lying").iterdir())[3:6]:
        path.write_bytes(b"no image")
    flags = ["--data.train", tmp_path / "train", "--data.test", pictures / "test", "--data.bad_rows", "skip"]
    finished = warm_run(TRAIN_CNN, "--train.output_dir", tmp_path / "run", *flags, "--train.epochs", "10")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line.startswith("warning: left out 3 of 300 rows")
    assert result(tmp_path / "run")["metrics"]["accuracy"] > 0.95


@pytest.mark.parametrize("split", ["micro-batches", "processes"])
def test_no_split_changes_the_training(pictures: Path, tmp_path: Path, split: str) -> None:
    words = [TRAIN_CNN, "--data.train", pictures / "mnist", "--augment.rotate", "20", "--augment.erase", "0.5"]
    words += ["--train.max_steps", "4", "--baselines", "false", "--train.output_dir"]
    whole = warm_run(*words, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    if split == "processes":
        parts = launch(DDP, *words, tmp_path / "parts")
    else:
        parts = warm_run(*words, tmp_path / "parts", "--train.micro_batch_size", "8")
    assert parts.returncode == 0, parts.stdout + parts.stderr
    assert result(tmp_path / "parts")["num_processes"] == (2 if split == "processes" else 1)
    ours, its = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    for name, weight in ours.items():
        np.testing.assert_allclose(its[name], weight, atol=2e-4, err_msg=name)
    for one, other in zip(records(tmp_path / "whole"), records(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.fixture(scope="module")
def bad(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    shutil.copytree(pictures / "train", folder / "corrupt")
    (folder / "corrupt" / "lying" / "broken.png").write_bytes(b"no image")
    write_folder(folder / "sizes", *bars(6))
    write_folder(folder / "sizes" / "more", *bars(6, size=9))
    (folder / "hole" / "empty").mkdir(parents=True)
    write_folder(folder / "splits" / "train", *bars(6))
    write_folder(folder / "splits" / "test", *bars(6))
    (folder / "none").mkdir()
    images, labels = bars(10)
    (folder / "cut-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08cut")
    (folder / "few-images-idx3-ubyte").write_bytes(idx_bytes(images[:9, ..., 0]))
    for name in ("cut", "few"):
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


CASES: dict[str, tuple[list[str], list[str]]] = {
    "corrupt image": (["--data.train", "{b}/corrupt"], ["broken.png", "--data.bad_rows skip"]),
    "several sizes": (["--data.train", "{b}/sizes"], ["12x12", "9x9", "--data.image_size"]),
    "empty class": (["--data.train", "{b}/hole"], ["hole/empty", "no image"]),
    "splits in a folder": (["--data.train", "{b}/splits"], ["(test, train)", "--data.train", "--data.test"]),
    "no images": (["--data.train", "{b}/none"], ["no class folders", "CLASS_NAME/*.png"]),
    "corrupt gz": (["--data.train", "{b}/cut-images-idx3-ubyte.gz"], ["cut-images", "corrupt gzip"]),
    "images without labels": (["--data.train", "{b}/few-images-idx3-ubyte"], ["9 images", "10 labels"]),
    "missing folder": (["--data.train", "{b}/splitz/"], ["no such file or folder", "did you mean"]),
    "Hub without network": (["--data.train", "someone/some-images"], ["someone/some-images", "Hub"]),
    "column of a folder": (["--data.label", "fine"], ["--data.label has no effect"]),
    "impossible augmentation": (["--augment.crop", "1"], ["--augment.crop", "[0, 1)"]),
    "misspelt augmentation": (["--augment.rotation", "10"], ["augment.rotation", "did you mean augment.rotate"]),
    "too many layers": (["--model.conv_channels", "[8,8,8]"], ["8x8", "--model.conv_channels"]),
    "shape of a loaded model": (["--model.name", "x", "--model.dropout", "0.1"], ["--model.dropout", "no effect"]),
    "missing model": (["--model.name", "./nowhere"], ["no such model folder: ./nowhere"]),
    "unknown metric": (["--train.best_metric", "top5"], ["--train.best_metric top5", "accuracy"]),
    "smoothing": (["--label_smoothing", "1"], ["--label_smoothing", "[0, 1)"]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_one_line(bad: Path, tmp_path: Path, case: str) -> None:
    flags, parts = CASES[case]
    words = [flag.format(b=bad) for flag in flags]
    finished = warm_run(TRAIN_CNN, "--train.output_dir", tmp_path / "run", *words)
    assert_one_line(finished, *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "configs" / "train_cnn").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_settings_are_understood(path: Path) -> None:
    finished = run(TRAIN_CNN, "--config", path, "--print_config")
    assert finished.returncode == 0, finished.stderr
    given, resolved = yaml.safe_load(path.read_text()), yaml.safe_load(finished.stdout)
    for block, values in given.items():
        found = resolved[block]
        assert ({name: found[name] for name in values} if isinstance(values, dict) else found) == values


def test_result_has_the_keys_of_every_recipe(trained: tuple[Path, Any]) -> None:
    from tests.recipes.test_finetune_bert import RESULT_KEYS

    assert json.loads((trained[0] / "result.json").read_text()).keys() >= RESULT_KEYS
