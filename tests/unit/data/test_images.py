"""Images of every kind of source come in as the same table of pixels; what can't be used is named in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hfscale.data import Images, load_image_splits, mean_and_std
from hfscale.data.image_sources import find_image_source
from hfscale.data.images import to_pixels
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import ImageDataSettings
from tests.support.pictures import bars, idx_bytes, write_folder, write_mnist


def load(path: Path | str, **more: object):
    return load_image_splits(ImageDataSettings(train=str(path), **more))  # type: ignore[arg-type]


def all_pixels(images: Images) -> np.ndarray:
    return images.pixels(np.arange(len(images)))


def test_folder_and_idx_hold_the_same_pixels(tmp_path: Path) -> None:
    images, labels = bars(30)
    folder = load(write_folder(tmp_path / "folder", images, labels), validation_fraction=0).train
    order = np.argsort(labels, kind="stable")  # a folder is read class by class
    assert np.array_equal(all_pixels(folder), images[order])
    assert folder.classes.names == ("lying", "standing")
    assert np.array_equal(folder.targets, labels[order])
    for ending in (".gz", ""):
        splits = load(write_mnist(tmp_path / f"idx{ending}", (images, labels), bars(9, seed=1), ending))
        assert splits.test and splits.validation
        assert len(splits.test) == 9
        assert len(splits.train) + len(splits.validation) == 30
        both = np.concatenate([all_pixels(splits.train), all_pixels(splits.validation)])
        assert sorted(map(bytes, both)) == sorted(map(bytes, images))
        assert splits.train.classes.names == ("0", "1")
    only = load(tmp_path / "idx" / "train-images-idx3-ubyte", validation_fraction=0)
    assert np.array_equal(all_pixels(only.train), images)
    assert only.test is None


def test_pixels_stay_on_disk_and_come_in_any_order(tmp_path: Path) -> None:
    images, labels = bars(2500, size=6)  # more than one record batch of the cached table
    train = load(write_mnist(tmp_path, (images, labels), bars(9, 6)), validation_fraction=0).train
    assert len(train._chunks) > 1
    assert not any(chunk.stored.flags.owndata for chunk in train._chunks)
    rows = np.random.default_rng(0).integers(0, 2500, 64)
    assert np.array_equal(train.pixels(rows), images[rows])


def test_digits_are_split_the_same_way_every_time() -> None:
    splits = load("builtin:digits")
    assert splits.test and splits.validation
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (1437, 360)
    assert splits.train.shape == (8, 8, 1)
    assert splits.train.classes.names == tuple("0123456789")
    again = load("builtin:digits")
    assert np.array_equal(all_pixels(again.train), all_pixels(splits.train))
    assert all_pixels(splits.train).max() == 255


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    images, labels = bars(60)
    twice = (np.concatenate([images, images]), np.concatenate([labels, labels]))
    splits = load(write_mnist(tmp_path, twice, bars(9)), validation_fraction=0.3)
    assert splits.validation
    train, held = (set(map(bytes, all_pixels(part))) for part in (splits.train, splits.validation))
    assert held and not train & held


def test_mean_and_std_are_those_of_numpy(tmp_path: Path) -> None:
    images, labels = bars(50, channels=3)
    train = load(write_folder(tmp_path, images, labels), validation_fraction=0).train
    mean, std = mean_and_std(train)
    assert mean == pytest.approx((images / 255).mean(axis=(0, 1, 2)), rel=1e-12)
    assert std == pytest.approx((images / 255).std(axis=(0, 1, 2)), rel=1e-9)


def test_images_of_any_shape_are_brought_to_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    PIL.Image.new("RGB", (20, 10), (200, 0, 0)).save(tmp_path / "a" / "wide.jpg")
    PIL.Image.new("L", (9, 9), 100).save(tmp_path / "b" / "small.png")
    PIL.Image.new("RGBA", (8, 8), (1, 2, 3, 255)).save(tmp_path / "a" / "transparent.webp")
    train = load(tmp_path, image_size=8, channels=1, validation_fraction=0).train
    assert train.shape == (8, 8, 1)
    assert 100 in all_pixels(train)[train.targets == 1]
    with pytest.raises(DataError, match=r"is (grey|colour), .* is (grey|colour); --data\.channels 1 or 3"):
        load(tmp_path, image_size=8)
    with pytest.raises(DataError, match=r"webp is 8x8, .*small\.png is 9x9; --data\.image_size 9"):
        load(tmp_path, channels=3)


@pytest.mark.parametrize(
    "mode, bits", [("I;16", "16 bits"), ("I;16B", "16 bits"), ("I", "more than 8"), ("F", "more than 8")]
)
def test_values_of_more_than_8_bits_are_refused(mode: str, bits: str) -> None:
    with pytest.raises(ValueError, match=f"^{bits}.* per value; convert to 8$"):
        to_pixels(PIL.Image.new(mode, (4, 4)), None, None)


def test_sixteen_bits_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, *bars(20))
    PIL.Image.fromarray(np.full((12, 12), 51200, np.uint16)).save(tmp_path / "lying" / "sixteen.png")
    with pytest.raises(DataError, match=r"sixteen\.png: can't be read as an image \(16 bits per value; convert"):
        load(tmp_path)


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, *bars(30))
    (tmp_path / "lying" / "broken.png").write_bytes(b"no image")
    cut = (tmp_path / "standing").iterdir().__next__()
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(
        DataError, match=r"broken\.png: not an image, or a corrupt one \(and 1 more.*--data\.bad_rows skip"
    ):
        load(tmp_path)
    splits = load(tmp_path, bad_rows="skip", validation_fraction=0)
    assert len(splits.train) == 29


def test_a_setting_that_nothing_heeds_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--data\.image has no effect on builtin:digits"):
        load("builtin:digits", image="img")


def broken_mnist(folder: Path) -> dict[str, str]:
    """Sources by name, each with what is said about it."""
    images, labels = bars(10)
    pixels = idx_bytes(images[..., 0])
    files = {
        "cut-images-idx3-ubyte": (pixels[:-5], "its header promises 1,440 bytes of images, it holds 1,435"),
        "odd-images-idx3-ubyte": (b"\0\0\0\7" + pixels[4:], "begin with the number 2051, this file with 7"),
        "few-images-idx3-ubyte": (idx_bytes(images[:8, ..., 0]), "holds 8 images, .* 10 labels"),
        "zip-images-idx3-ubyte.gz": (b"no gzip", "corrupt gzip file"),
        "swapped-images-idx3-ubyte": (idx_bytes(labels), "this file with 2049; it holds labels"),
        "empty-images-idx3-ubyte": (b"", "begin with the number 2051"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
        (folder / name.replace("images-idx3", "labels-idx1").removesuffix(".gz")).write_bytes(idx_bytes(labels))
    (folder / "lonely-images-idx3-ubyte").write_bytes(pixels)
    said = {name: message for name, (_, message) in files.items()}
    return {**said, "lonely-images-idx3-ubyte": "no labels for .*lonely-labels-idx1-ubyte beside it"}


def test_broken_idx_files_are_named(tmp_path: Path) -> None:
    for name, said in broken_mnist(tmp_path).items():
        with pytest.raises(DataError, match=said) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)


def test_what_is_no_image_data_set(tmp_path: Path) -> None:
    write_folder(tmp_path / "splits" / "train", *bars(6))
    write_folder(tmp_path / "splits" / "test", *bars(6))
    write_folder(tmp_path / "hole", *bars(6))
    (tmp_path / "hole" / "empty").mkdir()
    write_folder(tmp_path / "one", bars(6)[0], np.zeros(6))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.png").write_bytes(b"")
    (tmp_path / "text.csv").write_text("a,b")
    cases = {
        "splits": "holds splits (test, train), not classes; name them one by one: --data.train",
        "hole": "hole/empty holds no image",
        "one": "hold only the label lying; two are needed",
        "plain": "holds no class folders",
        "text.csv": "is no image data set",
        "nothing/": "no such file or folder",
        "one#test": "has no split test",
    }
    for name, said in cases.items():
        with pytest.raises(DataError) as caught:
            load(f"{tmp_path}/{name}")
        assert said in str(caught.value), name
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no built-in images builtin:digit;"):
        find_image_source("builtin:digit")


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", *bars(20))
    test = write_folder(tmp_path / "test", *bars(6))
    (test / "lying").rename(test / "laying")
    with pytest.raises(DataError, match=r"test/laying/.*label 'laying' does not occur in the training.*lying"):
        load(train, test=str(test))


def with_bad_images(folder: Path, broken: list[int]) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder with broken files at these places; the good images and their classes, in the order they are read."""
    images, labels = bars(1300, size=6)  # more than one record batch of the cached table
    write_folder(folder, images, labels)
    order = np.argsort(labels, kind="stable")
    for number in order[broken]:
        (folder / ("standing" if labels[number] else "lying") / f"{number:04}.png").write_bytes(b"no image")
    good = np.delete(order, broken)
    return folder, images[good], labels[good]


