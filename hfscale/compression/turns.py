"""Several models, each in a process of its own, timed by turns, so that a busy machine is busy for all of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch

from hfscale.compression.measuring import Job, Measured, serve
from hfscale.errors import ModelError

_LATENCY_SECONDS, _FEWEST_SINGLES = 60.0, 20
_PATIENCE_SECONDS = 10.0
_BATCH_SECONDS, _FEWEST_BATCHES = 60.0, 3


class Timed(NamedTuple):
    """Speed of a model; of one example alone over all that were timed."""

    latency_median_ms: float
    latency_p95_ms: float
    examples_per_second: float
    """In batches."""
    num_singles: int
    num_batches: int


class Worker:
    """A process with a model. Use as a context manager."""

    def __init__(self, job: Job) -> None:
        context: Any = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
        if context.get_start_method() == "forkserver":  # imports once for all; CUDA would not survive the fork
            context.set_forkserver_preload(["hfscale.compression.measuring"])
        self._folder = job.folder
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()
        self._connection: Connection

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None:
            with contextlib.suppress(OSError):
                self._connection.send(None)
                self._process.join(_PATIENCE_SECONDS)
        self._process.terminate()
        self._process.join()
        self._connection.close()

    def measured(self) -> Measured | str:
        """What it holds and how it answers, or why it can't."""
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            return f"its process ended with {self._process.exitcode}; is there memory enough?"

    def seconds(self, which: str, number: int) -> float:
        """Of a pass with `one` example or `many`.

        Raises:
            ModelError: where the process has ended, for lack of memory perhaps.
        """
        try:
            self._connection.send((which, number))
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ModelError(
                f"the process of {self._folder} ended with {self._process.exitcode} while it was timed; is there "
                "memory enough? Take fewer with --sparsity and --also"
            ) from None


def time_all(workers: list[Worker], measured: list[Measured]) -> list[Timed]:
    """Speed of each: the same examples and batches for all, one after the other, in alternating order."""
    singles = min(each.singles for each in measured)
    batches = min(len(each.batches) for each in measured)
    one, _ = _by_turns(workers, "one", singles, _FEWEST_SINGLES, _LATENCY_SECONDS)
    many, numbers = _by_turns(workers, "many", batches, _FEWEST_BATCHES, _BATCH_SECONDS)
    examples = sum(measured[0].batches[number] for number in numbers)
    return [
        Timed(
            float(np.median(alone) * 1e3),
            float(np.percentile(alone, 95) * 1e3),
            float(examples / together.sum()),
            len(one),
            len(many),
        )
        for alone, together in zip(one.T, many.T, strict=True)
    ]


def _by_turns(
    workers: list[Worker], which: str, count: int, fewest: int, most_seconds: float
) -> tuple[np.ndarray, list[int]]:
    """(rounds, models) seconds, and which input each round ran: each once, or as many as there is time for, but never
    fewer than `fewest` rounds."""
    rounds: list[list[float]] = []
    order = np.random.default_rng(0).permutation(count)  # by length they would be the longest, where time is short
    end = time.monotonic() + most_seconds
    while len(rounds) < fewest or (len(rounds) < count and time.monotonic() < end):
        number = int(order[len(rounds) % count])
        turns = workers if len(rounds) % 2 else workers[::-1]
        taken = [worker.seconds(which, number) for worker in turns]
        rounds.append(taken if len(rounds) % 2 else taken[::-1])
    return np.array(rounds), [int(order[number % count]) for number in range(len(rounds))]
