"""Images of any source -> one table of raw pixels of equal shape, memory-mapped and cached by content.

Columns: `pixels` (bytes: height x width x channels, channels last), `height`, `width`, `channels`, `label` (the
class's name), `where` (file, or file and number), `problem` (what is wrong with the image, or null). A row with a
problem holds no pixels, so that all pixels in the file are of images that are used.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hfscale import console
from hfscale.data.cache import cached_table
from hfscale.data.examples import without_bad_rows
from hfscale.data.image_sources import ImageSource, RawImage, find_image_source, own_test
from hfscale.data.labels import Labels
from hfscale.data.splits import hold_out
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import ImageDataSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

_FORMAT = 2  # raise it when the table's columns or the decoding change: it is part of the cache's key
_MOST_VALUES = 2**28  # that mean and deviation are taken from
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error)  # Pillow's; the last of odd EXIF
_NOTHING = np.zeros((0, 0, 0), np.uint8)  # the pixels of a row with a problem


class Images:
    """Images of equal shape and their class numbers; pixels are read from the memory-mapped table when asked for.

    Args:
        table: rows as this module's head describes them.
        labels: the classes, by their number.
    """

    def __init__(self, table: Dataset, labels: Labels) -> None:
        self.table, self.classes = table, labels
        self.targets = np.array(labels.encode(table), dtype=np.int64)
        first = table[0]
        self.shape: tuple[int, int, int] = (first["height"], first["width"], first["channels"])
        """Height, width, channels."""
        self._chunks = [_Chunk.of(chunk, self.shape) for chunk in table.data.column("pixels").chunks]
        self._starts = np.cumsum([0, *(len(chunk.places) for chunk in self._chunks)])
        self._stored = None if table._indices is None else table._indices.column(0).to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, column: Literal["labels"]) -> np.ndarray:
        """The class numbers, as other tables have them in a column."""
        return {"labels": self.targets}[column]

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Unsigned bytes of shape (rows, height, width, channels)."""
        stored = rows if self._stored is None else self._stored[rows]
        pixels = np.empty((len(rows), *self.shape), np.uint8)
        chunk_of = np.searchsorted(self._starts, stored, side="right") - 1
        for chunk in np.unique(chunk_of):
            here = chunk_of == chunk
            pixels[here] = self._chunks[chunk].pixels(stored[here] - self._starts[chunk])
        return pixels


class _Chunk(NamedTuple):
    """A part of the table that lies in one piece."""

    stored: np.ndarray
    """(images, height, width, channels), mapped, not copied."""
    places: np.ndarray
    """For each row where its binary begins, in bytes. Rows without pixels take no room: rows and images part ways."""

    @classmethod
    def of(cls, chunk: Any, shape: tuple[int, int, int]) -> _Chunk:
        """A view of an Arrow array of binaries that are either empty or of this shape."""
        _, offsets, values = chunk.buffers()
        places = np.frombuffer(offsets, np.int32, len(chunk) + 1, chunk.offset * 4)
        stored = np.frombuffer(values, np.uint8) if values else np.zeros(0, np.uint8)
        return cls(stored[places[0] : places[-1]].reshape(-1, *shape), places[:-1])

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        return self.stored[(self.places[rows] - self.places[0]) // self.stored[0].nbytes]


class ImageSplits(NamedTuple):
    """Training, validation and test images."""

    train: Images
    validation: Images | None
    test: Images | None

    @property
    def held_out(self) -> Images | None:
        """The images to report on: those of `test`, else of `validation`."""
        return self.test or self.validation


def load_image_splits(settings: ImageDataSettings) -> ImageSplits:
    """Load what the settings name, and hold out a part of `train` where no validation source is given.

    Raises:
        DataError: for data that can't be read, images of several shapes, fewer than two classes, a class that the
            training images don't have, or a held-out part that would be empty.
        SettingsError: for a setting that has no effect on these sources.
    """
    names = (settings.train, settings.validation, settings.test or own_test(settings.train))
    sources = [find_image_source(name) if name else None for name in names]
    _refuse_idle(settings, [source for source in sources if source])
    tables = [_load(source, settings) if source else None for source in sources]
    _refuse_several_shapes([table for table in tables if table is not None], settings)
    train, validation, test = tables
    assert train is not None
    if not settings.validation:
        train, validation = hold_out(train, _contents(train), settings)
    labels = Labels.of(train, "single_label_classification")
    splits = ImageSplits(
        Images(train, labels), *(Images(part, labels) if part else None for part in (validation, test))
    )
    height, width, channels = splits.train.shape
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in splits._asdict().items() if part)
    kind = "grey" if channels == 1 else "colour"
    console.say(
        f"data       {settings.train}: {sizes.replace('train', 'training')} images of {height}x{width}, {kind}"
    )
    return splits


