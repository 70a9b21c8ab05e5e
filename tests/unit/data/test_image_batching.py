"""The order of images and their variation depend on nothing but seed, epoch and row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hfscale.data import ImageEvalBatches, Images, ImageTrainBatches, load_image_splits
from hfscale.schemas import AugmentSettings, ImageDataSettings
from tests.support.pictures import bars, write_mnist

NORMAL = {"mean": [0.2], "std": [0.4]}
VARIED = AugmentSettings(shift=0.2, rotate=20, scale=0.2, crop=0.2, flip=0.5, erase=0.5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = write_mnist(tmp_path_factory.mktemp("idx"), bars(37), bars(5))
    return load_image_splits(ImageDataSettings(train=str(folder), validation_fraction=0)).train


def by_row(images: Images, step: int, augmentation: AugmentSettings | None, **split: int | None) -> dict[int, bytes]:
    """What step `step` learns from, over all processes: the bytes of each row's pixels."""
    processes = split.pop("num_processes", 1) or 1
    found: dict[int, bytes] = {}
    for process in range(processes):
        batches = ImageTrainBatches(
            images,
            **NORMAL,
            augmentation=augmentation,
            global_batch_size=12,
            micro_batch_size=split.get("micro_batch_size"),
            seed=3,
            process_index=process,
            num_processes=processes,
        )
        for batch in batches[step]:
            for row, pixels in zip(batch.indices, batch.inputs["pixel_values"], strict=bool(batch.num_examples)):
                found[row] = pixels.contiguous().numpy().tobytes()
    return found


@pytest.mark.parametrize("augmentation", [None, VARIED], ids=["plain", "varied"])
@pytest.mark.parametrize("step", [0, 3, 5])
def test_no_split_changes_what_a_step_learns_from(images: Images, augmentation: AugmentSettings, step: int) -> None:
    whole = by_row(images, step, augmentation)
    assert len(whole) in (1, 12)
    assert by_row(images, step, augmentation, micro_batch_size=2) == whole
    assert by_row(images, step, augmentation, num_processes=2) == whole
    assert by_row(images, step, augmentation, num_processes=3, micro_batch_size=1) == whole


def test_every_image_once_an_epoch_and_anew_in_the_next(images: Images) -> None:
    batches = ImageTrainBatches(
        images, **NORMAL, augmentation=VARIED, global_batch_size=12, micro_batch_size=None, seed=0
    )
    assert batches.steps_per_epoch == 4
    epochs = [[row for step in range(first, first + 4) for row in batches[step][0].indices] for first in (0, 4)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(37))
    assert epochs[0] != epochs[1]
    first, second = ({**by_row(images, 0, VARIED)}, {**by_row(images, 4, VARIED)})
    common = first.keys() & second.keys()
    assert common and all(first[row] != second[row] for row in common)


def test_filler_batches_count_for_nothing(images: Images) -> None:
    shares = [
        ImageTrainBatches(
            images, **NORMAL, global_batch_size=12, micro_batch_size=3, seed=0, process_index=p, num_processes=2
        )
        for p in (0, 1)
    ]
    short = next(step for step in range(4) if sum(b.num_examples for s in shares for b in s[step]) == 1)
    counts = [[batch.num_examples for batch in share[short]] for share in shares]
    assert [len(share) for share in counts] == [2, 2]
    assert sum(map(sum, counts)) == 1
    assert all(len(batch.inputs["labels"]) == 1 for share in shares for batch in share[short])


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_evaluation_sees_every_image_once_as_it_is(images: Images, num_processes: int) -> None:
    shares = [
        list(ImageEvalBatches(images, **NORMAL, batch_size=10, process_index=p, num_processes=num_processes))
        for p in range(num_processes)
    ]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for batch in share for row in batch.indices]
    assert sorted(rows) == list(range(37))
    batch = shares[0][0]
    expected = (images.pixels(np.array(batch.indices)) / 255 - 0.2) / 0.4
    assert torch.allclose(batch.inputs["pixel_values"], torch.tensor(expected).permute(0, 3, 1, 2).float(), atol=1e-6)
    assert batch.inputs["labels"].tolist() == images.targets[list(batch.indices)].tolist()
