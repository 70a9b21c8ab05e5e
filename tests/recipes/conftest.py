"""A run to push, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run whose weights take 2 MiB, trained on files of this machine."""
    folder = tmp_path_factory.mktemp("trained")
    rows, model = write_csv(folder / "rows.csv", reviews(40)), write_tiny_bert(folder / "bert", intermediate_size=4096)
    words = [ROOT / "recipes" / "finetune_bert.py", "--model.name", model, "--data.train", rows]
    done = warm_run(*words, "--train.max_steps", 3, "--baselines", "false", "--train.output_dir", folder / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.fixture
def run_folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))
