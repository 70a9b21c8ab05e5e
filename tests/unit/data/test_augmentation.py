"""Every variation does what its name says, to an image that shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hfscale.data.augmentation import augment, draw
from hfscale.schemas import AugmentSettings


def varied(image: torch.Tensor, number: int = 200, **settings: float) -> torch.Tensor:
    """`number` variations of one image (channels, height, width)."""
    return augment(image.expand(number, -1, -1, -1), draw(number, 0, 0), AugmentSettings(**settings))


def centres(images: torch.Tensor) -> torch.Tensor:
    """(images, 2) centres of mass, x and y in pixels from the middle."""
    height, width = images.shape[-2:]
    mass = images.sum(dim=(1, 2, 3))
    x = (images.sum(dim=(1, 2)) * (torch.arange(width) - (width - 1) / 2)).sum(-1) / mass
    y = (images.sum(dim=(1, 3)) * (torch.arange(height) - (height - 1) / 2)).sum(-1) / mass
    return torch.stack([x, y], dim=1)


@pytest.fixture
def dot() -> torch.Tensor:
    """A square of 4x4 in the middle of 1x20x40."""
    image = torch.zeros(1, 20, 40)
    image[0, 8:12, 18:22] = 1.0
    return image


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))


def test_nothing_is_nothing(noise: torch.Tensor) -> None:
    assert not AugmentSettings()
    assert torch.equal(varied(noise, 5), noise.expand(5, -1, -1, -1))


def test_flip(noise: torch.Tensor) -> None:
    results = varied(noise, flip=0.5)
    same = torch.tensor([torch.allclose(image, noise, atol=1e-5) for image in results])
    mirrored = torch.tensor([torch.allclose(image, noise.flip(-1), atol=1e-5) for image in results])
    assert bool((same ^ mirrored).all())
    assert 60 < int(mirrored.sum()) < 140
    assert torch.allclose(varied(noise, flip=1.0), noise.flip(-1), atol=1e-5)


def test_shift_moves_by_up_to_the_fraction(dot: torch.Tensor) -> None:
    moved = centres(varied(dot, shift=0.1))
    assert moved[:, 0].abs().max() == pytest.approx(4.0, abs=0.2)
    assert moved[:, 1].abs().max() == pytest.approx(2.0, abs=0.1)
    assert moved.mean(dim=0).abs().max() < 0.5


def test_rotation_keeps_angles_in_images_that_are_not_square() -> None:
    bar = torch.zeros(1, 20, 40)
    bar[0, 9:11, 14:26] = 1.0
    turned = augment(bar[None], _drawn(rotate=1.0), AugmentSettings(rotate=90))
    upright = torch.zeros(1, 20, 40)
    upright[0, 4:16, 19:21] = 1.0
    assert torch.allclose(turned[0], upright, atol=1e-3)


def test_scale_and_crop_enlarge(dot: torch.Tensor) -> None:
    larger = augment(dot[None], _drawn(scale=1.0), AugmentSettings(scale=0.5))
    assert larger.sum() == pytest.approx(16 * 1.5**2, rel=0.05)
    smaller = augment(dot[None], _drawn(scale=0.0), AugmentSettings(scale=0.5))
    assert smaller.sum() == pytest.approx(16 * 0.5**2, rel=0.05)
    middle = augment(dot[None], _drawn(crop=1.0, crop_x=0.5, crop_y=0.5), AugmentSettings(crop=0.5))
    assert middle.sum() == pytest.approx(16 * 4, rel=0.05)
    assert centres(middle).abs().max() < 1e-4


def test_a_crop_shows_no_outside() -> None:
    ramp = torch.arange(32.0).expand(1, 8, 32)
    results = varied(ramp, crop=0.5)
    assert float(results.min()) >= 0 and float(results.max()) <= 31
    assert bool((results.diff(dim=-1)[..., 1:-1] > 0.4).all()), "an edge that repeats would stand still"


def test_erase(noise: torch.Tensor) -> None:
    large = torch.ones(1, 30, 30)
    results = varied(large, 500, erase=0.4)
    share = 1 - results.mean(dim=(1, 2, 3))
    touched = share > 0
    assert 0.3 < float(touched.float().mean()) < 0.5
    assert float(share[touched].min()) > 0.01 and float(share.max()) < 0.25
    assert set(results.unique().tolist()) == {0.0, 1.0}


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    assert np.array_equal(draw(10, 1, 2), draw(50, 1, 2)[:10])
    assert not np.array_equal(draw(10, 1, 2), draw(10, 1, 3))
    assert not np.array_equal(draw(10, 1, 2), draw(10, 2, 2))


@pytest.mark.parametrize(
    "bad", [{"shift": 1.5}, {"rotate": -1}, {"scale": 1.0}, {"crop": 1.0}, {"flip": 2}, {"erase": float("nan")}]
)
def test_impossible_ranges_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"--augment.{next(iter(bad))} must be in"):
        AugmentSettings(**bad)


def _drawn(**values: float) -> np.ndarray:
    """One row of `draw` in the middle of every range, but for the given ones."""
    from hfscale.data.augmentation import _DRAWN

    row = np.full((1, len(_DRAWN)), 0.5)
    for name, value in values.items():
        row[0, _DRAWN.index(name)] = value
    return row
