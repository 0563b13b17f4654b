"""Photographs at one brightness."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from anogan.config import ImagesConfig
from anogan.gan.tiles import load_images
from anogan.images.exposure import DARKEST, LEVEL, brightness, exposed, exposure_gain, too_bright, white_share
from tests.export.conftest import small_config

MEAN = ImagesConfig(exposure="mean")


def _picture(seed: int = 0, top: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (24, 31, 3), dtype=np.uint8)


def test_brightness_is_the_mean_as_a_share_of_the_range() -> None:
    picture = _picture()

    assert brightness(picture, 8) == pytest.approx(picture.mean() / 255, rel=1e-6)
    assert brightness(picture.astype(np.uint16) * 257, 16) == pytest.approx(picture.mean() / 255, rel=1e-6)
    ends = [brightness(np.full((5, 7, 1), value, np.uint8), 8) for value in (0, 255)]
    assert ends == [0, 1]


def test_two_exposures_of_one_part_become_one_image() -> None:
    dark = _picture(top=80)
    bright = dark * 3
    one, other = (exposed(image, exposure_gain(image, MEAN), 8) for image in (dark, bright))

    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert one.mean() / 255 == pytest.approx(LEVEL, abs=1e-4)


def test_sixteen_bits_get_the_same_share_of_their_range() -> None:
    image = _picture().astype(np.uint16) * 256
    config = ImagesConfig(exposure="mean", bit_depth=16)

    assert exposed(image, exposure_gain(image, config), 16).mean() / 65535 == pytest.approx(LEVEL, abs=1e-4)


def test_highlights_are_cut_off_at_the_top_of_the_range() -> None:
    image = np.full((8, 8, 1), 10, np.uint8)
    image[0, 0] = 250

    assert exposed(image, exposure_gain(image, MEAN), 8).max() == 255


def test_a_bright_part_on_a_dark_ground_is_told() -> None:
    image = np.full((20, 20, 1), 12, np.uint8)
    image[5:15, 5:15] = 170
    share = white_share(image, MEAN)

    assert share == 0.25
    assert white_share(image, ImagesConfig()) == 0
    told = too_bright([share] * 3, MEAN)
    assert told is not None
    assert "25% of a usual good image white" in told
    assert too_bright([share], ImagesConfig()) is None
    assert too_bright([white_share(_picture(), MEAN)], MEAN) is None


def test_the_mean_is_exact_however_large_the_image() -> None:
    image = np.full((1024, 1024, 1), 65535, np.uint16)
    image[::2] = 65533
    config = ImagesConfig(channels=1, bit_depth=16, exposure="mean")
    mean = np.float32(65534) / np.float32(65535)

    assert exposure_gain(image, config) == np.float32(LEVEL) / mean


def test_a_covered_lens_stays_dark() -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    image[0, 0] = 1
    gain = exposure_gain(image, MEAN)

    assert gain == pytest.approx(LEVEL / DARKEST)
    assert exposed(image, gain, 8).mean() < 1


def test_by_default_pixels_stay_as_they_are() -> None:
    image = _picture()

    assert exposed(image, exposure_gain(image, ImagesConfig()), 8) is image


def test_training_sees_what_scoring_sees(tmp_path: Path) -> None:
    image = _picture(top=70)
    cv2.imwrite(str(tmp_path / "dark.png"), image[..., ::-1])
    config = small_config(images={"exposure": "mean"})
    ((loaded,), errors) = load_images([tmp_path / "dark.png"], config, None)

    assert not errors
    assert loaded.dtype == np.uint8
    np.testing.assert_allclose(loaded, exposed(image, exposure_gain(image, config.images), 8), atol=0.5)
