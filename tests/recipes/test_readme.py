"""What the README names is there."""

import re

import pytest

from tests.support.commands import FINETUNE_BERT, ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_exist() -> None:
    known = set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)?)", run(FINETUNE_BERT, "--help").stdout))
    known |= {"config_file", "num_processes", "index-url"}  # of accelerate and pip
    known |= set(re.findall(r"--([a-z_]+)", run("-m", "hfscale", "predict", "--help").stdout))
    benchmark = (ROOT / "benchmarks" / "finetune_throughput.py").read_text(encoding="utf-8")
    known |= set(re.findall(r'"--([a-z_]+)"', benchmark))
    named = set(re.findall(r"--([a-z][a-z_.-]*[a-z])", README))
    assert len(named) > 10
    assert named <= known, named - known


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:recipes|docs|accelerate_configs|benchmarks|tests)/[\w/.]+\w", README)))
)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
