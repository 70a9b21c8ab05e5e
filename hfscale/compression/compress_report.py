"""The measured choices as a table on a terminal and in Markdown."""

from __future__ import annotations

from typing import IO

from hfscale.compression.choosing import Choice, is_full, points_of
from hfscale.compression.compressing import Comparisons


def columns(found: Comparisons) -> list[str]:
    """Names with units, in the table's order."""
    name, _ = found.full.metric
    return [
        "choice",
        "MiB on disk",
        "MiB held",
        "MiB peak",
        "ms median",
        "ms p95",
        "examples/s",
        name,
        "points",
        "note",
    ]


def cells(choice: Choice) -> list[str]:
    """Of one row."""
    known, timed = choice.measured, choice.timed
    if not known or not timed:
        return [choice.name, *["-"] * 8, choice.variant.note]
    peak = "-" if known.peak_bytes is None else mib(known.peak_bytes)
    return [
        choice.name,
        "-" if choice.disk_bytes is None else mib(choice.disk_bytes),
        mib(known.held_bytes),
        peak,
        f"{timed.latency_median_ms:,.1f}",
        f"{timed.latency_p95_ms:,.1f}",
        f"{timed.examples_per_second:,.1f}",
        f"{choice.metric[1]:.4f}",
        "" if is_full(choice) else change(choice),
        choice.variant.note,
    ]


def mib(size: int) -> str:
    """Bytes in MiB, small ones with three digits."""
    value = size / 2**20
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def change(choice: Choice) -> str:
    """From the full model, with its standard error where that is known."""
    assert choice.points is not None
    error = "" if choice.points_error is None else f" ± {choice.points_error:.1f}"
    return f"{choice.points:+.1f}{error}"


def sentences(found: Comparisons) -> list[tuple[str, str]]:
    """(what, in words): what was measured on what, and what to take."""
    timed, known = found.full.timed, found.full.measured
    assert timed and known
    turns = "all by turns" if found.side_by_side else "one model after the other, for together they have no room"
    rows = [
        ("measured", f"{found.inputs}; {found.place}; each model in a process of its own"),
        ("columns", "held, peak: MiB that the process grew by with the model loaded and run, and at most on the way; "
         f"ms: {known.timed}, {timed.num_singles} of them; examples/s: {timed.num_batches} batches, {turns}; "
         f"points: of {_unit(found)}, from full, ± standard error{_when_none_differs(found)}"),
    ]  # fmt: skip
    said: dict[str, list[str]] = {}
    for rule, choice, _ in found.recommended:
        said.setdefault(choice.name, []).append(rule)
    for _, choice, line in found.recommended:
        rules = said.pop(choice.name, None)
        if rules:
            rows += _advice(found, choice, " and ".join(rules), line)
    return rows


def _advice(found: Comparisons, choice: Choice, rule: str, line: str | None) -> list[tuple[str, str]]:
    within = f"the {rule} {within_words(found)}"
    if is_full(choice):
        return [("take", f"full: {within}, so that there is nothing to make")]
    doubt = ""
    if choice.points_error is not None and (choice.points_error or found.room) > found.tolerance:
        doubt = "; these rows are too few to tell so small a change"
    elif choice.points_error is None:
        doubt = "; these rows are too few to say how sure that is"
    rows = [("take", f"{choice.name}: {within} ({change(choice)} points on {found.inputs}{doubt})")]
    return [*rows, ("with", line or f"nothing to run: it is there already, {choice.variant.folder}")]


def _when_none_differs(found: Comparisons) -> str:
    if not found.room or all(each.points_error != 0 for each in found.choices[1:]):
        return ""
    return f" (0.0: no answer differs, which rules out more than {found.room:.1f} points)"


def within_words(found: Comparisons) -> str:
    """The rule."""
    return f"within {found.tolerance:g} point{'' if found.tolerance == 1 else 's'} of full"


def _unit(found: Comparisons) -> str:
    from hfscale.training.best import LOWER_IS_BETTER

    name, before = found.full.metric
    if name in LOWER_IS_BETTER:
        return f"{name}, in percent of it, up is better"
    return f"{name} (hundredths)" if points_of(name, before) == 100 else name


def print_table(found: Comparisons, file: IO[str]) -> None:
    """One row per choice; those to take stand out."""
    from rich.console import Console
    from rich.table import Table

    taken = {choice.name for _, choice, _ in found.recommended}
    names = columns(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        ends = name in ("choice", "note")
        table.add_column(name, justify="left" if ends else "right", no_wrap=name != "note", overflow="fold")
    for choice in found.choices:
        style = "bold green" if choice.name in taken else None if choice.measured else "dim"
        marked = [("* " if choice.name in taken else "  ") + choice.name, *cells(choice)[1:]]
        table.add_row(*marked, style=style)
    terminal = Console(file=file, highlight=False)
    if not terminal.is_terminal:
        terminal.width = 160  # a log has no edge
    terminal.print(table)
    for what, words in sentences(found):
        terminal.print(f"{what:<11}{words}", markup=False, soft_wrap=True)


def as_markdown(found: Comparisons, picture: str) -> str:
    """`compress.md`."""
    names = columns(found)
    rows: list[list[str]] = [
        names,
        ["---"] * len(names),
        *(list(map(_escaped, cells(each))) for each in found.choices),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    said = [f"- {what}: {f'`{words}`' if words.startswith('hfscale ') else words}" for what, words in sentences(found)]
    return "\n".join(
        [f"# Choices for {found.model}", "", *lines, "", *said, "", f"![metric, size and latency]({picture})", ""]
    )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
