"""What an image data set's name means, and its images one by one, not yet decoded where they are files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hfscale import console
from hfscale.data.idx import find_pair, is_idx, labels_of, read_idx
from hfscale.data.sources import hub_table, looks_like_file
from hfscale.errors import DataError, did_you_mean
from hfscale.schemas import ImageDataSettings

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")
_DIGITS_TEST = 360  # of 1,797, a fifth


class RawImage(NamedTuple):
    """One image with the name of its class (None where it has none)."""

    where: str
    label: str | None
    content: np.ndarray | Path | bytes | None
    """Pixels (height, width), a file, or a file's bytes."""


class ImageSource(NamedTuple):
    """An image data set that was found: idx files, a folder of classes, a Hub id with a split, or the digits."""

    name: str
    pair: tuple[Path, Path] | None = None
    files: tuple[tuple[Path, str], ...] = ()
    """Images of a folder with the names of their classes."""
    hub_id: str | None = None
    split: str = "train"

    def fingerprint(self, settings: ImageDataSettings) -> str:
        """sha256 over the files' names and content; for the Hub, that of `datasets`, which follows the revision."""
        if self.hub_id:
            table = hub_table(self.hub_id, settings.subset, self.split)
            return f"{table._fingerprint} {settings.image} {settings.label}"
        digest = hashlib.sha256(f"{self.name}\0{self.split}".encode())
        for path in self.pair or [path for path, _ in self.files]:
            digest.update(f"{path}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def images(self, settings: ImageDataSettings) -> Iterator[RawImage]:
        """All images in order."""
        if self.hub_id:
            yield from _hub_images(self, settings)
        elif self.pair:
            yield from _idx_images(*self.pair)
        elif self.files:
            yield from (RawImage(str(path), label, path) for path, label in self.files)
        else:
            yield from _digits(self.split)


def find_image_source(name: str) -> ImageSource:
    """Resolve an image data set's name; nothing is decoded.

    Raises:
        DataError: for what doesn't exist, or is no image data set; says what one looks like.
    """
    plain, _, split = name.partition("#")
    split = split or "train"
    if plain.startswith("builtin:"):
        if plain != "builtin:digits" or split not in ("train", "test"):
            raise DataError(f"no built-in images {name}; there are builtin:digits and builtin:digits#test")
        return ImageSource(name, split=split)
    path = Path(name).expanduser()
    if path.is_file():
        if not is_idx(path):
            raise DataError(f"{name} is no image data set; give a folder of class folders, or images-idx3 of MNIST")
        return ImageSource(name, pair=(path, labels_of(path)))
    folder = Path(plain).expanduser() if not path.is_dir() else path
    if folder.is_dir():
        pair = find_pair(folder, split if folder != path else "train")
        if pair:
            return ImageSource(name, pair=pair, split=split)
        if folder == path:
            return ImageSource(name, files=_class_folders(folder))
        raise DataError(f"folder {plain} has no split {split}; only one with the four files of MNIST has any")
    if looks_like_file(plain) or is_idx(path):
        siblings = [str(path.parent / child.name) for child in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"no such file or folder: {name}{did_you_mean(str(path), siblings)}")
    return ImageSource(name, hub_id=plain, split=split)


def own_test(train: str) -> str | None:
    """The test split that a source named without a split brings along: the digits' and MNIST's."""
    if train == "builtin:digits":
        return f"{train}#test"
    folder = Path(train).expanduser()
    return f"{train}#test" if folder.is_dir() and find_pair(folder, "train") and find_pair(folder, "test") else None


def _class_folders(folder: Path) -> tuple[tuple[Path, str], ...]:
    """(image, class) of a folder that holds one folder of images per class, and nothing that looks like another."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    layout = f"images lie in {folder}/CLASS_NAME/*.png"
    if not classes:
        raise DataError(f"folder {folder} holds no class folders; {layout}")
    splits = [path.name for path in classes if path.name.lower() in _SPLITS]
    if len(splits) > 1 or any(not _images_in(path) for path in classes if path.name in splits):
        raise DataError(
            f"folder {folder} holds splits ({', '.join(splits)}), not classes; name them one by one: "
            f"--data.train {folder}/{max(splits)} and likewise --data.validation, --data.test"
        )
    files = {path: _images_in(path, nested=True) for path in classes}
    for path in (path for path, images in files.items() if not images):
        raise DataError(f"class folder {path} holds no image ({', '.join(ENDINGS)}); {layout}")
    others = sorted(set(_visible_files(folder, folder.rglob("*"))).difference(*files.values()))
    if others:
        console.warn(f"left out {len(others):,} files of {folder} that are no images of a class; one is {others[0]}")
    return tuple((image, path.name) for path, images in files.items() for image in images)


def _images_in(folder: Path, nested: bool = False) -> list[Path]:
    found = _visible_files(folder, folder.rglob("*") if nested else folder.iterdir())
    return sorted(path for path in found if path.suffix.lower() in ENDINGS)


def _visible_files(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Those that neither are hidden nor lie in a hidden folder below `folder`, where tools keep copies."""
    files = (path for path in paths if path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _idx_images(images: Path, labels: Path) -> Iterator[RawImage]:
    pixels, classes = read_idx(images, "images"), read_idx(labels, "labels")
    if len(pixels) != len(classes):
        raise DataError(f"{images} holds {len(pixels):,} images, {labels} {len(classes):,} labels")
    for number, (image, label) in enumerate(zip(pixels, classes.tolist(), strict=True), start=1):
        yield RawImage(f"{images} image {number}", str(label), image)


def _digits(split: str) -> Iterator[RawImage]:
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels (UCI, Alpaydin and Kaynak 1998), a fixed fifth as test."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    shuffled = np.random.default_rng(0).permutation(len(digits.target))
    rows = shuffled[:_DIGITS_TEST] if split == "test" else shuffled[_DIGITS_TEST:]
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    for row in np.sort(rows).tolist():
        yield RawImage(f"builtin:digits image {row + 1}", str(digits.target[row]), pixels[row])


def _hub_images(source: ImageSource, settings: ImageDataSettings) -> Iterator[RawImage]:
    import datasets

    assert source.hub_id
    table = hub_table(source.hub_id, settings.subset, source.split)
    image, label = settings.image or "image", settings.label or "label"
    for flag, name in (("--data.image", image), ("--data.label", label)):
        if name not in table.features:
            near, columns = did_you_mean(name, table.features), ", ".join(table.features)
            raise DataError(f"{source.name} has no column {name} ({flag}){near or ';'} its columns are {columns}")
    if not isinstance(table.features[image], datasets.Image):
        raise DataError(f"{source.name}: column {image} (--data.image) holds {table.features[image]}, not images")
    names = getattr(table.features[label], "names", None)
    encoded = table.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    for number, row in enumerate(encoded, start=1):
        value: Any = row[label]
        if names is not None and value is not None:
            value = names[value] if value >= 0 else None  # -1 is the Hub's mark for a hidden label
        content = row[image] or {}
        file = content.get("bytes") or (Path(content["path"]) if content.get("path") else None)
        yield RawImage(f"{source.name} row {number}", None if value is None else str(value), file)
