"""Tiles cover the image and blend back into it without seams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.resize import resize
from anogan.images.tiling import TileGrid, TilePyramid, scaled_size


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    side = draw(st.integers(1, 24))
    overlap = draw(st.integers(0, side - 1))
    height, width = draw(st.integers(side, side + 50)), draw(st.integers(side, side + 50))
    return TileGrid((height, width), side, overlap)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_stitching_cut_tiles_gives_the_image_back(grid: TileGrid) -> None:
    image = noise(2, *grid.image_size)
    tiles = grid.cut(image)
    assert tiles.shape == (grid.n_tiles, 2, grid.tile_size, grid.tile_size)
    np.testing.assert_allclose(grid.stitch(tiles), image, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_tiles_stay_inside_the_image_and_share_at_least_the_overlap(grid: TileGrid) -> None:
    for starts, length in ((grid.tops, grid.image_size[0]), (grid.lefts, grid.image_size[1])):
        assert starts[0] == 0
        assert starts[-1] + grid.tile_size == length
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (steps <= grid.tile_size - grid.overlap).all()


def _marks(grid: TileGrid, tile: int) -> NDArray[np.float32]:
    """(H, W): the share of one tile in each pixel of the stitched image."""
    tiles = np.zeros((grid.n_tiles, 1, grid.tile_size, grid.tile_size), np.float32)
    tiles[tile] = 1
    return grid.stitch(tiles)[0]


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_every_pixel_of_every_tile_counts(grid: TileGrid) -> None:
    for tile in (0, grid.n_tiles // 2, grid.n_tiles - 1):
        assert (_marks(grid, tile) > 0).sum() == grid.tile_size**2


def test_weights_fall_linearly_towards_inner_edges_and_not_at_the_border() -> None:
    first, second = (_marks(TileGrid((12, 8), 8, 4), tile)[:, 0] for tile in (0, 1))
    np.testing.assert_allclose(first[:8], [1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125])
    np.testing.assert_allclose(second[4:], [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])


def test_tiles_come_row_by_row() -> None:
    image = np.arange(16 * 24).reshape(1, 16, 24)
    grid = TileGrid((16, 24), 8, 0)
    tiles = grid.cut(image)
    assert tiles.dtype == image.dtype
    assert tiles[:, 0, 0, 0].tolist() == [y * 24 + x for y in (0, 8) for x in (0, 8, 16)]


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ShapeError, match="60x30 pixels is smaller than one tile of 32"):
        TileGrid((30, 60), 32, 8)
    with pytest.raises(ShapeError, match="overlap 32"):
        TileGrid((64, 64), 32, 32)
    grid = TileGrid((16, 16), 8, 2)
    with pytest.raises(ShapeError, match="cannot cut"):
        grid.cut(np.zeros((1, 16, 17)))
    with pytest.raises(ShapeError, match="cannot stitch"):
        grid.stitch(np.zeros((3, 1, 8, 8)))


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_a_pyramid_of_one_scale_is_the_grid(grid: TileGrid) -> None:
    image = noise(2, *grid.image_size)
    pyramid = TilePyramid(grid.image_size, grid.tile_size, grid.overlap)
    assert pyramid.n_tiles == grid.n_tiles
    np.testing.assert_array_equal(pyramid.cut(image), grid.cut(image))


def test_a_pyramid_s_tiles_are_those_of_the_smaller_images_scale_by_scale() -> None:
    image = noise(2, 40, 51)
    pyramid = TilePyramid((40, 51), 8, 2, (1.0, 0.5, 0.3))
    parts = pyramid.split(pyramid.cut(image))
    for grid, size, tiles in zip(pyramid.grids, [(40, 51), (20, 26), (12, 15)], parts, strict=True):
        smaller = resize(image.transpose(1, 2, 0), size).transpose(2, 0, 1)
        assert grid.image_size == size
        np.testing.assert_allclose(grid.stitch(tiles), smaller, atol=1e-5)


def test_half_a_pixel_is_rounded_up_at_every_size() -> None:
    assert [scaled_size((n, n), 0.5)[0] for n in (5, 6, 7, 8, 9)] == [3, 3, 4, 4, 5]


def test_a_version_smaller_than_a_tile_is_refused_with_its_scale() -> None:
    with pytest.raises(ShapeError, match=r"60x30 pixels is 30x15 at scale 0\.5, smaller than one tile of 16"):
        TilePyramid((30, 60), 16, 4, (1.0, 0.5))
    with pytest.raises(ShapeError, match="60x30 pixels is smaller than one tile of 32"):
        TilePyramid((30, 60), 32, 4, (1.0, 0.5))


def test_position_of_a_tile_is_that_of_its_centre() -> None:
    grid = TileGrid((64, 96), 32, 0)
    y, x = 0.5, 2 / 3
    expected = [(-y, -x), (-y, 0), (-y, x), (y, -x), (y, 0), (y, x)]
    np.testing.assert_allclose(grid.positions, expected, atol=1e-6)
    np.testing.assert_array_equal(TileGrid((32, 32), 32, 8).positions, [(0, 0)])
    pyramid = TilePyramid((64, 96), 32, 0, (1.0, 0.5))
    np.testing.assert_allclose(pyramid.positions, [*expected, (0, -1 / 3), (0, 1 / 3)], atol=1e-6)
