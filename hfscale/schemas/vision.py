"""Images, how they are varied in training, and the convolutional network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class ImageDataSettings:
    """Where the images are, and the shape that they are brought to."""

    train: str
    """Folder with one folder of images per class, MNIST's idx files or their folder, Hub id, or `builtin:digits`."""
    validation: str | None = None
    """Source to choose the best model on; without it `validation_fraction` of `train` is held out."""
    test: str | None = None
    """Source to report the final model on; without it the validation images are. `builtin:digits` and a folder with
    MNIST's four files bring their own."""
    image: str | None = None
    """Column with the images of a Hub data set; `image` by default."""
    label: str | None = None
    """Column with the class of a Hub data set; `label` by default."""
    subset: str | None = None
    """Configuration of a Hub data set."""
    image_size: int | None = None
    """Pixels per side that all images are resized to, whatever their shape was; without it they must be equal."""
    channels: Literal[1, 3] | None = None
    """1 turns all images grey, 3 into colour; by default they stay as they are and must be alike."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What to do with files that are no readable image: stop and name them, or leave them out and name them."""
    validation_fraction: float | None = None
    """Share of `train` held out when `validation` is not given; 0.1 by default, 0 for none."""
    split_seed: int = 0
    """Seed of that split; apart from `train.seed`, so that runs with other seeds share their validation images."""

    def __post_init__(self) -> None:
        require(
            self.image_size is None or 4 <= self.image_size <= 4096,
            f"--data.image_size must be from 4 to 4096 pixels, got {self.image_size}",
        )
        require(0 <= (self.validation_fraction or 0) < 1, "--data.validation_fraction must be in [0, 1)")
        for name in ("validation_fraction", "split_seed"):
            require(
                self.validation is None or not getattr(self, name),
                f"--data.{name} has no effect when --data.validation is given; leave one of them out",
            )


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How far each training image is moved at random, anew in every epoch. Held-out images never are."""

    shift: float = 0.0
    """Largest shift, as a fraction of each side: 0.1 is a tenth."""
    rotate: float = 0.0
    """Largest rotation to either side, in degrees."""
    scale: float = 0.0
    """Largest change of size: 0.1 draws from 0.9 to 1.1 times."""
    crop: float = 0.0
    """Largest fraction of each side cut away; the rest, at a random place, fills the image again."""
    flip: float = 0.0
    """Probability of a mirror image, left to right."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 20% of the area is replaced by the mean (random erasing)."""

    def __post_init__(self) -> None:
        for name, least, most in (("shift", 0, 0.5), ("rotate", 0, 180), ("flip", 0, 1), ("erase", 0, 1)):
            value = getattr(self, name)
            require(least <= value <= most, f"--augment.{name} must be in [{least}, {most}], got {value}")
        for name in ("scale", "crop"):
            value = getattr(self, name)
            require(0 <= value < 1, f"--augment.{name} must be in [0, 1), got {value}")

    def __bool__(self) -> bool:
        """Whether anything is varied at all."""
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, kw_only=True)
class CnnSettings:
    """A convolutional network to continue from, or the shape of a new one."""

    name: str | None = None
    """Hub id or folder of a network of this recipe to continue from; without it a new one is made."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    conv_channels: list[int] | None = None
    """Channels of each 3x3 convolution of a new network; 32, 64, 64 by default, or as many of them as fit."""
    hidden_size: int | None = None
    """Width of the dense layer of a new network; 64 by default."""
    dropout: float | None = None
    """Dropout before the last layer of a new network; 0 by default."""

    def __post_init__(self) -> None:
        require(
            self.conv_channels is None or (bool(self.conv_channels) and min(self.conv_channels) >= 1),
            f"--model.conv_channels must be a list of numbers of at least 1, got {self.conv_channels}",
        )
        require(
            self.hidden_size is None or self.hidden_size >= 1,
            f"--model.hidden_size must be at least 1, got {self.hidden_size}",
        )
        require(0 <= (self.dropout or 0) < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")
        for name in ("conv_channels", "hidden_size", "dropout"):
            require(
                self.name is None or getattr(self, name) is None,
                f"--model.{name} has no effect when --model.name is given; leave one of them out",
            )
        require(
            self.revision is None or self.name is not None,
            "--model.revision has no effect without --model.name; leave it out",
        )
