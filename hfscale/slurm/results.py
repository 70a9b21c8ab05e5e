"""What several runs came to, in one table."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from hfscale.errors import RunFolderError
from hfscale.slurm import jobs


def run_folders(folders: list[Path]) -> list[Path]:
    """The folders, with the runs of an array in its place."""
    found = []
    for folder in folders:
        is_array = (folder / "slurm" / "job.json").is_file() and not (folder / "config.yaml").is_file()
        found += [job.folder for job in jobs.jobs_of(folder)] if is_array else [folder]
    return found


def table(folders: list[Path]) -> str:
    """One line per run: steps and metrics on held-out rows; below them mean and standard deviation.

    Raises:
        RunFolderError: where none of them has a result.
    """
    found: dict[Path, dict[str, float]] = {}
    for folder in folders:
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        numbers = {name: value for name, value in result.get("metrics", {}).items() if isinstance(value, (int, float))}
        found[folder] = {**({"steps": result["steps"]} if "steps" in result else {}), **numbers}
    if not found:
        raise RunFolderError(f"no result yet in {', '.join(map(str, folders))}")
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = [["run", *names]]
    for folder in folders:
        values = found.get(folder, {})
        rows.append([str(folder), *(_number(values.get(name)) for name in names)])
    if len(found) > 1:
        columns = [[values[name] for values in found.values() if name in values] for name in names]
        rows.append(["mean", *(_number(statistics.mean(column)) for column in columns)])
        rows.append(["deviation", *(_number(statistics.stdev(c)) if len(c) > 1 else "-" for c in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:d}" if isinstance(value, int) else f"{value:.4f}"
