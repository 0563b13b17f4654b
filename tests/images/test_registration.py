"""Registration: the part comes to lie as in the reference, and results come back to the photograph."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.registration import Aligner, Alignment, align_all, grey, make_aligner, make_reference
from anogan.images.sample_board import draw_board

SIZE = (96, 120)


def part(shift: tuple[float, float] = (0, 0), degrees: float = 0.0, gain: float = 1.0) -> NDArray[np.uint8]:
    """A plate with holes and a label on a dark table, drawn where `motion` puts it."""
    big = np.full((4 * SIZE[0], 4 * SIZE[1], 3), 30, np.uint8)
    cv2.rectangle(big, (80, 60), (400, 320), (150, 140, 120), -1)
    for x, y, radius in ((130, 110, 24), (350, 110, 14), (140, 270, 18), (300, 240, 40)):
        cv2.circle(big, (x, y), radius, (40, 60, 200), -1)
    cv2.putText(big, "A7", (180, 160), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (230, 230, 230), 8)
    drawn = cv2.resize(big, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_AREA)
    moved = cv2.warpAffine(drawn, motion(shift, degrees), (SIZE[1], SIZE[0]), borderValue=(30, 30, 30))
    return np.asarray(np.clip(moved * gain, 0, 255), np.uint8)


def motion(shift: tuple[float, float], degrees: float) -> NDArray[np.float64]:
    """Reference coordinates -> coordinates of the moved part."""
    matrix = cv2.getRotationMatrix2D(((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2), degrees, 1.0)
    matrix[:, 2] += shift
    return np.asarray(matrix, np.float64)


def corner_error(warp: NDArray[Any], true: NDArray[Any]) -> float:
    height, width = SIZE
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    return float(np.abs(warp @ corners - true @ corners).max())


def aligner(kind: Any = "euclidean") -> Aligner:
    return Aligner(grey(part(), 255), kind)


@pytest.mark.parametrize(("shift", "degrees"), [((7.5, -4.25), 0.0), ((-3.0, 6.0), 5.0), ((0.5, 0.5), -8.0)])
def test_a_moved_part_is_found_within_half_a_pixel(shift: tuple[float, float], degrees: float) -> None:
    _, alignment = aligner().align(part(shift, degrees), 255)
    assert alignment.converged
    assert corner_error(alignment.warp, motion(shift, degrees)) < 0.5


def test_registered_part_lies_over_the_reference() -> None:
    moved = part((6.0, -5.0), 4.0)
    before = np.abs(moved.astype(float) - part())[12:-12, 12:-12].mean()
    aligned, _ = aligner().align(moved, 255)
    assert np.abs(aligned - part())[12:-12, 12:-12].mean() < before / 4


def test_brightness_does_not_move_the_part() -> None:
    _, bright = aligner().align(part((4.0, 2.0)), 255)
    _, dark = aligner().align(part((4.0, 2.0), gain=0.6), 255)
    assert corner_error(bright.warp, dark.warp) < 0.2


def test_translation_never_rotates() -> None:
    _, alignment = aligner("translation").align(part((3.0, 3.0), 4.0), 255)
    np.testing.assert_array_equal(alignment.warp[:, :2], np.eye(2))


def test_large_images_are_registered_at_full_precision() -> None:
    factor = 6
    size = (SIZE[1] * factor, SIZE[0] * factor)
    reference, moved = cv2.resize(part(), size), cv2.resize(part((6.0, -3.0)), size)
    _, alignment = Aligner(grey(reference, 255), "translation").align(moved, 255)
    np.testing.assert_allclose(alignment.warp[:, 2], [6.0 * factor, -3.0 * factor], atol=1.0)


@pytest.mark.parametrize("picture", ["black", "noise", "far"])
def test_what_cannot_be_registered_comes_back_as_it_was_and_says_so(picture: str) -> None:
    images = {
        "black": np.zeros((*SIZE, 3), np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        "far": part((0.4 * SIZE[1], 0.0)),
    }
    aligned, alignment = aligner().align(images[picture], 255)
    assert not alignment.converged
    np.testing.assert_array_equal(aligned, images[picture])


def test_a_spot_goes_to_the_reference_and_back_to_its_place() -> None:
    moved = part((5.0, -3.0), 6.0)
    _, alignment = aligner().align(moved, 255)
    spot = np.zeros((*SIZE, 1), np.float32)
    cv2.circle(spot, (70, 40), 4, 1.0, -1)
    there = alignment.to_reference(spot)
    expected = cv2.invertAffineTransform(motion((5.0, -3.0), 6.0)) @ [70, 40, 1]
    assert math.dist(centre(there[..., 0]), expected) < 0.5
    assert math.dist(centre(alignment.from_reference(there[..., 0], outside=0.0)), (70, 40)) < 0.1


def centre(values: NDArray[Any]) -> tuple[float, float]:
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    return float((x * values).sum() / values.sum()), float((y * values).sum() / values.sum())


def test_a_part_that_lies_straight_to_some_hundredths_of_a_pixel_is_seen_whole() -> None:
    for shift in (-0.03, 0.03):
        warp = np.array([[1, 0, shift], [0, 1, shift]], np.float32)
        assert Alignment(warp, 0.9, converged=True).seen(SIZE).all()


def test_pixels_that_the_photograph_does_not_hold_are_marked_as_not_seen() -> None:
    _, alignment = aligner("translation").align(part((10.0, 0.0)), 255)
    seen = alignment.seen(SIZE)
    assert seen[:, : SIZE[1] - 12].all()
    assert not seen[:, SIZE[1] - 9 :].any()


def test_reference_shows_the_part_sharply_although_its_examples_lie_differently() -> None:
    shifts = np.random.default_rng(1).integers(-4, 5, (9, 2))
    greys = [grey(part((float(x), float(y))), 255) for x, y in shifts]
    stained = part((1.0, 0.0))
    stained[40:60, 50:70] = 0  # What one part alone shows is not typical.
    reference = make_reference([*(part((float(x), float(y))) for x, y in shifts), stained], "translation")
    unregistered = np.median(np.stack(greys), axis=0)
    assert nearest(reference, greys) < nearest(unregistered, greys) / 2


def nearest(picture: NDArray[Any], others: list[NDArray[Any]]) -> float:
    return float(min(np.abs(picture - other)[9:-9, 9:-9].mean() for other in others))


def test_reference_lies_in_the_pose_of_an_ordinary_part() -> None:
    images = [part((12.0, 8.0)), *(part((0.2 * i, 0.0)) for i in range(6))]
    _, alignment = Aligner(make_reference(images, "translation"), "translation").align(part(), 255)
    assert np.abs(alignment.warp[:, 2]).max() < 2.0


def test_a_reference_is_no_part_that_few_others_can_be_laid_over() -> None:
    """The first one lies furthest off; some of the others cannot be laid over it, but over each other."""
    boards = [draw_board(seed, 128, shift=0.2, turn=15)[0] for seed in range(30)]
    aligner = make_aligner(boards, "euclidean")
    failed = sum(not alignment.converged for alignment in align_all(boards, aligner)[1])
    assert failed <= 6, "11 of them over the first one's like"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_training_images_keep_their_type_and_failures_are_told(dtype: type) -> None:
    top = np.iinfo(dtype).max
    images = [(image / 255 * top).astype(dtype) for image in (part((2.0, 1.0)), np.zeros((*SIZE, 3)))]
    aligned, alignments = align_all(images, aligner())
    assert [alignment.converged for alignment in alignments] == [True, False]
    assert [image.dtype for image in aligned] == [dtype, dtype]
    assert np.abs(aligned[0] / top - part() / 255)[8:-8, 8:-8].mean() < 0.02


def test_image_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"images\.size"):
        aligner().align(np.zeros((10, 10, 3), np.uint8), 255)


def test_reference_needs_images_of_one_size() -> None:
    with pytest.raises(ShapeError, match="one size"):
        make_reference([part(), part()[:-1]], "translation")


@pytest.mark.parametrize("size", [(96, 60), (60, 120)])
def test_a_part_that_was_turned_before_its_picture_was_stretched_is_laid_in_place(
    size: tuple[int, int],
) -> None:
    """A turn of the part is none of the stretched picture's; the aspect of its pixels says what it is."""
    stretched = (size[1], size[0])
    straight, turned = (cv2.resize(part(*pose), stretched) for pose in (((0, 0), 0.0), ((5, -4), 9.0)))
    aspect = (SIZE[1] / size[1]) / (SIZE[0] / size[0])
    errors = []
    for its in (aspect, 1.0):
        aligned, alignment = Aligner(grey(straight, 255), "euclidean", its).align(turned, 255)
        assert alignment.converged
        inner = (slice(10, -10), slice(10, -10))
        errors.append(np.abs(aligned[inner] - straight[inner]).mean())
        back = alignment.from_reference(aligned)[inner]
        assert np.abs(back - turned[inner]).mean() < 3, "there and back"
    assert errors[0] < errors[1] / 2