@pytest.mark.parametrize("broken", [[0, 1, 300, 301, 650, 999, 1000, 1299], [0, 1, 1299], [1299]])
def test_bad_images_move_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: list[int]) -> None:
    folder, images, labels = with_bad_images(tmp_path / "all", broken)
    train = load(folder, bad_rows="skip", validation_fraction=0).train
    assert f"left out {len(broken)} of 1,300 rows" in capsys.readouterr().err
    assert len(train._chunks) > 1
    assert np.array_equal(all_pixels(train), images)
    assert np.array_equal(train.targets, labels)
    rows = np.random.default_rng(0).integers(0, len(images), 200)
    assert np.array_equal(train.pixels(rows), images[rows])
    assert mean_and_std(train)[0] == pytest.approx([(images / 255).mean()], rel=1e-12)
    assert mean_and_std(train)[1] == pytest.approx([(images / 255).std()], rel=1e-9)
    splits = load(folder, bad_rows="skip", validation_fraction=0.3)
    class_of = dict(zip(map(bytes, images), labels.tolist(), strict=True))
    assert splits.validation
    for part in (splits.train, splits.validation):
        assert [class_of[image.tobytes()] for image in all_pixels(part)] == part.targets.tolist()


def test_images_without_a_class_move_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    images, labels = bars(30)
    names = [None if number % 7 == 3 else int(label) for number, label in enumerate(labels)]
    files = [PIL.Image.fromarray(image[..., 0]) for image in images]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": files, "label": names}, features=features)
    monkeypatch.setattr("hfscale.data.image_sources.hub_table", lambda *_: table)
    train = load("someone/images", bad_rows="skip", validation_fraction=0).train
    good = [number for number, name in enumerate(names) if name is not None]
    assert np.array_equal(all_pixels(train), images[good])
    assert np.array_equal(train.targets, labels[good])


def test_a_split_without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": [], "label": []}, features=features)
    monkeypatch.setattr("hfscale.data.image_sources.hub_table", lambda *_: table)
    with pytest.raises(DataError, match=r"^someone/images holds no images$"):
        load("someone/images")
    with pytest.raises(DataError, match=r"^someone/images#test holds no images$"):
        load("builtin:digits", test="someone/images#test")


def test_hidden_folders_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = bars(20)
    write_folder(tmp_path, images, labels)
    write_folder(tmp_path / "lying" / ".ipynb_checkpoints", images, labels)
    write_folder(tmp_path / ".cache", images, labels)
    (tmp_path / "lying" / ".ipynb_checkpoints" / "note.txt").write_text("")
    assert len(load(tmp_path, validation_fraction=0).train) == 20
    assert not capsys.readouterr().err


def test_broken_exif_data_are_a_bad_image(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(bars(1)[0][0, ..., 0])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "good.png")
    image.save(tmp_path / "a" / "odd.png", exif=b"Exif\0\0no TIFF header")
    with pytest.raises(DataError, match=r"odd\.png: can't be read as an image \(not a TIFF file"):
        load(tmp_path, validation_fraction=0)
