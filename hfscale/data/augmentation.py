"""Random variation of training images: one affine warp per image, then erasing, for a whole batch at once.

What happens to an image is a pure function of (seed, epoch, row): neither the order, nor the batch it falls into, nor
the number of processes changes it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hfscale.schemas import AugmentSettings

if TYPE_CHECKING:
    from torch import Tensor

_STREAM = 1  # apart from the order of the examples, which is drawn from (seed, epoch) too
# One column each; all are drawn, so that turning one variation on leaves the others as they were.
_DRAWN = (
    "shift_x", "shift_y", "rotate", "scale", "crop", "crop_x", "crop_y", "flip",
    "erase", "area", "aspect", "top", "left",
)  # fmt: skip
_AREA = (0.02, 0.2)  # of the image
_ASPECT = (0.3, 1 / 0.3)  # height over width


def draw(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """(num_images, 13) numbers uniform in [0, 1): all that is random about the images of one epoch."""
    return np.random.default_rng([seed, epoch, _STREAM]).random((num_images, len(_DRAWN)))


def augment(images: Tensor, drawn: np.ndarray, settings: AugmentSettings) -> Tensor:
    """Vary normalized images of shape (batch, channels, height, width) by their rows of `draw`.

    What a warp brings in from outside repeats the edge; what is erased becomes 0, the mean.
    """
    import torch
    from torch.nn import functional as F

    columns: dict[str, np.ndarray] = dict(zip(_DRAWN, drawn.T, strict=True))
    height, width = images.shape[-2:]
    if settings.shift or settings.rotate or settings.scale or settings.crop or settings.flip:
        theta = torch.from_numpy(_matrices(columns, settings, height, width).astype(np.float32))
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if settings.erase:
        images = images.masked_fill(torch.from_numpy(_erased(columns, settings.erase, height, width)), 0.0)
    return images


def _matrices(columns: dict[str, np.ndarray], settings: AugmentSettings, height: int, width: int) -> np.ndarray:
    """(batch, 2, 3) matrices from a place in the new image to the place in the old one that it shows.

    Coordinates run from -1 to 1, as `torch.nn.functional.affine_grid` has them. Rotation and scale are about the
    centre, and keep angles in images that are not square.
    """
    angle = np.deg2rad(settings.rotate) * _symmetric(columns["rotate"])
    seen = 1 - settings.crop * columns["crop"]  # the part of each side that crop leaves
    zoom = seen / (1 + settings.scale * _symmetric(columns["scale"]))
    mirror = np.where(columns["flip"] < settings.flip, -1.0, 1.0)
    matrices = np.empty((len(angle), 2, 3))
    matrices[:, 0, 0] = zoom * np.cos(angle) * mirror
    matrices[:, 0, 1] = -zoom * np.sin(angle) * height / width
    matrices[:, 1, 0] = zoom * np.sin(angle) * mirror * width / height
    matrices[:, 1, 1] = zoom * np.cos(angle)
    for axis, name in enumerate("xy"):
        crop = (1 - seen) * _symmetric(columns[f"crop_{name}"])
        matrices[:, axis, 2] = crop - 2 * settings.shift * _symmetric(columns[f"shift_{name}"])
    return matrices


def _erased(columns: dict[str, np.ndarray], probability: float, height: int, width: int) -> np.ndarray:
    """(batch, 1, height, width) true where a pixel is erased (Zhong et al. 2020, with a smaller largest area)."""
    area = (_AREA[0] + (_AREA[1] - _AREA[0]) * columns["area"]) * height * width
    aspect = np.exp(math.log(_ASPECT[0]) + (math.log(_ASPECT[1]) - math.log(_ASPECT[0])) * columns["aspect"])
    here = columns["erase"] < probability
    inside = []
    for size, most, start in ((area * aspect, height, columns["top"]), (area / aspect, width, columns["left"])):
        side = np.clip(np.round(np.sqrt(size)), 1, most) * here
        first = np.floor(start * (most - side + 1))
        places = np.arange(most)
        inside.append((places >= first[:, None]) & (places < (first + side)[:, None]))
    rows, columns_inside = inside
    return (rows[:, :, None] & columns_inside[:, None, :])[:, None]


def _symmetric(uniform: np.ndarray) -> np.ndarray:
    """From [0, 1) to [-1, 1)."""
    return 2 * uniform - 1
