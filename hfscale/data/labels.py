"""Label names <-> what the model's head puts out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.tags import closed, is_plain, odd_tag, scheme_of, standard_tags
from hfscale.errors import DataError, did_you_mean
from hfscale.schemas import Task

if TYPE_CHECKING:
    from datasets import Dataset

_MOST_CLASSES = 10_000
SPAN = ("start", "end")
"""What the two outputs per token are about, of a model that answers every question."""
SPAN_OR_NONE = ("start_or_none", "end_or_none")
"""The same where the context may hold no answer, which is said by a span at the first token."""


class Labels(NamedTuple):
    """The names of a classifier's outputs, in order; a regression has the single output `score`, question answering
    those of `SPAN` or `SPAN_OR_NONE`."""

    task: Task
    names: tuple[str, ...]

    @classmethod
    def of(cls, train: Dataset, task: Task) -> Labels:
        """All labels that occur in the training examples, numbers in numeric order, other names alphabetically.
        Tags that mark entities are IOB2 or BIOES, and complete: with `B-LOC` there is `I-LOC`.

        Raises:
            DataError: with fewer than two classes, or so many that the column must hold something else; for tags that
                are numbers, or of which some mark entities and others don't.
        """
        if task == "regression":
            return cls(task, ("score",))
        if task == "question_answering":
            return cls(task, SPAN if all(answers["text"] for answers in train["label"]) else SPAN_OR_NONE)
        names: set[str] = set()
        for label in train["label"]:
            names.update([label] if isinstance(label, str) else label)
        if task == "token_classification":
            _refuse_odd_tags(train, names)
            names = closed(names)
            console.say(f"data       {len(names)} tags, {scheme_of(names)}")
        needed = 1 if task == "multi_label_classification" else 2
        if len(names) < needed:
            raise DataError(
                f"the training examples hold only the label {', '.join(names) or '(none)'}; two are needed"
            )
        if _all_fractions(names) or len(names) > _MOST_CLASSES:
            raise DataError(
                f"the label column holds {len(names):,} different values like {min(names)}; if they are quantities, "
                "pass --task regression"
            )
        return cls(task, tuple(sorted(names, key=_numeric_first)))

    def encode(self, table: Dataset) -> list[Any]:
        """One target per example: a class number, a list of 0.0/1.0 per class, a number, or a class number per word.

        Raises:
            DataError: for a label that no training example has; names the file and the line.
        """
        if self.task == "regression":
            return list(table["label"])
        number_of = {name: number for number, name in enumerate(self.names)}
        if self.task == "token_classification":
            return self._encode_tags(table, number_of)
        targets: list[Any] = []
        for row, label in enumerate(table["label"]):
            given = [label] if isinstance(label, str) else label
            unseen = next((name for name in given if name not in number_of), None)
            if unseen is not None:
                raise DataError(
                    f"{table[row]['where']}: label {unseen!r} does not occur in the training examples"
                    f"{did_you_mean(unseen, self.names)}"
                )
            numbers = [number_of[name] for name in given]
            targets.append(
                numbers[0] if isinstance(label, str) else [float(n in numbers) for n in range(len(self.names))]
            )
        return targets

    def _encode_tags(self, table: Dataset, number_of: dict[str, int]) -> list[list[int]]:
        plain, num_converted, targets = is_plain(self.names), 0, []
        for row, given in enumerate(table["label"]):
            tags = list(given) if plain else _standard(given)
            num_converted += tags != given
            unseen = next((place for place, tag in enumerate(tags) if tag not in number_of), None)
            if unseen is not None:
                raise DataError(
                    f"{table[row]['where']}, word {unseen + 1} {table[row]['words'][unseen]!r}: tag {given[unseen]!r} "
                    f"does not occur in the training examples{did_you_mean(given[unseen], self.names)}"
                )
            targets.append([number_of[tag] for tag in tags])
        if num_converted:
            console.say(
                f"data       tags of {num_converted:,} of {len(table):,} sentences were converted to "
                f"{scheme_of(self.names)}: I- that begins an entity as B-, L- as E-, U- as S-"
            )
        return targets


def _refuse_odd_tags(train: Dataset, names: set[str]) -> None:
    """Refuse tags that would be scored as something else than what they mean."""
    if names and all(_number(name) is not None for name in names):
        shown = ", ".join(sorted(names, key=_numeric_first)[:4]) + (", ..." if len(names) > 4 else "")
        raise DataError(
            f"the tags are numbers ({shown}); give their names, such as B-PER, I-PER and O: numbers don't say which "
            "words make up an entity"
        )
    found = odd_tag(names)
    if found:
        odd, mark = found
        row = next(row for row, tags in enumerate(train["label"]) if odd in tags)
        place = train[row]["label"].index(odd)
        raise DataError(
            f"{train[row]['where']}, word {place + 1} {train[row]['words'][place]!r}: tag {odd!r} is neither O nor "
            f"marks an entity, as {mark!r} does; mend it, or bring all tags into one form"
        )


def _standard(tags: list[str]) -> list[str]:
    """`standard_tags`, but as they are where one is plain: it will be named as unseen."""
    return list(tags) if is_plain(tags) else standard_tags(tags)


def _numeric_first(name: str) -> tuple[int, float, str]:
    number = _number(name)
    return (1, 0.0, name) if number is None else (0, number, name)


def _all_fractions(names: set[str]) -> bool:
    """True for numbers of which some are not whole: quantities rather than classes."""
    numbers = [_number(name) for name in names]
    return None not in numbers and any(not number.is_integer() for number in numbers if number is not None)


def _number(name: str) -> float | None:
    """A finite number, or None: "nan" and "inf" are words here."""
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