def mean_and_std(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, pixels counted from 0 to 1, exact over the images.

    Beyond 2^28 values, evenly spaced images stand for all. A channel that never varies gets the deviation 1.
    """
    rows = np.arange(len(images))[:: max(1, len(images) * int(np.prod(images.shape)) // _MOST_VALUES)]
    counts = np.zeros((images.shape[2], 256), np.int64)
    for start in range(0, len(rows), 4096):
        pixels = images.pixels(rows[start : start + 4096])
        for channel, count in enumerate(counts):
            count += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(0.0, counts @ values**2 / total - mean**2))
    return mean.tolist(), np.where(std > 1e-6, std, 1.0).tolist()


def write_example(images: Images, folder: Path) -> Path:
    """Write the first image as `example.png`, to try the model on."""
    import PIL.Image

    path = folder / "example.png"
    pixels = images.pixels(np.zeros(1, np.int64))[0]
    PIL.Image.fromarray(pixels[..., 0] if images.shape[2] == 1 else pixels).save(path)
    return path


def to_pixels(image: Image, image_size: int | None, channels: int | None) -> np.ndarray:
    """Unsigned bytes of shape (height, width, channels), grey or colour as asked for, else as the image is.

    Turned as its EXIF data says, and resized (bilinear, the whole image whatever its shape) where `image_size` is
    given. These are the pixels that transformers' pipeline gives a model for the same file: it makes every image RGB
    first, which clips values of more than 8 bits; such images are refused by `ValueError`.
    """
    import PIL.Image
    import PIL.ImageOps

    if image.mode[0] in "IF":
        bits = "16 bits" if image.mode.startswith("I;16") else "more than 8 bits"
        raise ValueError(f"{bits} per value; convert to 8")
    grey = channels == 1 if channels else image.mode in ("1", "L", "LA", "La")
    image = PIL.ImageOps.exif_transpose(image).convert("RGB")
    image = image.convert("L") if grey else image
    if image_size and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _load(source: ImageSource, settings: ImageDataSettings) -> Dataset:
    from datasets import Features, Value

    key = f"{_FORMAT}\0{source.fingerprint(settings)}\0{settings.image_size}\0{settings.channels}"
    numbers = {name: Value("int32") for name in ("height", "width", "channels")}
    texts = {name: Value("string") for name in ("label", "where", "problem")}
    features = Features({"pixels": Value("binary"), **numbers, **texts})
    next(source.images(settings), None)  # what can't be read at all must not leave a cache folder behind
    table = cached_table(_rows, features, {"source": source, "settings": settings}, key)
    if not len(table):
        raise DataError(f"{source.name} holds no images")
    return without_bad_rows(table, source, settings)


def _rows(source: ImageSource, settings: ImageDataSettings) -> Iterator[dict[str, Any]]:
    for raw in source.images(settings):
        pixels, problem = _decode(raw, settings)
        label = (raw.label or "").strip()
        if not problem and not label:
            pixels, problem = _NOTHING, "no label"
        height, width, channels = pixels.shape
        shape = {"height": height, "width": width, "channels": channels}
        yield {"pixels": pixels.tobytes(), **shape, "label": label, "where": raw.where, "problem": problem}


def _decode(raw: RawImage, settings: ImageDataSettings) -> tuple[np.ndarray, str | None]:
    import PIL.Image

    if raw.content is None:
        return _NOTHING, "no image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, not pixels
            content = raw.content.read_bytes() if isinstance(raw.content, Path) else raw.content
            is_file = isinstance(content, bytes)
            image = PIL.Image.open(io.BytesIO(content)) if is_file else PIL.Image.fromarray(content)
            return to_pixels(image, settings.image_size, settings.channels), None
    except PIL.UnidentifiedImageError:
        return _NOTHING, "not an image, or a corrupt one"
    except (*_UNREADABLE, PIL.Image.DecompressionBombError) as error:
        return _NOTHING, f"can't be read as an image ({' '.join(str(error).split())})"


def _refuse_idle(settings: ImageDataSettings, sources: Sequence[ImageSource]) -> None:
    for name in ("image", "label", "subset"):
        if getattr(settings, name) is not None and not any(source.hub_id for source in sources):
            read = ", ".join(source.name for source in sources)
            raise SettingsError(f"--data.{name} has no effect on {read}; leave it out")


def _refuse_several_shapes(tables: Sequence[Dataset], settings: ImageDataSettings) -> None:
    """Name one image of each of two kinds, and the setting that makes them alike."""
    seen: dict[str, tuple[Any, str]] = {}
    for table in tables:
        shapes = np.stack([np.asarray(table[name][:]) for name in ("channels", "height", "width")], axis=1)
        for row in np.unique(shapes, axis=0, return_index=True)[1].tolist():
            channels, height, width = shapes[row].tolist()
            kinds = {"channels": "grey" if channels == 1 else "colour", "image_size": f"{height}x{width}"}
            for flag, kind in kinds.items():
                where = table[row]["where"]
                other, there = seen.setdefault(flag, (kind, where))
                if other != kind:
                    way_out = (
                        "--data.channels 1 or 3" if flag == "channels" else f"--data.image_size {min(height, width)}"
                    )
                    raise DataError(f"{there} is {other}, {where} is {kind}; {way_out} makes all images alike")


def _contents(table: Dataset) -> Iterator[bytes]:
    return (pixels for start in range(0, len(table), 1000) for pixels in table[start : start + 1000]["pixels"])
