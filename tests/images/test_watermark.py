from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.sample_board import draw_board
from anogan.images.watermark import check_watermark, embed_watermark, png_with_note

PICTURES = {
    "board": draw_board(1, 128)[0],
    "grey board": draw_board(2, 128)[0][:, :, :1],
    "16 bit": draw_board(3, 128)[0].astype(np.uint16) * 257,
    "small": draw_board(4, 96)[0][10:42, 20:52],
    "odd size": draw_board(5, 128)[0][:101, :77],
    "flat grey": np.full((64, 64, 3), 128, np.uint8),
    "black": np.zeros((64, 64, 1), np.uint8),
    "white": np.full((64, 64, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
    "2-d": draw_board(6, 96)[0][:, :, 1],
}


@pytest.fixture(params=sorted(PICTURES))
def picture(request: pytest.FixtureRequest) -> NDArray[Any]:
    return PICTURES[request.param]


def through(image: NDArray[Any], *how: Any) -> NDArray[Any]:
    """The image after it was encoded and decoded as a file."""
    flat = image if image.ndim == 2 or image.shape[2] == 3 else image[:, :, 0]
    ok, encoded = cv2.imencode(*(how[:1]), flat[..., ::-1] if flat.ndim == 3 else flat, *how[1:])
    assert ok
    back = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return back[..., ::-1] if back.ndim == 3 else back


def test_mark_is_found_after_png_and_jpeg_90(picture: NDArray[Any]) -> None:
    marked = embed_watermark(picture)
    assert check_watermark(marked).marked
    assert check_watermark(through(marked, ".png")).marked
    if picture.dtype == np.uint8:
        assert check_watermark(through(marked, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])).marked


def test_a_crop_keeps_the_mark_as_long_as_it_keeps_the_upper_left_corner() -> None:
    marked = embed_watermark(PICTURES["board"])

    assert check_watermark(marked[:90, :101]).marked
    for rows, columns in ((8, 8), (3, 0), (0, 16)):
        assert not check_watermark(marked[rows:, columns:]).marked


def test_unmarked_picture_is_not_taken_for_marked(picture: NDArray[Any]) -> None:
    assert not check_watermark(picture).marked
    if picture.dtype == np.uint8:
        assert not check_watermark(through(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90])).marked


def test_score_of_unmarked_pictures_is_about_standard_normal() -> None:
    rng = np.random.default_rng(1)
    scores = []
    for seed in range(60):
        smooth = cv2.resize(
            rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC
        )
        noisy = smooth.astype(np.int16) + np.random.default_rng(seed).integers(-20, 21, smooth.shape)
        scores.append(check_watermark(noisy.clip(0, 255).astype(np.uint8)).score)
    assert abs(np.mean(scores)) < 0.6
    assert 0.6 < np.std(scores) < 1.5


def test_mark_is_invisible(picture: NDArray[Any]) -> None:
    scale = 255 / np.iinfo(picture.dtype).max
    change = (embed_watermark(picture).astype(np.float64) - picture) * scale
    assert np.abs(change).max() < 14
    assert 10 * np.log10(255**2 / np.square(change).mean()) > 40  # dB


def test_shape_and_type_stay(picture: NDArray[Any]) -> None:
    marked = embed_watermark(picture)
    assert marked.shape == picture.shape
    assert marked.dtype == picture.dtype


def test_part_of_a_marked_picture_from_its_corner_is_still_marked() -> None:
    assert check_watermark(embed_watermark(PICTURES["board"])[:72, :40]).marked


@pytest.mark.parametrize(
    "bad", [np.zeros((7, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64))]
)
def test_other_arrays_are_refused(bad: NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match="at least 8 x 8 pixels"):
        check_watermark(bad)
    with pytest.raises(ShapeError, match="at least 8 x 8 pixels"):
        embed_watermark(bad)


def test_png_says_that_it_is_synthetic_and_still_decodes() -> None:
    _, encoded = cv2.imencode(".png", PICTURES["board"])
    noted = png_with_note(encoded.tobytes())
    assert b"tEXtComment\0anogan: synthetic image" in noted
    assert np.array_equal(cv2.imdecode(np.frombuffer(noted, np.uint8), cv2.IMREAD_COLOR), PICTURES["board"])
    with pytest.raises(ShapeError, match="PNG"):
        png_with_note(b"JFIF")
