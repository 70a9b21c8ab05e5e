"""The network is the one of the tutorial, at home in transformers, and the same wherever it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from hfscale.data.images import to_pixels
from hfscale.errors import ModelError
from hfscale.models import load_image_classifier, save_image_classifier
from hfscale.models.cnn import CnnConfig, CnnForImageClassification, CnnImageProcessor
from hfscale.schemas import CnnSettings
from tests.support.commands import run

NAMES = tuple("0123456789")
NORMAL = ([0.2], [0.4])


def network(shape: tuple[int, int, int] = (28, 28, 1), seed: int = 0, **settings: object):
    return load_image_classifier(CnnSettings(**settings), shape, NAMES, NORMAL, seed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn") / "model"
    save_image_classifier(network(), folder)
    return folder


@pytest.fixture(scope="module")
def picture() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8))


def test_it_is_the_network_of_the_tutorial() -> None:
    model = network().model.eval()
    plain = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters()) == 93_322
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([1, 2, 3, 4])
    assert torch.allclose(model(images).logits, plain(images), atol=1e-6)
    loss = nn.functional.cross_entropy(plain(images), labels)
    assert torch.allclose(model(images, labels=labels).loss, loss)
    loss.backward()
    model(images, labels=labels).loss.backward()
    for ours, its in zip(model.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and its.grad is not None
        assert torch.allclose(ours.grad, its.grad, atol=1e-6)


def test_the_layout_of_the_input_changes_no_bit() -> None:
    model, images = network().model.eval(), torch.randn(3, 1, 28, 28)
    last = images.permute(0, 2, 3, 1).reshape(3, 28, 28, 1).clone().permute(0, 3, 1, 2)
    assert torch.equal(model(images).logits, model(last).logits)


def test_weights_come_from_the_seed() -> None:
    first, same, other = (network(seed=seed).model.hidden.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert float(first.detach().abs().max()) == pytest.approx(576**-0.5, rel=0.01)


def test_images_that_are_small() -> None:
    assert network((8, 8, 1)).model.config.conv_channels == [32, 64]
    assert network((8, 12, 1)).model.config.image_size == [8, 12]
    with pytest.raises(ModelError, match="images of 8x8 are too small for 3 convolutions; at most 2 fit"):
        network((8, 8, 1), conv_channels=[8, 8, 8])
    with pytest.raises(
        ModelError, match=r"images of 2x2 are too small for any convolutions; enlarge.*--data\.image_size"
    ):
        network((2, 2, 1))
    with pytest.raises(ValueError, match="8x8 are too small"):
        CnnForImageClassification(CnnConfig(image_size=8))


def test_auto_classes_know_it(saved: Path, picture: PIL.Image.Image) -> None:
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

    assert isinstance(AutoConfig.from_pretrained(saved), CnnConfig)
    model = AutoModelForImageClassification.from_pretrained(saved)
    processor = AutoImageProcessor.from_pretrained(saved)
    assert isinstance(model, CnnForImageClassification) and isinstance(processor, CnnImageProcessor)
    logits = model(**processor(picture, return_tensors="pt")).logits
    assert torch.equal(logits, network().model.eval()(**processor(picture, return_tensors="pt")).logits)
    best = pipeline("image-classification", str(saved))(picture)[0]
    assert best["label"] == NAMES[int(logits.argmax())]


ALONE = """
import sys
class Nowhere:
    def find_spec(self, name, *_):
        assert name.partition(".")[0] != "hfscale", name
