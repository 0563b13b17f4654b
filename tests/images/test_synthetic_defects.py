from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from anogan.config import Config, DefectKind, SyntheticDefectsConfig
from anogan.images.defect_canvas import Canvas
from anogan.images.defect_kinds import DRAW
from anogan.images.sample_board import draw_board
from anogan.images.synthetic_defects import VISIBLE, draw_defects, kinds_on, two_levels

KINDS = tuple(DRAW)
Image = np.ndarray[Any, Any]


def _board(seed: int = 0, size: int = 96) -> Image:
    return draw_board(seed, size)[0]


def _binary(channels: int = 1) -> Image:
    """Black and white stripes, as a binarised board."""
    stripes = 255 * (np.arange(80) // 8 % 2).astype(np.uint8)
    return np.repeat(np.tile(stripes, (72, 1))[..., None], channels, axis=2)


def _drawn(image: Image, seed: int, **settings: Any) -> tuple[Image, Image]:
    config = SyntheticDefectsConfig(**settings)
    return draw_defects(image, config, np.random.default_rng(seed), two_levels([image]))


def test_every_kind_of_the_settings_can_be_drawn() -> None:
    assert set(get_args(DefectKind)) == set(DRAW)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_the_image_where_the_mask_says_and_nowhere_else(kind: str) -> None:
    image = _board()
    seen = 0
    for seed in range(12):
        damaged, mask = _drawn(image, seed, kinds=(kind,), min_size=6)
        changed = (damaged != image).any(axis=2)
        assert not (changed & ~mask).any()
        seen += int(mask.any())
        if mask.any():
            assert (changed & mask).sum() > 0.4 * mask.sum()

    assert seen >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_visible_to_a_person(kind: str) -> None:
    image = _board(3)
    strongest = []
    for seed in range(12):
        damaged, mask = _drawn(image, seed, kinds=(kind,), min_size=6)
        if mask.any():
            difference = np.abs(damaged.astype(float) - image).max(axis=2)[mask] / 255
            strongest.append(difference.max())

    assert strongest
    assert min(strongest) > VISIBLE


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.uint16, 3)]
)
@pytest.mark.parametrize("size", [(40, 72), (96, 32)])
def test_mono_and_16_bit_and_oblong_images_keep_shape_and_type(
    dtype: type, channels: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    smooth: Image = cv2.GaussianBlur(rng.random((*size, channels)), (0, 0), 3).reshape(*size, channels)
    image = (smooth / smooth.max() * np.iinfo(dtype).max).astype(dtype)
    original = image.copy()
    for seed in range(6):
        damaged, mask = _drawn(image, seed)
        assert (damaged.shape, damaged.dtype) == (image.shape, image.dtype)
        assert (mask.shape, mask.dtype) == (size, np.bool_)
        np.testing.assert_array_equal(image, original)


def test_16_bit_defects_use_the_whole_range() -> None:
    image = np.full((64, 64, 1), 30_000, np.uint16)
    changes = []
    for seed in range(8):
        damaged, mask = _drawn(image, seed, kinds=("contrast",), min_size=8)
        changes += list(np.abs(damaged.astype(int) - image)[mask].ravel())

    assert max(changes) > VISIBLE * 65_535


def test_the_same_seed_draws_the_same_defect() -> None:
    first, again, other = (_drawn(_board(), seed) for seed in (5, 5, 6))

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_defects_grow_with_the_sizes_of_the_settings() -> None:
    def area(low: float, high: float) -> float:
        settings = {"kinds": ("blob",), "min_size": low, "max_size": high, "max_per_tile": 1}
        return float(np.mean([_drawn(_board(), seed, **settings)[1].sum() for seed in range(20)]))

    assert area(16, 24) > 4 * area(4, 6)


def test_specks_smaller_than_the_smallest_defect_are_neither_drawn_nor_marked() -> None:
    smallest = 8.0
    for seed in range(20):
        _, mask = _drawn(_board(), seed, min_size=smallest)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        assert (stats[1:, cv2.CC_STAT_AREA] >= (smallest / 2) ** 2 * 2).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_defects_of_a_binarised_image_are_black_or_white_too(channels: int) -> None:
    image = _binary(channels)
    for seed in range(12):
        damaged, mask = _drawn(image, seed)
        assert set(np.unique(damaged)) <= {0, 255}
        np.testing.assert_array_equal((damaged != image).any(axis=2) & ~mask, False)


def test_binarised_images_are_known_by_their_two_levels() -> None:
    assert two_levels([_binary()]) == (0.0, 1.0)
    assert two_levels([np.where(_binary() > 0, 250, 5).astype(np.uint8)]) == pytest.approx(
        (5 / 255, 250 / 255)
    )


def test_binarised_images_get_kinds_that_show_on_them() -> None:
    config = SyntheticDefectsConfig(kinds=("blob", "blur", "cut-paste", "edge-bite"))
    assert kinds_on(config, None) == config.kinds
    assert kinds_on(config, (0.0, 1.0)) == ("blob", "edge-bite")


def test_where_no_kind_shows_nothing_is_drawn() -> None:
    damaged, mask = _drawn(_binary(), 0, kinds=("shade", "contrast"))
    assert np.array_equal(damaged, _binary())
    assert not mask.any()


def test_no_other_kind_is_drawn_on_binarised_images(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def counted(kind: str, draw: Callable[[Canvas], Image]) -> Callable[[Canvas], Image]:
        return lambda canvas: drawn.append(kind) or draw(canvas)

    monkeypatch.setattr(
        "anogan.images.synthetic_defects.DRAW", {kind: counted(kind, draw) for kind, draw in DRAW.items()}
    )
    config = SyntheticDefectsConfig(kinds=("blob", "texture", "shade"))
    for seed in range(20):
        draw_defects(_binary(), config, np.random.default_rng(seed), (0.0, 1.0))
    assert set(drawn) == {"blob"}


def test_photographs_have_no_two_levels() -> None:
    assert two_levels([_board(0), _board(1)]) is None
    assert two_levels([np.full((32, 32, 1), 128, np.uint8)]) is None


def test_edge_bites_happen_at_edges() -> None:
    image = _binary()
    stripe_edge = np.zeros(image.shape[:2], bool)
    stripe_edge[:, 1:] = image[:, 1:, 0] != image[:, :-1, 0]
    near = cv2.dilate(stripe_edge.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    settings = {"kinds": ("edge-bite",), "min_size": 5, "max_size": 7, "max_per_tile": 1}
    masks = [_drawn(image, seed, **settings)[1] for seed in range(20)]

    drawn = [mask for mask in masks if mask.any()]
    assert len(drawn) >= 10
    assert all((mask & near).any() for mask in drawn)


def test_bridges_join_one_conductor_to_the_next_or_part_one() -> None:
    image = _binary()
    settings = {"kinds": ("bridge",), "min_size": 4, "max_size": 12, "max_per_tile": 1}
    joined = 0
    for seed in range(20):
        damaged, mask = _drawn(image, seed, **settings)
        if mask.any():  # A strip that joins two stripes parts the one between them.
            black, white = (_pieces(damaged == value) - _pieces(image == value) for value in (0, 255))
            joined += min(black, white) < 0 < max(black, white)

    assert joined >= 15


def test_a_bridge_with_no_other_edge_in_reach_ends_on_its_way() -> None:
    image = np.zeros((96, 96, 1), np.uint8)
    image[:, 48:] = 255
    settings = {"kinds": ("bridge",), "min_size": 6, "max_size": 10, "max_per_tile": 1}
    for seed in range(10):
        damaged, mask = _drawn(image, seed, **settings)
        assert mask.any()
        assert np.abs(np.nonzero(mask)[1] - 47.5).max() < 2 * 10
        assert _pieces(damaged == 0) == _pieces(damaged == 255) == 1


def _pieces(where: Image) -> int:
    return cv2.connectedComponents(where[..., 0].astype(np.uint8), connectivity=4)[0] - 1


def _brushed(angle: float = 0.0, side: int = 128) -> Image:
    """Metal brushed from top to bottom, turned by an angle in degrees."""
    rng = np.random.default_rng(0)
    streaks = 120 + 14 * cv2.GaussianBlur(rng.normal(0, 1, (1, 2 * side)), (0, 0), 1.0)
    metal = np.repeat(streaks, 2 * side, axis=0) + rng.normal(0, 2, (2 * side, 2 * side))
    turn = cv2.getRotationMatrix2D((side, side), angle, 1)
    turned = cv2.warpAffine(metal, turn, (2 * side, 2 * side))
    quarter = side // 2
    return turned[quarter:-quarter, quarter:-quarter, None].clip(0, 255).astype(np.uint8)


def _main_direction(mask: Image) -> Image:
    """Unit vector (y, x) along which a mask is longest."""
    return np.asarray(np.linalg.eigh(np.cov(np.array(np.nonzero(mask), np.float64)))[1][:, -1])


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_most_seams_run_along_the_grain(angle: float) -> None:
    metal, along = _brushed(angle), np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    settings = {"kinds": ("seam",), "min_size": 10, "max_size": 20, "max_per_tile": 1}
    masks = [_drawn(metal, seed, **settings)[1] for seed in range(40)]

    slants = [abs(_main_direction(mask) @ along) for mask in masks if mask.sum() > 40]
    assert len(slants) > 20
    assert np.mean(np.array(slants) > np.cos(np.radians(15))) > 0.6


@pytest.mark.parametrize("angle", [0, 90])
def test_uneven_grinding_mostly_ends_in_a_line_across_the_grain(angle: float) -> None:
    metal = _brushed(angle)
    settings = {"kinds": ("uneven",), "min_size": 10, "max_size": 20, "max_per_tile": 1}
    whole_width = 0
    for seed in range(40):
        rows = _drawn(metal, seed, **settings)[1].mean(
            axis=int(angle == 0)
        )  # One for each place along the grain.
        whole_width += bool((rows > 0.9).any() and (rows < 0.1).any())

    assert whole_width > 12  # Half of them: 0.7 end in a line, 0.7 of those are as wide as the part.


def test_uneven_grinding_leaves_some_of_the_smallest_tile_as_it_was() -> None:
    metal = _brushed(side=64)[:32, :32]
    settings = {"kinds": ("uneven",), "min_size": 10, "max_size": 24, "max_per_tile": 1}

    assert max(_drawn(metal, seed, **settings)[1].mean() for seed in range(60)) < 0.9


def test_a_blank_part_without_edges_gets_defects_too() -> None:
    image = np.full((48, 48, 3), 120, np.uint8)
    marked = [
        _drawn(image, seed, kinds=("edge-bite", "blob", "scratch", "bridge", "seam", "uneven"))[1].any()
        for seed in range(10)
    ]

    assert sum(marked) >= 5


def test_no_more_defects_than_the_settings_allow() -> None:
    settings = {"kinds": ("blob",), "min_size": 4, "max_size": 5, "max_per_tile": 1}
    for seed in range(20):
        _, mask = _drawn(np.full((96, 96, 1), 128, np.uint8), seed, **settings)
        assert cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 <= 1


def test_the_default_defects_fit_the_smallest_tile() -> None:
    image = _board()[:32, :32]
    marked = [draw_defects(image, Config().defects, np.random.default_rng(seed))[1] for seed in range(30)]

    assert all(mask.shape == (32, 32) for mask in marked)
    # Between a speck and the whole tile: what a head can learn from.
    assert 0.005 < np.mean(marked) < 0.6
