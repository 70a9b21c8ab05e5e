"""Help answers at once, `import hfscale` needs no torch, and stages import only what comes before them."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.commands import FINETUNE_BERT, ROOT, run

HEAVY = {"torch", "transformers", "datasets"}


def test_import_without_torch() -> None:
    code = "import sys, hfscale; from hfscale import data, models, training; print(*sys.modules)"
    finished = run("-c", code)
    assert finished.returncode == 0, finished.stderr
    assert not HEAVY & set(finished.stdout.split())


def test_help_without_torch() -> None:
    code = (
        f"import sys, runpy; sys.argv = ['finetune_bert.py', '--help']\n"
        f"try: runpy.run_path({str(FINETUNE_BERT)!r}, run_name='__main__')\n"
        "except SystemExit: print('MODULES', *sys.modules)"
    )
    help_text, modules = run("-c", code).stdout.split("MODULES")
    assert "--optim.lr" in help_text
    assert not HEAVY & set(modules.split())


def test_help_is_quick() -> None:
    """A generous bound for a loaded machine: about 0.2 s on an idle one, and many seconds once torch is imported."""
    best = min(_seconds(FINETUNE_BERT, "--help") for _ in range(3))
    assert best < 2


def _seconds(*words: Path | str) -> float:
    start = time.perf_counter()
    assert run(*words).returncode == 0
    return time.perf_counter() - start


def test_import_rules() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_lazy_names_all_resolve() -> None:
    code = (
        "import hfscale\n"
        "for stage in ('data', 'models', 'training', 'evaluation', 'compression', 'launch', 'hub'):\n"
        "    module = getattr(hfscale, stage)\n"
        "    for name in module.__all__: getattr(module, name)"
    )
    finished = run("-c", code)
    assert finished.returncode == 0, finished.stderr