sys.meta_path.insert(0, Nowhere())
import json, PIL.Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
image = PIL.Image.open(sys.argv[2])
logits = model(**processor(image, return_tensors="pt")).logits[0].tolist()
label = pipeline("image-classification", sys.argv[1], trust_remote_code=True)(image)[0]["label"]
print(json.dumps([logits, label]))
"""


def test_the_folder_runs_without_hfscale(saved: Path, picture: PIL.Image.Image, tmp_path: Path) -> None:
    picture.save(tmp_path / "a.png")
    env = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    finished = run("-c", ALONE, saved, tmp_path / "a.png", cwd=tmp_path, env=env)
    assert finished.returncode == 0, finished.stderr
    logits, label = json.loads(finished.stdout.splitlines()[-1])
    ours = load_image_classifier(CnnSettings(name=str(saved)), (28, 28, 1), NAMES, NORMAL, seed=0)
    with torch.no_grad():
        expected = ours.model(**ours.processor(picture, return_tensors="pt")).logits[0]
    assert logits == expected.tolist(), "the same bits"
    assert label == NAMES[int(expected.argmax())]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "YCbCr"])
def test_the_processor_sees_what_training_saw(mode: str, channels: int) -> None:
    draw = np.random.default_rng(1)
    image = PIL.Image.fromarray(draw.integers(0, 256, (9, 12, 3)).astype(np.uint8)).convert(mode)
    processor = CnnImageProcessor({"height": 7, "width": 7}, channels, [0.3] * channels, [0.5] * channels)
    found = processor(image, return_tensors="np")["pixel_values"]
    trained = (to_pixels(image, 7, channels).astype(np.float32) / np.float32(255) - np.float32(0.3)) / np.float32(0.5)
    assert found.dtype == np.float32 and found.shape == (1, channels, 7, 7)
    assert np.array_equal(found[0], trained.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_pipeline_sees_what_training_saw(tmp_path: Path, channels: int, ending: str, orientation: int) -> None:
    from transformers import ImageClassificationPipeline

    pixels = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    normal = ([0.3] * channels, [0.5] * channels)
    model, processor = load_image_classifier(CnnSettings(), (12, 12, channels), NAMES, normal, seed=0)
    found = ImageClassificationPipeline(model=model, image_processor=processor).preprocess(str(path))["pixel_values"]
    with PIL.Image.open(path) as image:
        trained = to_pixels(image, 12, channels).astype(np.float32) / np.float32(255)
        assert torch.equal(found, processor(image, return_tensors="pt")["pixel_values"])
    expected = ((trained - np.float32(0.3)) / np.float32(0.5)).transpose(2, 0, 1)
    assert np.array_equal(found[0].numpy(), expected)


def test_the_processor_refuses_what_a_pipeline_would_clip() -> None:
    processor = CnnImageProcessor({"height": 5, "width": 5}, 1)
    for mode, bits in (("I;16", "16 bits"), ("I", "more than 8 bits"), ("F", "more than 8 bits")):
        with pytest.raises(ValueError, match=f"{bits} per value.*convert to 8"):
            processor(PIL.Image.new(mode, (5, 5)))


def test_the_processor_takes_arrays_and_lists() -> None:
    processor = CnnImageProcessor({"height": 5, "width": 5}, 3)
    grey, colour = np.zeros((4, 6), np.uint8), np.zeros((8, 5, 3), np.uint8)
    assert processor([grey, colour], return_tensors="pt")["pixel_values"].shape == (2, 3, 5, 5)
    assert processor(np.zeros((2, 5, 5, 1), np.uint8))["pixel_values"].shape == (2, 3, 5, 5)
    with pytest.raises(ValueError, match="unsigned bytes, got float64"):
        processor(np.zeros((4, 4)))


def test_continuing_with_other_classes_draws_the_last_layer_anew(saved: Path) -> None:
    settings = CnnSettings(name=str(saved))
    same = load_image_classifier(settings, (28, 28, 1), NAMES, NORMAL, seed=5).model
    assert torch.equal(same.classifier.weight, network().model.classifier.weight)
    kept = load_image_classifier(settings, (28, 28, 1), NAMES, ([0.9], [0.9]), seed=5).processor
    assert (kept.image_mean, kept.image_std) == NORMAL
    renamed = load_image_classifier(settings, (28, 28, 1), tuple("abcdefghij"), NORMAL, seed=5).model
    assert torch.equal(renamed.hidden.weight, same.hidden.weight)
    assert not torch.equal(renamed.classifier.weight, same.classifier.weight)
    fewer = load_image_classifier(settings, (28, 28, 1), ("a", "b"), NORMAL, seed=5).model
    assert fewer.classifier.out_features == 2
    assert fewer.config.id2label == {0: "a", 1: "b"}
    with pytest.raises(ModelError, match=r"takes images of 28x28 with 1 channel.*give --data\.image_size 28"):
        load_image_classifier(settings, (8, 8, 1), NAMES, NORMAL, seed=0)


def test_what_is_no_such_network(tmp_path: Path, tiny_model: Path) -> None:
    for name, said in (
        (tiny_model, "it is of type bert"),
        (tmp_path, "holds no model"),
        ("./nowhere", "no such model"),
    ):
        with pytest.raises(ModelError, match=said):
            load_image_classifier(CnnSettings(name=str(name)), (28, 28, 1), NAMES, NORMAL, seed=0)


def test_weights_of_another_shape_than_the_config_says_are_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model")
    config = json.loads((saved / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "conv_channels": [32, 48, 64]}))
    with pytest.raises(ModelError, match=r"convolutions\.1\.bias, convolutions\.1\.weight, .* have another shape"):
        load_image_classifier(CnnSettings(name=str(tmp_path / "model")), (28, 28, 1), NAMES, NORMAL, seed=0)
