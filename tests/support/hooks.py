"""What a test can set into a run: traces of what it learns from, signals at given places, slow disks.

As a script: `python -m tests.support.hooks JSON RECIPE [FLAGS]` runs the recipe with the hooks that JSON names.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    _before_forward_passes(_signalling(lambda: None, *place))


def _signal_in_evaluation(place: tuple[str, int]) -> None:
    """(name of the signal, how many forward passes of evaluation before it)."""
    from hfscale.evaluation import score

    score.send_to_device = _signalling(score.send_to_device, *place)


def _signal_in_language_evaluation(place: tuple[str, int]) -> None:
    from hfscale.evaluation import language

    language.send_to_device = _signalling(language.send_to_device, *place)


def _hang_in_training(forward_passes: int) -> None:
    """Never come back from this forward pass."""
    seen = 0

    def hang() -> None:
        nonlocal seen
        seen += 1
        if seen > forward_passes:
            time.sleep(600)

    _before_forward_passes(hang)


def _crash_in_training(place: tuple[int, int]) -> None:
    """(rank of the process, how many forward passes before it meets a bug)."""
    rank, number = place
    seen = 0

    def crash() -> None:
        nonlocal seen
        seen += 1
        if seen > number and os.environ.get("RANK", "0") == str(rank):
            raise RuntimeError("a bug of this test")

    _before_forward_passes(crash)


def _signal_before_training(name: str) -> None:
    """While the model is loaded."""
    from hfscale.models import text

    text.locate_model = _signalling(text.locate_model, name, 0)


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


def _fill_disk(place: tuple[str, int, int]) -> None:
    """(a folder on a disk, how many forward passes of training before it is filled, bytes that are left free)."""
    folder, number, left = place
    seen = 0

    def fill() -> None:
        nonlocal seen
        seen += 1
        if seen == number + 1:
            disk = os.statvfs(folder)
            Path(folder, "filler").write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - left)))

    _before_forward_passes(fill)


def _count_shares(folder: str) -> None:
    """Write how many numbers this DeepSpeed process holds after the last step: of weights, and of AdamW's two moments.

    To a file of its own: what two processes print into one pipe can end up on one line.
    """
    from hfscale.training import loop

    def counted(self: Any) -> None:
        inner(self)
        weights = [getattr(parameter, "ds_tensor", parameter) for parameter in self.model.parameters()]
        state = self.optimizer.optimizer.optimizer.state.values()
        moments = [value for values in state for value in values.values() if getattr(value, "ndim", 0)]
        held = {name: sum(map(_numel, each)) for name, each in (("weights", weights), ("moments", moments))}
        Path(folder, f"shares-{os.environ['RANK']}.json").write_text(json.dumps(held))

    inner, loop._Loop.run = loop._Loop.run, counted


def _gather_small_weights(_: Any) -> None:
    """Have ZeRO stage 3 share out the small weights, too, which it keeps whole otherwise, as those of a tiny model."""
    from hfscale.training import zero

    def configured(accelerator: Any, *args: Any) -> None:
        config = accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        config["stage3_param_persistence_threshold"] = 0
        inner(accelerator, *args)

    inner, zero.configure = zero.configure, configured


def _numel(tensor: Any) -> int:
    return tensor.numel()


def _slow_disk(seconds: float) -> None:
    """Every file takes so long to reach the disk."""
    from hfscale import files

    def slow(path: Path) -> None:
        time.sleep(seconds)
        inner(path)

    inner, files.sync = files.sync, slow


def _slow_steps(seconds: float) -> None:
    """Every forward pass of training takes so much longer."""
    _before_forward_passes(lambda: time.sleep(seconds))


def _before_forward_passes(action: Callable[[], Any]) -> None:
    """Do something before every forward pass of training, where its inputs are sent to the device."""
    from hfscale.training import step, zero

    for module in (step, zero):
        inner = module.send_to_device

        def acting(*args: Any, inner: Callable[..., Any] = inner) -> Any:
            action()
            return inner(*args)

        module.send_to_device = acting


def _environment(values: dict[str, str]) -> None:
    os.environ.update(values)


def _hub(environ: dict[str, str]) -> None:
    """Find another Hub (`LoopbackHub.environment`), though its client is imported, and try it at short intervals."""
    from huggingface_hub import constants

    from hfscale.hub import in_recipes, upload

    os.environ.update(environ)
    constants.ENDPOINT = environ["HF_ENDPOINT"]
    constants.HF_HUB_OFFLINE = environ["HF_HUB_OFFLINE"] == "1"
    constants.HF_HUB_DISABLE_XET = True
    upload.WAITS = (0.1, 0.1)
    in_recipes.SECONDS = 0.1


HOOKS: dict[str, Callable[[Any], None]] = {
    "trace": _trace,
    "signal_in_training": _signal_in_training,
    "signal_in_evaluation": _signal_in_evaluation,
    "signal_in_language_evaluation": _signal_in_language_evaluation,
    "hang_in_training": _hang_in_training,
    "crash_in_training": _crash_in_training,
    "signal_before_training": _signal_before_training,
    "count_shares": _count_shares,
    "gather_small_weights": _gather_small_weights,
    "fill_disk": _fill_disk,
    "slow_disk": _slow_disk,
    "slow_steps": _slow_steps,
    "environment": _environment,
    "hub": _hub,
}

if __name__ == "__main__":
    _, given, *sys.argv = sys.argv
    for _name, _value in json.loads(given).items():
        HOOKS[_name](_value)
    runpy.run_path(sys.argv[0], run_name="__main__")
