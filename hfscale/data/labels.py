"""Label names <-> what the model's head puts out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale.errors import DataError, did_you_mean
from hfscale.schemas import ProblemType

if TYPE_CHECKING:
    from datasets import Dataset

_MOST_CLASSES = 10_000


class Labels(NamedTuple):
    """The names of a classifier's outputs, in order; a regression has the single output `score`."""

    problem_type: ProblemType
    names: tuple[str, ...]

    @classmethod
    def of(cls, train: Dataset, problem_type: ProblemType) -> Labels:
        """All labels that occur in the training examples, numbers in numeric order, other names alphabetically.

        Raises:
            DataError: with fewer than two classes, or so many that the column must hold something else.
        """
        if problem_type == "regression":
            return cls(problem_type, ("score",))
        names: set[str] = set()
        for label in train["label"]:
            names.update([label] if isinstance(label, str) else label)
        needed = 2 if problem_type == "single_label_classification" else 1
        if len(names) < needed:
            raise DataError(
                f"the training examples hold only the label {', '.join(names) or '(none)'}; two are needed"
            )
        if _all_fractions(names) or len(names) > _MOST_CLASSES:
            raise DataError(
                f"the label column holds {len(names):,} different values like {min(names)}; if they are quantities, "
                "pass --task regression"
            )
        return cls(problem_type, tuple(sorted(names, key=_numeric_first)))

    def encode(self, table: Dataset) -> list[Any]:
        """One target per example: a class number, a list of 0.0/1.0 per class, or a number.

        Raises:
            DataError: for a label that no training example has; names the file and the line.
        """
        if self.problem_type == "regression":
            return list(table["label"])
        number_of = {name: number for number, name in enumerate(self.names)}
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
