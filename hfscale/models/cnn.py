"""A small convolutional network for image classification, with its config and its image processor.

This file stands alone: it is saved beside the weights, and runs where hfscale is not installed
(`trust_remote_code=True`). With the defaults it is the network of TensorFlow's CNN tutorial: 3x3 convolutions of 32,
64 and 64 channels without padding, ReLU, max-pooling by 2 between them, a dense layer of 64, and one output per class.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention


class CnnConfig(PreTrainedConfig):
    """Shape of the network.

    Args:
        image_size: pixels per side, or [height, width].
        num_channels: 1 for grey images, 3 for colour.
        conv_channels: channels of each convolution; all but the last are followed by max-pooling.
        hidden_size: width of the dense layer.
        dropout: before the last layer.
    """

    model_type = "hfscale_cnn"

    def __init__(
        self,
        image_size: int | list[int] = 28,
        num_channels: int = 1,
        conv_channels: list[int] | None = None,
        hidden_size: int = 64,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.image_size, self.num_channels = image_size, num_channels
        self.conv_channels = conv_channels or [32, 64, 64]
        self.hidden_size, self.dropout = hidden_size, dropout
        super().__init__(**kwargs)

    @property
    def height_and_width(self) -> tuple[int, int]:
        sides = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size
        return sides[0], sides[1]


def features_shape(height: int, width: int, num_convolutions: int) -> tuple[int, int]:
    """Height and width that the last convolution puts out; not above 0 where the image is too small."""
    for number in range(1, num_convolutions + 1):
        height, width = height - 2, width - 2
        if number < num_convolutions:
            height, width = height // 2, width // 2
    return height, width


class CnnForImageClassification(PreTrainedModel):
    """(batch, channels, height, width) images, as `CnnImageProcessor` makes them -> (batch, classes) logits."""

    config_class = CnnConfig
    config: CnnConfig
    main_input_name = "pixel_values"
    input_modalities = "image"

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        height, width = features_shape(*config.height_and_width, len(config.conv_channels))
        if min(height, width) < 1:
            size = "x".join(map(str, config.height_and_width))
            raise ValueError(f"images of {size} are too small for {len(config.conv_channels)} convolutions")
        widths = [config.num_channels, *config.conv_channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3) for before, after in itertools.pairwise(widths)
        )
        self.hidden = nn.Linear(widths[-1] * height * width, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_size, len(config.id2label or ()))
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """Logits; with (batch,) class numbers also the mean cross entropy."""
        states = _channels_last(pixel_values)
        for number, convolution in enumerate(self.convolutions, start=1):
            states = convolution(states)
            if number < len(self.convolutions):
                states = F.max_pool2d(states, 2)
            states = F.relu(states)  # after the pooling: the same result, from a quarter of the values
        states = self.dropout(F.relu(self.hidden(states.flatten(1))))
        logits = self.classifier(states)
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)  # type: ignore[arg-type]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own: uniform in plus or minus one over the root of the number of inputs, weights and biases."""
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            assert module.bias is not None
            init.uniform_(module.bias, -bound, bound)


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """The same values with channels last in memory, which convolutions on a CPU run faster on.

    With a single channel both orders look alike to PyTorch; the way over `view` fixes the strides that it goes by.
    """
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch, -1)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class CnnImageProcessor(BaseImageProcessor):
    """Images of any size, grey or colour -> `pixel_values`, as the network was trained on them.

    Args:
        size: `height` and `width` in pixels.
        num_channels: 1 turns images grey, 3 into colour.
        image_mean, image_std: of each channel, pixels counted from 0 to 1.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        size: dict[str, int] | None = None,
        num_channels: int = 1,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = size or {"height": 28, "width": 28}
        self.num_channels = num_channels
        self.image_mean = image_mean or [0.0] * num_channels
        self.image_std = image_std or [1.0] * num_channels

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:  # type: ignore[override]
        """One image or a list: PIL images, or arrays of unsigned bytes, (height, width) or (height, width, channels).

        Returns:
            `pixel_values`: float32 of shape (images, channels, height, width).

        Raises:
            ValueError: for arrays of other types, and images of more than 8 bits per value.
        """
        several = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.ndim == 4)
        pixels = np.stack([self._pixels(image) for image in (images if several else [images])])
        mean, std = np.array(self.image_mean, np.float32), np.array(self.image_std, np.float32)
        values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return BatchFeature({"pixel_values": values.transpose(0, 3, 1, 2)}, tensor_type=return_tensors)

    def _pixels(self, image: Any) -> np.ndarray:
        """Unsigned bytes of shape (height, width, channels)."""
        if not isinstance(image, PIL.Image.Image):
            array = np.asarray(image)
            if array.dtype != np.uint8:
                raise ValueError(f"images must be PIL images or arrays of unsigned bytes, got {array.dtype}")
            image = PIL.Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
        if image.mode[0] in "IF":  # a pipeline would clip them before they come here: training took none
            bits = "16 bits" if image.mode.startswith("I;16") else "more than 8 bits"
            raise ValueError(f"images of {bits} per value are not supported; convert to 8")
        image = PIL.ImageOps.exif_transpose(image).convert("RGB")  # as a pipeline gives every image
        image = image.convert("L") if self.num_channels == 1 else image
        if image.size != (self.size["width"], self.size["height"]):
            image = image.resize((self.size["width"], self.size["height"]), PIL.Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(image.height, image.width, -1)


# What `save_pretrained` needs to put this file into the folder.
CnnConfig.register_for_auto_class()
CnnForImageClassification.register_for_auto_class("AutoModelForImageClassification")
CnnImageProcessor.register_for_auto_class("AutoImageProcessor")
if not __name__.startswith("transformers_modules"):  # a copy that came with weights must not take this one's place
    AutoConfig.register(CnnConfig.model_type, CnnConfig)
    AutoModelForImageClassification.register(CnnConfig, CnnForImageClassification)
    AutoImageProcessor.register(CnnConfig, image_processor_classes={"pil": CnnImageProcessor})
