"""Running recipes in children of a process that has imported the heavy libraries already: a second each, not many.

With hooks that a test can set into the run: traces of what it learns from, signals at given places, slow disks.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.commands import ROOT

_PRELOADED = [
    "torch", "transformers", "datasets", "accelerate", "sklearn.linear_model", "tests.support.warm",
    "hfscale.runs.folder", "hfscale.training.loop", "hfscale.evaluation.score", "hfscale.models.text",
    "hfscale.models.language", "hfscale.models.image", "matplotlib.pyplot", "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
]  # fmt: skip
_context: Any = None


class WarmRun:
    """A recipe that runs: `pid`, and `wait` for what `subprocess.run` would return."""

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

    def wait(self, timeout: float = 120) -> Any:
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            raise TimeoutError(self._out.read_text() + self._err.read_text())
        return SimpleNamespace(
            returncode=self._process.exitcode, stdout=self._out.read_text(), stderr=self._err.read_text()
        )


def warm_run(log: Path, *words: Any, **hooks: Any) -> Any:
    """Run a recipe with these flags and hooks (see `_HOOKS`) to its end."""
    return WarmRun(words, log, hooks).wait()


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
        _HOOKS[name](value)
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


def _trace(path: str) -> None:
    """Append a line with the row numbers of every optimizer step that begins."""
    from hfscale.training import loop

    def traced(accelerator: Any, model: Any, optimizer: Any, micro_batches: Any, *rest: Any) -> Any:
        with open(path, "a") as file:
            file.write(json.dumps([list(batch.indices) for batch in micro_batches]) + "\n")
        return inner(accelerator, model, optimizer, micro_batches, *rest)

    inner, loop.train_step = loop.train_step, traced


def _signal_in_training(place: tuple[str, int]) -> None:
    """(name of the signal, how many forward passes of training before it)."""
    from hfscale.training import step

    step.send_to_device = _signalling(step.send_to_device, *place)


def _signal_in_evaluation(place: tuple[str, int]) -> None:
    """(name of the signal, how many forward passes of evaluation before it)."""
    from hfscale.evaluation import score

    score.send_to_device = _signalling(score.send_to_device, *place)


def _signalling(inner: Callable[..., Any], name: str, number: int) -> Callable[..., Any]:
    seen = 0

    def counted(*args: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen > number:
            seen = -(10**9)
            os.kill(os.getpid(), getattr(signal, name))
        return inner(*args)

    return counted


def _slow_disk(seconds: float) -> None:
    """Every file takes so long to reach the disk."""
    from hfscale import files

    def slow(path: Path) -> None:
        time.sleep(seconds)
        inner(path)

    inner, files.sync = files.sync, slow


def _slow_steps(seconds: float) -> None:
    from hfscale.training import step

    def slow(*args: Any) -> Any:
        time.sleep(seconds)
        return inner(*args)

    inner, step.send_to_device = step.send_to_device, slow


def _environment(values: dict[str, str]) -> None:
    os.environ.update(values)


_HOOKS: dict[str, Callable[[Any], None]] = {
    "trace": _trace,
    "signal_in_training": _signal_in_training,
    "signal_in_evaluation": _signal_in_evaluation,
    "slow_disk": _slow_disk,
    "slow_steps": _slow_steps,
    "environment": _environment,
}
