"""What exchanging gradients and weights with other processes costs, measured on one step of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale.training.step import all_sum

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.training.throughput import Meter

Interval = tuple[float, float]
_MEASURED_STEP = 3  # the first ones set up buckets and buffers
_MOST = 8  # micro-batches: of more the events would take gigabytes, and one exchange in so many is soon told


class Event(NamedTuple):
    """Something that took time, in nanoseconds."""

    name: str
    start: int
    end: int
    on_gpu: bool = False
    is_async: bool = False


class Communication(NamedTuple):
    """Of one optimizer step; the mean of all processes."""

    seconds: float
    """In which an exchange was under way."""
    exposed_seconds: float
    """Those of them in which nothing was computed: what waiting for others costs."""
    scaling_efficiency: float
    """Share of the step that was not spent so: the throughput, as a share of what as many processes would reach that
    had nothing to exchange."""


class CommunicationProbe:
    """Watches one step of a run of several processes with torch's profiler, whatever strategy shares the work."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._steps = 0
        self._found: tuple[float, float, float] | None = None

    @contextlib.contextmanager
    def step(self, meter: Meter, num_micro_batches: int) -> Generator[None]:
        """Around every optimizer step; looks at the third one, if it has few micro-batches."""
        self._steps += 1
        if self._accelerator.num_processes == 1 or self._steps != _MEASURED_STEP or num_micro_batches > _MOST:
            yield
            return
        from torch.profiler import ProfilerActivity, profile

        on_gpu = self._accelerator.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        profiler = profile(activities=activities)
        with meter.paused():
            with profile(activities=activities):
                pass  # the first one loads for a second
            profiler.start()
        try:
            yield
        finally:
            with meter.paused():
                profiler.stop()
                self._found = communication_of(_events(profiler))

    def result(self) -> Communication | None:
        """None for one process, for a run of fewer steps or many micro-batches, and where the profiler saw nothing.
        Called by all."""
        if self._found is None:
            return None
        number = self._accelerator.num_processes
        seconds, exposed, step = (total / number for total in all_sum(self._accelerator, self._found))
        return Communication(seconds, exposed, 1 - exposed / step) if step else None


def _events(profiler: Any) -> list[Event]:
    """What the profiler recorded, without the tree of calls that it would make of it in many times as long."""
    from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]

    return [
        Event(raw.name(), raw.start_ns(), raw.end_ns(), raw.device_type() == DeviceType.CUDA, raw.is_async())
        for raw in profiler.profiler.kineto_results.events()
    ]


def communication_of(events: Sequence[Event]) -> tuple[float, float, float]:
    """(seconds of exchanges, those without computing, all) of one profiled step: on a GPU by its kernels, else by the
    operators of the CPU and the exchanges of gloo."""
    kernels = [event for event in events if event.on_gpu]
    if kernels:
        exchanges = [event for event in kernels if event.name.startswith("nccl")]
        work = [event for event in kernels if not event.name.startswith("nccl")]
    else:
        exchanges = [event for event in events if event.is_async and event.name.startswith(("gloo:", "nccl:"))]
        work = [event for event in events if event.name.startswith("aten::")]
    exchanging, working = (_union((e.start, e.end) for e in part) for part in (exchanges, work))
    both = _length(exchanging) + _length(working) - _length(_union([*exchanging, *working]))
    everything = _union((e.start, e.end) for e in events)
    whole = everything[-1][1] - everything[0][0] if everything else 0.0
    return _length(exchanging) / 1e9, (_length(exchanging) - both) / 1e9, whole / 1e9


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same points of time without overlaps, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _length(intervals: list[Interval]) -> float:
    return sum(end - start for start, end in intervals)
