"""A plan as a table on a terminal and as JSON."""

from __future__ import annotations

from typing import IO, Any

from hfscale.launch.plan.accelerate_config import recipe_flags
from hfscale.launch.plan.plan import RESERVED, Plan, Row
from hfscale.launch.plan.timeline import PARTS


def as_json(plan: Plan) -> dict[str, Any]:
    """Plain values; the keys are the same for every plan, null where something is not known."""
    workload, cluster = plan.workload, plan.cluster
    return {
        "model": {
            "name": workload.name,
            "type": workload.config.model_type,
            "num_parameters": plan.num_weights,
            "objective": workload.objective,
        },
        "workload": {
            "sequence_length": workload.sequence_length,
            "target_length": workload.target_length,
            "global_batch_size": workload.global_batch_size,
            "precision": workload.precision,
            "optimizer": workload.optim.name,
            "num_steps": workload.num_steps,
        },
        "cluster": {
            "gpu": cluster.gpu.name,
            "gpu_source": cluster.gpu.source,
            "num_gpus": cluster.num_gpus,
            "num_nodes": cluster.num_nodes,
            "memory_bytes": round(cluster.gpu.memory_gib * 2**30),
            "usable_bytes": round(plan.usable_bytes),
            "peak_tflops": cluster.peak_flops(workload.precision) / 1e12,
            "efficiency": cluster.efficiency,
            "price_per_gpu_hour": cluster.price_per_gpu_hour,
        },
        "strategies": [_row(plan, row) for row in plan.rows],
        "recommended": plan.recommended.strategy.title if plan.recommended else None,
        "why": plan.why,
    }


def _row(plan: Plan, row: Row) -> dict[str, Any]:
    hours = plan.run_hours(row)
    return {
        "name": row.strategy.title,
        "fits": row.fits,
        "memory_bytes": {part: round(size) for part, size in row.memory.items()},
        "total_bytes": round(row.total_bytes),
        "host_bytes_per_node": round(row.host_bytes),
        "largest_micro_batch": row.largest_micro_batch,
        "micro_batch_size": row.micro_batch_size,
        "accumulation_steps": row.accumulation_steps,
        "step_seconds": row.time.total if row.time else None,
        "compute_seconds": row.time.compute if row.time else None,
        "communication_seconds": row.time.communication if row.time else None,
        "update_seconds": row.time.update if row.time else None,
        "tokens_per_second": plan.tokens_per_second(row),
        "run_hours": hours,
        "gpu_hours": None if hours is None else hours * plan.cluster.num_gpus,
        "cost": plan.cost(row),
        "why_not": row.why_not,
    }


_COLUMNS = ("strategy", *PARTS, "GiB", "largest", "micro", "s/step", "tokens/s", "hours", "cost")


def print_table(plan: Plan, file: IO[str]) -> None:
    """One row per strategy, memory in GiB; the recommended one is marked."""
    from rich.console import Console
    from rich.table import Table

    workload, cluster = plan.workload, plan.cluster
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "strategy" else "right", no_wrap=True)
    for row in plan.rows:
        best = row is plan.recommended
        table.add_row(*_cells(plan, row, best), style="bold green" if best else None if row.fits else "dim")
    console = Console(file=file, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 160  # a log has no edge
    steps = f", {workload.num_steps:,} steps" if workload.num_steps else ""
    say = lambda line: console.print(line, markup=False, soft_wrap=True)  # noqa: E731
    say(f"model      {workload.name} ({workload.config.model_type}), {plan.num_weights:,} parameters")
    say(
        f"training   {workload.objective}, {workload.lengths} tokens x {workload.global_batch_size} "
        f"sequences per step{steps}, {workload.precision}, {workload.optim.name}"
    )
    say(
        f"on         {cluster.num_gpus} x {cluster.gpu.title}, {cluster.num_nodes} node(s): {cluster.gpu.memory_gib} "
        f"GiB each, {RESERVED:.0%} kept free; {cluster.efficiency:.0%} of "
        f"{cluster.peak_flops(workload.precision) / 1e12:g} TFLOPS assumed"
    )
    console.print(table)
    say(
        "columns    GiB per GPU at the step's highest moment, the parts of it first; largest: sequences per pass that "
        "fit; micro: those to train with; hours and cost of the whole run"
    )
    if plan.recommended:
        row = plan.recommended
        host = f"; needs {row.host_bytes / 2**30:,.0f} GiB of CPU memory in each machine" if row.host_bytes else ""
        say(f"take       {row.strategy.title}: {plan.why}{host}")
        say(f"with       {recipe_flags(plan, row)}")


def _cells(plan: Plan, row: Row, best: bool) -> list[str]:
    title = ("* " if best else "  ") + row.strategy.title
    if not row.total_bytes:
        return [title, row.why_not or ""]
    sizes = [f"{size / 2**30:.1f}" for size in (*row.memory.values(), row.total_bytes)]
    if row.time is None:
        return [title, *sizes, str(row.largest_micro_batch), "-", row.why_not or "", "-", "-", "-"]
    hours, cost, tokens = plan.run_hours(row), plan.cost(row), plan.tokens_per_second(row)
    return [
        title,
        *sizes,
        str(row.largest_micro_batch),
        str(row.micro_batch_size),
        f"{row.time.total:.3g}",
        f"{tokens:,.0f}",
        "-" if hours is None else f"{hours:,.3g}",
        "-" if cost is None else f"{cost:,.2f}",
    ]
