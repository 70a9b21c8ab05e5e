"""What the README names is there."""

import re

import pytest

from tests.support.commands import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = README + "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("recipes.md", "chat.md", "seq2seq.md", "export.md", "prune.md", "compress.md", "hub.md")
)
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


def test_settings_exist() -> None:
    known = set()
    for recipe in RECIPES:
        shown = run(recipe, "--help").stdout
        blocks = re.findall(r"^ *--([a-z]+)\.help", shown, re.MULTILINE)  # those that a run has only where asked for
        pages = [shown, *(run(recipe, f"--{block}.help").stdout for block in blocks)]
        known |= {name for page in pages for name in re.findall(r"--([a-z_]+(?:\.[a-z_]+)?)", page)}
    known |= {"config_file", "num_processes", "index-url", "outfile"}  # of accelerate, pip and llama.cpp
    for command in ("predict", "plan", "export", "prune", "compress", "push", "doctor"):
        known |= set(re.findall(r"--([a-z_]+)", run("-m", "hfscale", command, "--help").stdout))
    known |= set(re.findall(r"--([a-z-]+)", run("-m", "hfscale", "slurm", "submit", "--help").stdout))
    for benchmark in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"--([a-z_]+)"', benchmark.read_text(encoding="utf-8")))
    named = set(re.findall(r"--([a-z][a-z_.-]*[a-z])", PAGES))
    assert len(named) > 10
    assert named <= known, named - known


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:recipes|docs|accelerate_configs|benchmarks|tests)/[\w/.]+\w", PAGES)))
)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
