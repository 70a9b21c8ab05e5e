"""The measured choices as a picture: the metric over size and over latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfscale.compression.choosing import Choice, points_of
from hfscale.compression.compress_report import mib, within_words
from hfscale.compression.compressing import Comparisons
from hfscale.training.best import LOWER_IS_BETTER

_MARKERS = "osD^vP*Xph<>"
_INCHES, _INCHES_PER_LETTER, _INCHES_OF_MARKER = 10.0, 0.065, 0.55
_LONGEST = 40  # letters of a folder's name
_WIDE = 6.0  # times as much: then the axis is logarithmic


def draw(found: Comparisons, path: Path) -> None:
    """Write the picture: one marker per choice, with two standard errors of its change from the full model."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES, 5), layout="constrained")
    FigureCanvasAgg(figure)
    size, latency = figure.subplots(1, 2, sharey=True)
    name, before = found.full.metric
    better = "lower is better" if name in LOWER_IS_BETTER else "higher is better"
    handles = []
    for number, choice in enumerate(found.measured):
        assert choice.timed
        look = {"marker": _MARKERS[number % len(_MARKERS)], "color": colormaps["tab10"](number % 10)}
        error = _error(choice, before, name)
        for axes, value in ((size, _mib(choice)), (latency, choice.timed.latency_median_ms)):
            if value is not None:
                axes.errorbar(value, choice.metric[1], yerr=error, capsize=3, elinewidth=0.8, markersize=9, **look)
        handles += size.plot([], [], linestyle="", markersize=9, label=_label(choice), **look)
    worst = before - found.tolerance / points_of(name, before)
    for axes, label in ((size, "MiB on disk"), (latency, f"ms for one example, median ({found.place})")):
        axes.axhline(before, color="0.5", linewidth=1)
        axes.axhspan(worst, before, color="0.5", alpha=0.15, linewidth=0)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    _scale(size, [_mib(each) for each in found.measured])
    _scale(latency, [each.timed.latency_median_ms for each in found.measured if each.timed])
    size.set_ylabel(f"{name}, {better}")
    figure.suptitle(f"{found.model}: {found.inputs}", fontsize=11)
    note = f"grey: {within_words(found)}; bars: two standard errors of the change from full"
    look = {"ncols": _columns(handles), "fontsize": 8.5, "title_fontsize": 8.5, "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", title=note, **look)
    figure.savefig(path, dpi=90)


def _columns(handles: list[Any]) -> int:
    """How many entries of the legend have room beside each other."""
    inches = _INCHES_PER_LETTER * max(len(handle.get_label()) for handle in handles) + _INCHES_OF_MARKER
    return max(1, int(_INCHES // inches))


def _mib(choice: Choice) -> float | None:
    return None if choice.disk_bytes is None else choice.disk_bytes / 2**20


def _error(choice: Choice, before: float, name: str) -> float | None:
    """Two standard errors in the metric's own unit; none for the full model, from which changes are counted."""
    if not choice.points_error:
        return None
    return 2 * choice.points_error / abs(points_of(name, before))


def _label(choice: Choice) -> str:
    assert choice.timed
    size = "" if choice.disk_bytes is None else f"{mib(choice.disk_bytes)} MiB, "
    name = choice.name if len(choice.name) <= _LONGEST else f"{choice.name[: _LONGEST - 3]}..."
    return f"{name}: {size}{choice.timed.latency_median_ms:,.3g} ms"


def _scale(axes: object, values: list[float | None]) -> None:
    """From nothing on, or logarithmic where the values are far apart."""
    known = [value for value in values if value]
    if max(known) / min(known) > _WIDE:
        axes.set_xscale("log")  # type: ignore[attr-defined]
    else:
        axes.set_xlim(0, 1.08 * max(known))  # type: ignore[attr-defined]
