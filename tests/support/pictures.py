"""Small image data for tests: class folders, MNIST's four files, and arrays that a network can learn."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image


def bars(number: int, size: int = 12, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (number, size, size, channels) of noise with a bright bar, and 0 where it lies, 1 where it stands."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 80, (number, size, size, channels)).astype(np.uint8)
    labels = draw.integers(0, 2, number)
    for image, label in zip(images, labels, strict=True):
        place = draw.integers(2, size - 2)
        image[(place, slice(None)) if label == 0 else (slice(None), place)] = 220
    return images, labels


def write_folder(folder: Path, images: np.ndarray, labels: np.ndarray, ending: str = ".png") -> Path:
    """`FOLDER/lying/*.png` and `FOLDER/standing/*.png`."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("standing" if label else "lying") / f"{number:04}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return folder


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as an idx file."""
    header = struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: tuple[Any, Any], test: tuple[Any, Any], ending: str = ".gz") -> Path:
    """The four files of MNIST, gzipped or plain."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in {"train": train, "t10k": test}.items():
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
            content = idx_bytes(array)
            (folder / f"{name}-{kind}-ubyte{ending}").write_bytes(gzip.compress(content) if ending else content)
    return folder
