"""Questions with their contexts and answers: SQuAD's files and flat rows.

SQuAD nests articles, paragraphs and questions (Rajpurkar et al. 2016, arXiv:1606.05250; version 2 marks questions
without an answer as `is_impossible`: Rajpurkar et al. 2018, arXiv:1806.03822). Flat rows have the columns `question`,
`context`, `answers` and perhaps `id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hfscale.data.readers import Row
from hfscale.errors import DataError


def flat_rows(rows: Iterable[Row], question: str, context: str, answers: str) -> Iterator[Row]:
    """One row per question, its columns under the given names; rows that are flat pass through.

    Raises:
        DataError: for an article that is not built as SQuAD's are.
    """
    for row in rows:
        if not isinstance(row.values.get("paragraphs"), list):
            yield row
            continue
        try:
            for number, paragraph in enumerate(row.values["paragraphs"], start=1):
                text = paragraph["context"]
                for entry in paragraph["qas"]:
                    values = {"id": entry.get("id"), question: entry["question"], context: text}
                    if "answers" in entry:
                        values[answers] = [] if entry.get("is_impossible") else entry["answers"]
                    name = str(entry.get("id", "")).encode("utf-8", "backslashreplace").decode()  # JSON can be odd
                    yield Row(f"{row.where} paragraph {number} question {name}".rstrip(), values)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{row.where}: not built as SQuAD's articles are ({error!r})") from None


def answers_of(row: Row, column: str, context: str) -> tuple[dict[str, list[Any]], str | None]:
    """(texts of the answers and where they start in the context, what is wrong with them); none for no answer.

    Both forms are read: {"text": [...], "answer_start": [...]} and [{"text": ..., "answer_start": ...}, ...].
    """
    value, none = row.values.get(column), {"text": [], "answer_start": []}
    try:
        if isinstance(value, dict):
            pairs = list(zip(value["text"], value["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in value]  # type: ignore[union-attr]
    except (KeyError, TypeError, ValueError):
        return none, f"column {column} holds no answers with `text` and `answer_start`"
    for text, start in pairs:
        if not isinstance(text, str) or not text.strip():
            return none, f"an empty answer in column {column}"
        if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
            found = context[start : start + len(text)] if isinstance(start, int) and start >= 0 else ""
            return none, f"the answer {text[:60]!r} doesn't stand at character {start} of its context: {found[:60]!r}"
    return {"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]}, None
