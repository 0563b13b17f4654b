"""The search for a pose: far motions, unlike light, little to see."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.images.pose import Floats, Motion, PoseSearch, moved, sample
from anogan.images.registration import grey
from anogan.images.sample_board import draw_board

SIZE = (128, 160)


def picture(shift: tuple[float, float] = (0, 0), degrees: float = 0.0, seed: int = 3) -> NDArray[np.float32]:
    """A board in a photograph, sampled once from a larger one; `seed` is which board."""
    height, width = SIZE
    large = draw_board(seed, 320)[0]
    matrix = cv2.getRotationMatrix2D((159.5, 159.5), degrees, 1.0)
    matrix[:, 2] += np.array(shift) - (160 - width / 2, 160 - height / 2)
    return grey(cv2.warpAffine(large, matrix, (width, height)), 255)


def corner_error(motion: Floats, shift: tuple[float, float], degrees: float) -> float:
    """Pixels by which the corners come to lie elsewhere than they truly do."""
    x = np.array([-1, 1, -1, 1]) * SIZE[1] / 2
    y = np.array([-1, -1, 1, 1]) * SIZE[0] / 2
    found = moved(motion, x, y)
    true = moved(np.array([*shift, -math.sin(math.radians(degrees))]), x, y)
    return float(np.hypot(found[0] - true[0], found[1] - true[1]).max())


@pytest.mark.parametrize(
    ("shift", "degrees"),
    [((0, 0), 0), ((0.4, -0.7), 0.3), ((13, 9), -3), ((-24, 20), 12), ((30, -22), -18)],
)
def test_a_part_is_found_wherever_it_lies(shift: tuple[float, float], degrees: float) -> None:
    motion, correlation = PoseSearch.of(picture(), "euclidean").find(picture(shift, degrees))
    assert corner_error(motion, shift, degrees) < 0.15
    assert correlation > 0.95


def test_a_shift_alone_is_found_without_a_turn() -> None:
    motion, _ = PoseSearch.of(picture(), "translation").find(picture((17.3, -11.6)))
    assert motion[2] == 0
    assert corner_error(motion, (17.3, -11.6), 0) < 0.1


@pytest.mark.parametrize("motion", ["translation", "euclidean"])
def test_a_picture_lies_on_itself(motion: Motion) -> None:
    found, correlation = PoseSearch.of(picture(), motion).find(picture())
    np.testing.assert_allclose(found, 0, atol=1e-3)
    assert correlation == pytest.approx(1, abs=1e-6)


def test_light_and_noise_hardly_move_the_part() -> None:
    search, rng = PoseSearch.of(picture(), "euclidean"), np.random.default_rng(0)
    shown = picture((6, -4), 3)
    slope = np.linspace(0.6, 1.2, SIZE[1], dtype=np.float32)
    for other in (0.5 * shown + 0.3, shown * slope, shown + rng.normal(0, 0.05, SIZE)):
        assert corner_error(search.find(other)[0], (6, -4), 3) < 0.3


@pytest.mark.parametrize("grey_level", [0.0, 0.5, 0.92])
def test_a_stain_hardly_moves_the_part(grey_level: float) -> None:
    shown = picture((6, -4), 3)
    shown[40:80, 60:100] = grey_level
    assert corner_error(PoseSearch.of(picture(), "euclidean").find(shown)[0], (6, -4), 3) < 0.3


def test_a_part_that_lies_straight_is_found_below_a_glare_over_a_fifth_of_it() -> None:
    shown = picture((1, -2), 0.5)
    shown[20:80, 30:100] = 0.92
    motion, correlation = PoseSearch.of(picture(), "euclidean").find(shown)
    assert corner_error(motion, (1, -2), 0.5) < 1
    assert correlation > 0.3


@pytest.mark.parametrize("size", [(32, 512), (512, 40), (24, 1024)])
def test_a_long_narrow_part_is_found(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    height, width = size
    long = cv2.GaussianBlur(rng.random((height + 80, width + 80)).astype(np.float32), (0, 0), 3)
    search = PoseSearch.of(long[40 : 40 + height, 40 : 40 + width], "euclidean")
    y, x = (max(1, round(0.03 * n)) for n in size)
    moved_there = long[40 + y : 40 + y + height, 40 - x : 40 - x + width]
    motion, correlation = search.find(moved_there)
    assert correlation > 0.9
    np.testing.assert_allclose(motion[:2], (x, -y), atol=0.3)
    assert abs(motion[2]) < 0.01


@pytest.mark.parametrize("size", [(8, 8), (5, 40), (33, 7), (1, 9), (1, 8), (2, 2), (2, 3)])
def test_pictures_of_a_few_pixels_give_a_motion_and_no_accident(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    search = PoseSearch.of(rng.random(size), "euclidean")
    for other in (rng.random(size), np.zeros(size), np.ones(size)):
        motion, correlation = search.find(other)
        assert np.isfinite(motion).all()
        assert -1 - 1e-9 <= correlation <= 1 + 1e-9


def test_a_blank_reference_fits_nothing() -> None:
    motion, correlation = PoseSearch.of(np.full(SIZE, 0.5), "euclidean").find(picture())
    assert np.isfinite(motion).all()
    assert correlation < 0.4


def test_between_pixels_values_are_linear_and_edges_go_on() -> None:
    ramp = np.arange(12, dtype=np.float64).reshape(1, 3, 4)
    x, y = np.array([0.5, 2.25, -3.0, 9.0, 3.0]), np.array([0.0, 1.5, 1.0, 2.0, 2.0])
    np.testing.assert_allclose(sample(ramp, x, y)[0], [0.5, 8.25, 4, 11, 11])
    # A quarter of a pixel beyond the last one is three quarters of it.
    there = sample(ramp, np.array([3.25, 4.0, 1.0]), np.array([2.0, 2.0, -0.5]), outside=0.0)[0]
    np.testing.assert_allclose(there, [0.75 * 11, 0, 0.5])
