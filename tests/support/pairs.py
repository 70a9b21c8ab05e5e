"""Translations that a tiny model can learn: numbers of one made-up language into those of another."""

from __future__ import annotations

import random
from pathlib import Path

NUMBERS = {"one": "un", "two": "deux", "three": "trois", "four": "quatre", "five": "cinq", "six": "six", "ten": "dix"}


def pairs(number: int, seed: int = 0, longest: int = 6) -> list[dict[str, str]]:
    """Rows of `source` and `target`, of one to `longest` words."""
    draw = random.Random(seed)
    rows = []
    for _ in range(number):
        words = draw.choices(list(NUMBERS), k=draw.randint(1, longest))
        rows.append({"source": " ".join(words), "target": " ".join(NUMBERS[word] for word in words)})
    return rows


def write_parallel(folder: Path, rows: list[dict[str, str]], name: str = "train") -> str:
    """Two text files with the same lines; returns what names them."""
    for ending, column in (("en", "source"), ("fr", "target")):
        lines = "".join(f"{row[column]}\n" for row in rows)
        (folder / f"{name}.{ending}").write_text(lines, encoding="utf-8")
    return str(folder / f"{name}.{{en,fr}}")
