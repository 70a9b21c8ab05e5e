"""Running recipes in children of a process that has imported the heavy libraries already: a second each, not many.

With hooks that a test can set into the run (`tests.support.hooks`).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.commands import ROOT
from tests.support.hooks import HOOKS

_PRELOADED = [
    "torch", "transformers", "datasets", "accelerate", "sklearn.linear_model", "tests.support.warm",
    "hfscale.runs.folder", "hfscale.training.loop", "hfscale.evaluation.score", "hfscale.models.text",
    "hfscale.models.language", "hfscale.models.image", "matplotlib.pyplot", "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
]  # fmt: skip
_context: Any = None


class WarmRun:
    """A recipe that runs, with hooks: `pid`, and `wait` for what `subprocess.run` would return."""

    def __init__(self, words: tuple[Any, ...], log: Path, hooks: dict[str, Any]) -> None:
        global _context
        if _context is None:
            _context = multiprocessing.get_context("forkserver")
            _context.set_forkserver_preload(_PRELOADED)
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        arguments = ([str(word) for word in words], str(self._out), str(self._err), hooks)
        self._process = _context.Process(target=_child, args=arguments)
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # for models this small more threads only wait for each other
        try:
            self._process.start()  # the first one starts the server, which keeps this environment
        finally:
            del os.environ["OMP_NUM_THREADS"]
            os.environ.update({} if before is None else {"OMP_NUM_THREADS": before})
        self.pid: int = self._process.pid

    def ended(self) -> bool:
        return not self._process.is_alive()

    def wait(self, timeout: float = 120) -> Any:
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(self._out.read_text() + self._err.read_text())
        return SimpleNamespace(
            returncode=self._process.exitcode, stdout=self._out.read_text(), stderr=self._err.read_text()
        )


def warm_run(*words: Any) -> Any:
    """A recipe with these flags, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        return WarmRun(words, Path(folder) / "log", {}).wait(240)


def _child(words: list[str], out: str, err: str, hooks: dict[str, Any]) -> None:
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
    os.chdir(ROOT)
    sys.argv = words
    sys.path.insert(0, str(ROOT))
    for name, value in hooks.items():
        HOOKS[name](value)
    status = 0
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
