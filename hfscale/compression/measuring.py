"""A model in a process of its own, which says what it holds and how it answers, and then runs it when it is told to.

In one process the memory of the second model could not be told from what the first one left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from hfscale.batch import Batch
from hfscale.compression.exporting import processor_of
from hfscale.compression.inputs import Inputs, run_inputs
from hfscale.compression.kinds import SavedModel, find_model, load_model
from hfscale.compression.merging import load_adapted
from hfscale.compression.pruning_speed import seconds_of
from hfscale.errors import HfscaleError
from hfscale.models.quantization import is_quantized, require_bitsandbytes
from hfscale.schemas import CompressSettings, ModelSettings

_SINGLES, _BATCHES = 100, 10
_PER_PAGE = 1024  # numbers of 4 bytes in a page of memory
_READ = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


class Job(NamedTuple):
    """Which model, and on what."""

    folder: Path
    run: Path
    base: ModelSettings | None
    in_float32: bool
    """Else in the type that its folder says."""
    settings: CompressSettings


class Measured(NamedTuple):
    """All but the speed. Memory is what the process grew by since before the model was loaded."""

    held_bytes: int
    """With the model loaded and run once."""
    peak_bytes: int | None
    """At most while it was loaded and run; None where the system doesn't tell."""
    num_parameters: int
    metrics: dict[str, float]
    """The main one first."""
    spread: np.ndarray
    """See `Scored`."""
    inputs: str
    timed: str
    """What one pass is, in words."""
    singles: int
    batches: tuple[int, ...]
    """Examples of each batch that can be timed."""
    device: str
    threads: int
    num_examples: int
    """That the metrics are of."""


def serve(connection: Connection, job: Job) -> None:
    """The process: sends `Measured`, or a text that says why not; then answers ("one" or "many", number) with the
    seconds of a pass (see `_pass`), until it gets None."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
    try:
        run, measured, passes = _prepared(job)
    except HfscaleError as error:
        connection.send(" ".join(str(error).split()))
        return
    except (RuntimeError, ValueError, NotImplementedError, torch.OutOfMemoryError) as error:
        connection.send(f"it can't be run here: {' '.join(str(error).split())[:200]}")
        return
    connection.send(measured)
    with torch.inference_mode():
        for which, number in iter(connection.recv, None):
            connection.send(seconds_of(run, passes[which][number]))


def _prepared(job: Job) -> tuple[Callable[..., Any], Measured, dict[str, list[dict[str, Any]]]]:
    """(what runs the model, what is known of it, inputs of passes with one example and with many, on its device)."""
    from accelerate import Accelerator
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    accelerator = Accelerator()
    saved = find_model(job.folder, job.run)
    processor = processor_of(saved, job.base) or processor_of(find_model(job.run), None)  # few bits have no tokenizer
    inputs = run_inputs(accelerator, saved, processor, job.settings)
    passes, sizes = _passes(inputs, accelerator.device)
    _warm_up(saved, accelerator.device)
    memory = _Memory(accelerator.device)
    model = _loaded(saved, job, accelerator)
    _touch(model)
    run, timed = _pass(saved, model)
    with torch.inference_mode():
        for each in ("one", "many"):
            run(**passes[each][0])
    held, peak = memory.grown()
    assert inputs.score is not None
    scored = inputs.score(model)
    with torch.inference_mode():
        for each in ("one", "many"):
            run(**passes[each][0])
    measured = Measured(
        held, peak, model.num_parameters(), scored.metrics, scored.spread, inputs.description, timed,
        len(passes["one"]), sizes, accelerator.device.type, torch.get_num_threads(),
        sum(batch.num_examples for batch in inputs.batches),
    )  # fmt: skip
    return run, measured, passes


def _pass(saved: SavedModel, model: Any) -> tuple[Callable[..., Any], str]:
    """(what is timed of a model, in words for one example): a forward pass, or of an encoder-decoder all steps of
    writing, as its folder says."""
    if saved.kind != "seq2seq":
        return model, "one example alone"
    beams = model.generation_config.num_beams or 1
    how = f"with {beams} beams" if beams > 1 else "greedily"
    return partial(model.generate, do_sample=False), f"one text read alone and its whole output written {how}"


def _loaded(saved: SavedModel, job: Job, accelerator: Any) -> Any:
    if job.base is not None:
        model = load_adapted(saved, job.base).get_base_model()
    else:
        model = load_model(saved, dtype="float32" if job.in_float32 else "auto")
    return (model if getattr(model, "is_quantized", False) else model.to(accelerator.device)).eval()


def _warm_up(saved: SavedModel, device: torch.device) -> None:
    """Import and start what any model needs, so that it isn't counted as this one's memory."""
    if is_quantized(saved.config):
        require_bitsandbytes()
    with torch.device("meta"):
        saved.model_class.from_config(saved.config)
    torch.nn.functional.linear(torch.ones(64, 64, device=device), torch.ones(64, 64, device=device))


def _touch(model: Any) -> None:
    """Read every page: weights that are mapped from their file take no memory before, and how many a pass reads is a
    matter of its words."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().flatten()[::_PER_PAGE].sum()


def _passes(inputs: Inputs, device: torch.device) -> tuple[dict[str, list[dict[str, Any]]], tuple[int, ...]]:
    """Inputs without labels: of single examples without padding, evenly drawn from all lengths, and of whole batches;
    and the numbers of examples in these."""
    batches = [batch for batch in inputs.batches if batch.num_examples]
    rows = [(batch, row) for batch in batches for row in range(batch.num_examples)]
    singles = [_single(*rows[number]) for number in _evenly(len(rows), _SINGLES)]
    whole = [batches[number] for number in _evenly(len(batches), _BATCHES)]
    many = [{name: batch.inputs[name] for name in _READ if name in batch.inputs} for batch in whole]

    def placed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value.to(device) for name, value in each.items()} for each in found]

    sizes = tuple(batch.num_examples for batch in whole)
    return {"one": placed(singles), "many": placed(many)}, sizes


def _single(batch: Batch, row: int) -> dict[str, Any]:
    found = {name: batch.inputs[name][row : row + 1] for name in _READ if name in batch.inputs}
    real = batch.inputs.get("attention_mask", batch.inputs.get("piece_ids"))
    if real is None:
        return found
    return {name: value[:, real[row] > 0] for name, value in found.items()}


def _evenly(count: int, most: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, most)).astype(int).tolist()


class _Memory:
    """What this process grows by from now on: on its GPU, or resident on a CPU machine."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._before = self._now()
        self._resets = False
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):  # Linux: proc_pid_clear_refs(5)
                Path("/proc/self/clear_refs").write_text("5")
                self._resets = True

    def grown(self) -> tuple[int, int | None]:
        """(bytes that are held, the most that were)."""
        peak = torch.cuda.max_memory_allocated() if self._cuda else self._high_water()
        return max(0, self._now() - self._before), peak and max(0, peak - self._before)

    def _now(self) -> int:
        gc.collect()
        if self._cuda:
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated()
        with contextlib.suppress(OSError, AttributeError):  # glibc: what was freed goes back to the system
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        return psutil.Process().memory_info().rss

    def _high_water(self) -> int | None:
        if not self._resets:
            return None
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        return found[0] if found else None
