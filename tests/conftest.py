"""The environment of every test and of the processes it starts: no Hub, caches of its own, no launcher around it.

It is set before anything heavy is imported, because the Hugging Face libraries read it when they are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_HOME = tempfile.mkdtemp(prefix="hfscale-tests-")
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HOME=_HOME,
    HF_DATASETS_CACHE=os.path.join(_HOME, "datasets"),
    TOKENIZERS_PARALLELISM="false",
)
# What a launcher or a shell around pytest left behind would change what the tests see.
for _name in ("OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS"):
    os.environ.pop(_name, None)
for _name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
    del os.environ[_name]


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT of 2 layers with its tokenizer; not to be changed."""
    from tests.support.tiny import write_tiny_bert

    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model: Path):
    """A fresh look at the tokenizer of `tiny_model`: 64 positions, words of `tests.support.tiny.WORDS`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def hub() -> Generator[Any]:
    """A Hub of our own (`tests.support.hub.LoopbackHub`), empty."""
    from tests.support.hub import LoopbackHub

    with LoopbackHub() as made:
        yield made
