"""FSDP2 on two processes over gloo: accelerate shares nothing out on a CPU, so torch's `fully_shard` is applied here
as accelerate does on GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.commands import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def train(folder: Path, kind: str, processes: int, **more: Any) -> dict[str, Any]:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", processes, "--standalone"]
    words += ["-m", "tests.support.fully_sharded", json.dumps({"folder": str(folder), "kind": kind, **more})]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [str(word) for word in words], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "found.pt", weights_only=True)


def assert_equal(found: Any, expected: Any) -> None:
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["norms"] == pytest.approx(expected["norms"], abs=1e-5, rel=1e-5)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_fully_sharded_training_is_the_same_training(tmp_path: Path, kind: str) -> None:
    for name in ("alone", "two", "resumed", "resumed_alone"):
        (tmp_path / name).mkdir()
    alone = train(tmp_path / "alone", kind, 1)
    two = train(tmp_path / "two", kind, 2)
    assert_equal(two, alone)
    assert two["shares"][0] + two["shares"][1] == pytest.approx(alone["shares"][0], rel=0.02)
    assert max(two["shares"]) < 0.6 * alone["shares"][0]
    assert_equal(train(tmp_path / "resumed", kind, 2, resume=str(tmp_path / "alone")), alone)
    assert_equal(train(tmp_path / "resumed_alone", kind, 1, resume=str(tmp_path / "two")), alone)
