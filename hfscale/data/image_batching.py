"""Batches of images: the order of `hfscale.data.batching`, with nothing to sort by or to pad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from hfscale.batch import Batch
from hfscale.data.augmentation import augment, draw
from hfscale.data.batching import accumulation_steps, epoch_order, in_rounds
from hfscale.data.fingerprint import fingerprint
from hfscale.data.images import Images
from hfscale.schemas import AugmentSettings

_IMAGES_AT_ONCE = 1024


class ImageTrainBatches:
    """This process's micro-batches of every optimizer step.

    Args:
        mean, std: of each channel, pixels counted from 0 to 1.
        augmentation: how the images are varied; None for not at all.
        global_batch_size: images per optimizer step over all processes.
        micro_batch_size: images per forward pass; None for the whole share of a process.

    Raises:
        SettingsError: where the global batch is not a multiple of micro-batch size times processes.
    """

    def __init__(
        self,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: AugmentSettings | None = None,
        global_batch_size: int,
        micro_batch_size: int | None,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._rows = _Rows(images, mean, std)
        self._augmentation, self._global, self._seed = augmentation, global_batch_size, seed
        self._process, self._num_processes = process_index, num_processes
        self.accumulation_steps = accumulation_steps(global_batch_size, micro_batch_size, num_processes)
        self.steps_per_epoch = -(-len(images) // global_batch_size)
        self._order = lru_cache(maxsize=2)(self._epoch_order)
        self._drawn = lru_cache(maxsize=2)(self._epoch_draws)

    @property
    def fingerprint(self) -> str:
        """Of the images and their classes, not of their order."""
        return fingerprint(self._rows.targets, self._rows.content())

    def __getitem__(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step `step` (from 0, over all epochs) on this process, in order.

        All processes get the same number. A step with fewer images than micro-batches is filled up with batches that
        count for nothing.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[index]
        slices = np.array_split(rows, self.accumulation_steps * self._num_processes)
        return [self._batch(part, rows[:1], epoch) for part in slices[self._process :: self._num_processes]]

    def _batch(self, rows: np.ndarray, filler: np.ndarray, epoch: int) -> Batch:
        batch = self._rows.batch(rows, filler)
        if self._augmentation:
            drawn = self._drawn(epoch)[rows if len(rows) else filler]
            batch.inputs["pixel_values"] = augment(batch.inputs["pixel_values"], drawn, self._augmentation)
        return batch

    def _epoch_order(self, epoch: int) -> list[np.ndarray]:
        return epoch_order(np.ones(self._rows.num_images, np.int64), self._global, self._seed, epoch)

    def _epoch_draws(self, epoch: int) -> np.ndarray:
        return draw(self._rows.num_images, self._seed, epoch)


class ImageEvalBatches:
    """Every image once over all processes, in order; each process makes the same number of forward passes."""

    def __init__(
        self,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._rows = _Rows(images, mean, std)
        self._process, self._num_processes = process_index, num_processes
        self._batches = [
            np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)
        ]
        self.num_examples = len(images)

    def __iter__(self) -> Iterator[Batch]:
        for part in in_rounds(self._batches, self._process, self._num_processes):
            yield self._rows.batch(part, filler=self._batches[-1][:1])


class _Rows:
    """Images as normalized tensors."""

    def __init__(self, images: Images, mean: Sequence[float], std: Sequence[float]) -> None:
        self._images, self.num_images, self.targets = images, len(images), images.targets
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)

    def content(self) -> Iterator[np.ndarray]:
        """All pixels, some images at a time."""
        for start in range(0, self.num_images, _IMAGES_AT_ONCE):
            numbers = np.arange(start, min(start + _IMAGES_AT_ONCE, self.num_images))
            yield np.ascontiguousarray(self._images.pixels(numbers))

    def batch(self, rows: np.ndarray, filler: np.ndarray) -> Batch:
        """The rows as one batch, or a filler batch where there are none. Pixels stay channels-last in memory."""
        import torch

        taken = rows if len(rows) else filler
        pixels = self._images.pixels(taken).astype(np.float32) / np.float32(255)
        values = torch.from_numpy((pixels - self._mean) / self._std).permute(0, 3, 1, 2)
        inputs = {"pixel_values": values, "labels": torch.from_numpy(self._images.targets[taken])}
        return Batch(inputs, len(rows), 0, tuple(rows.tolist()))
