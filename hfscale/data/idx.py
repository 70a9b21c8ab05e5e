"""MNIST's idx files: http://yann.lecun.com/exdb/mnist/ describes the format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from hfscale.data.readers import naming_read_errors
from hfscale.errors import DataError

_MAGIC = {"images": 0x0803, "labels": 0x0801}  # unsigned bytes in three dimensions, in one
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def is_idx(path: Path) -> bool:
    """True for a name of the kind `train-images-idx3-ubyte.gz` or `t10k-labels.idx1-ubyte`."""
    return "idx3" in path.name or "idx1" in path.name


def read_idx(path: Path, kind: str) -> np.ndarray:
    """The `images` (number, height, width) or `labels` (number,) of a file, plain or .gz, as unsigned bytes.

    Raises:
        DataError: for a file that is corrupt, cut short, or of another kind.
    """
    with naming_read_errors(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic: int = struct.unpack_from(">I", content)[0] if len(content) >= 4 else 0
    if magic != _MAGIC[kind]:
        other = next((name for name, number in _MAGIC.items() if number == magic), None)
        what = f"it holds {other}" if other else "it is no such file"
        raise DataError(f"{path}: idx {kind} begin with the number {_MAGIC[kind]}, this file with {magic}; {what}")
    dimensions = magic & 0xFF
    shape = struct.unpack_from(f">{dimensions}I", content, 4) if len(content) >= 4 + 4 * dimensions else (0,)
    there, promised = len(content) - 4 - 4 * dimensions, int(np.prod(shape, dtype=np.int64))
    if there != promised or not promised:
        raise DataError(f"{path}: its header promises {promised:,} bytes of {kind}, it holds {max(0, there):,}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def labels_of(images: Path) -> Path:
    """The file with the labels of a file with images, found by the convention of the names.

    Raises:
        DataError: where there is none.
    """
    if "images" not in images.name:
        raise DataError(f"{images} is not named like images; give the file whose name holds images-idx3")
    name = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    for candidate in (images.with_name(name + ".gz"), images.with_name(name)):
        if candidate.is_file():
            return candidate
    raise DataError(f"no labels for {images}: there is neither {name}.gz nor {name} beside it")


def find_pair(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The images and labels of `train` or `test` among a folder's files; None where there are no such images."""
    stem = TRAIN if split == "train" else TEST
    dotted = stem.replace("-idx3", ".idx3")  # as some archives name them
    names = [ending for name in (stem, dotted) for ending in (f"{name}.gz", name)]
    images = next((folder / name for name in names if (folder / name).is_file()), None)
    return (images, labels_of(images)) if images else None
