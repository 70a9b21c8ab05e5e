"""A plan as a picture: memory per strategy in stacked bars, beside what the GPU has."""

from __future__ import annotations

from pathlib import Path

from hfscale.launch.plan.plan import Plan
from hfscale.launch.plan.timeline import PARTS

_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


def draw(plan: Plan, path: Path) -> None:
    """Write the picture; its format is that of the file's ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in plan.rows if row.total_bytes]
    figure = Figure(figsize=(10, 0.42 * len(rows) + 2.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(rows))
    left = [0.0] * len(rows)
    for part, colour in zip(PARTS, _COLOURS, strict=True):
        sizes = [row.memory[part] / 2**30 for row in rows]
        bars = axes.barh(places, sizes, left=left, color=colour, label=part)
        for bar, row in zip(bars, rows, strict=True):
            bar.set_alpha(1.0 if row.fits else 0.35)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    gpu = plan.cluster.gpu.memory_gib
    axes.axvline(plan.usable_bytes / 2**30, color="black", linestyle="--", linewidth=1, label="usable")
    axes.axvline(gpu, color="black", linewidth=1.5, label=f"{plan.cluster.gpu.title}")
    most = max(*left, gpu)
    shown = min(most, 3 * gpu)  # a bar far beyond the line would hide all others
    for place, row, size in zip(places, rows, left, strict=True):
        micro = f"micro-batch {row.micro_batch_size}" if row.fits else "does not fit"
        at = min(size, shown)
        axes.text(at + shown * 0.008, place, f"{size:.1f}, {micro}", va="center", fontsize=8)
    names = [("> " if row is plan.recommended else "") + row.strategy.title for row in rows]
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlim(0, shown * 1.22)
    axes.set_xlabel("GiB per GPU at the highest moment of a step (pale: does not fit)")
    workload = plan.workload
    axes.set_title(
        f"{workload.name}, {workload.sequence_length:,} tokens, global batch {workload.global_batch_size}, "
        f"{workload.precision}, {plan.cluster.num_gpus} GPUs",
        fontsize=11,
    )
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.06), ncols=7, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
