"""Label names and what they are encoded to."""

from __future__ import annotations

import pytest

from hfscale.data import Labels
from hfscale.errors import DataError
from tests.support.rows import table_of

SINGLE, SEVERAL, NUMBER = "single_label_classification", "multi_label_classification", "regression"


def names_of(labels: list, task=SINGLE) -> tuple[str, ...]:
    return Labels.of(table_of(["t"] * len(labels), labels), task).names


@pytest.mark.parametrize(
    "labels, names",
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["x", "2", "10"], ("2", "10", "x")),
        (["é", "z", "A"], ("A", "z", "é")),
        (["NA", "null"], ("NA", "null")),
    ],
)
def test_names_are_in_order(labels: list[str], names: tuple[str, ...]) -> None:
    assert names_of(labels) == names
    assert names_of(labels[::-1]) == names


def test_a_label_nan_upsets_no_order() -> None:
    numbers = [str(number) for number in range(100)]
    labels = ["nan", "NaN", "NAN", "-nan", *numbers[::-1], "other"]
    assert [name for name in names_of(labels) if name in numbers] == numbers


def test_names_of_several_labels() -> None:
    assert names_of([["b"], [], ["a", "b"]], SEVERAL) == ("a", "b")


def test_a_number_has_one_output() -> None:
    assert names_of([0.5, 1.0], NUMBER) == ("score",)


@pytest.mark.parametrize("labels", [["a"], ["a", "a"]])
def test_one_class_is_refused(labels: list[str]) -> None:
    with pytest.raises(DataError, match="only the label a; two are needed"):
        names_of(labels)


def test_no_label_at_all_is_refused() -> None:
    import datasets

    features = datasets.Features({"label": datasets.List(datasets.Value("string"))})
    table = datasets.Dataset.from_dict({"label": [[], []]}, features=features)
    with pytest.raises(DataError, match="only the label \\(none\\)"):
        Labels.of(table, SEVERAL)


@pytest.mark.parametrize("labels", [["0.5", "1.0", "2"], [str(number) for number in range(10_001)]])
def test_quantities_are_not_classes(labels: list[str]) -> None:
    with pytest.raises(DataError, match="--task regression"):
        names_of(labels)


def test_classes_are_encoded_by_position() -> None:
    labels = Labels(SINGLE, ("a", "b", "c"))
    assert labels.encode(table_of(["t"] * 3, ["c", "a", "b"])) == [2, 0, 1]


def test_several_labels_are_encoded_as_zeros_and_ones() -> None:
    labels = Labels(SEVERAL, ("a", "b", "c"))
    assert labels.encode(table_of(["t"] * 3, [["c", "a"], [], ["b", "b"]])) == [
        [1.0, 0.0, 1.0],
        [0.0] * 3,
        [0.0, 1.0, 0.0],
    ]


def test_numbers_stay_numbers() -> None:
    assert Labels(NUMBER, ("score",)).encode(table_of(["t"] * 2, [0.25, -3.0])) == [0.25, -3.0]


@pytest.mark.parametrize("task, label", [(SINGLE, "refnd"), (SEVERAL, ["other", "refnd"])])
def test_a_label_unseen_in_training_is_named_by_line(task, label) -> None:
    good = "other" if task == SINGLE else ["other"]
    with pytest.raises(DataError) as caught:
        Labels(task, ("other", "refund")).encode(table_of(["t"] * 2, [good, label]))
    expected = "made.csv line 3: label 'refnd' does not occur in the training examples; did you mean refund?"
    assert str(caught.value) == expected
