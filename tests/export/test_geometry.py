"""Resizing, tiling, stitching and blurring in the graph against the package's NumPy arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anogan.calibration import smooth as numpy_smooth
from anogan.export.geometry import COLUMNS, ROWS, cut, length, resize, smooth, stitch, tiling
from anogan.export.graph import FLOAT, INT64, Graph
from anogan.images.resize import resize as numpy_resize
from anogan.images.tiling import TileGrid
from tests.export.conftest import Run

FOUR = (FLOAT, 4)
TILE = 8


def tiling_graph(run_graph: Callable[..., Run], overlap: int) -> Run:
    g = Graph()
    rows = tiling(g, length(g, "x", ROWS), TILE, overlap)
    columns = tiling(g, length(g, "x", COLUMNS), TILE, overlap)
    tiles = cut(g, "x", rows, columns, 2, TILE)
    g.rename(tiles, "tiles")
    g.rename(stitch(g, "changed", rows, columns, 2, TILE), "image")
    return run_graph(g, {"x": FOUR, "changed": FOUR}, {"tiles": FOUR, "image": FOUR})


@pytest.fixture(scope="module")
def tilings() -> dict[int, Run]:
    """One session per overlap, for images of any size."""
    from tests.export.conftest import session_run

    def load(g: Graph, inputs: dict[str, Any], outputs: dict[str, Any]) -> Run:
        from onnx import helper

        def info(values: dict[str, Any]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(rank)])
                for name, (kind, rank) in values.items()
            ]

        return session_run(g.finish("test", info(inputs), info(outputs)))

    return {overlap: tiling_graph(load, overlap) for overlap in range(TILE // 2 + 1)}


@given(
    height=st.integers(TILE, 40),
    width=st.integers(TILE, 40),
    overlap=st.integers(0, TILE // 2),
    seed=st.integers(0, 99),
)
def test_tiles_and_stitched_image_are_those_of_the_tile_grid_at_every_size(
    tilings: dict[int, Run], height: int, width: int, overlap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grid = TileGrid((height, width), TILE, overlap)
    images = rng.random((2, 2, height, width), np.float32)
    changed = rng.random((2 * grid.n_tiles, 2, TILE, TILE), np.float32)
    got = tilings[overlap](x=images, changed=changed)
    np.testing.assert_array_equal(got["tiles"], np.concatenate([grid.cut(image) for image in images]))
    wanted = np.stack([grid.stitch(own) for own in np.split(changed, 2)])
    np.testing.assert_allclose(got["image"], wanted, rtol=0, atol=3e-7)


@pytest.mark.parametrize("size", [(24, 40), (60, 33), (31, 47), (24, 33), (7, 90)])
def test_resized_image_has_the_pixels_of_the_numpy_resize(
    size: tuple[int, int], run_graph: Callable[..., Run]
) -> None:
    g = Graph()
    g.rename(resize(g, "x", "height", "width"), "y")
    scalar = (INT64, 0)
    run = run_graph(g, {"x": FOUR, "height": scalar, "width": scalar}, {"y": FOUR})
    images = np.random.default_rng(0).integers(0, 256, (2, 31, 47, 3)).astype(np.uint8)
    got = run(
        x=images.transpose(0, 3, 1, 2).astype(np.float32),
        height=np.array(size[0], np.int64),
        width=np.array(size[1], np.int64),
    )
    wanted = np.stack([numpy_resize(image, size) for image in images]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got["y"], wanted, rtol=0, atol=1e-4)
    if size == (31, 47):
        np.testing.assert_array_equal(got["y"], wanted)


@pytest.mark.parametrize(("sigma", "size"), [(0.0, (9, 7)), (1.5, (32, 20)), (4.0, (9, 7)), (0.5, (2, 30))])
def test_blur_mirrors_the_edge_as_opencv_does_even_beyond_the_map(
    sigma: float, size: tuple[int, int], run_graph: Callable[..., Run]
) -> None:
    g = Graph()
    g.rename(smooth(g, "x", sigma), "y")
    maps = np.random.default_rng(0).random((2, 3, *size), np.float32)
    got = run_graph(g, {"x": FOUR}, {"y": FOUR})(x=maps)["y"]
    wanted = [numpy_smooth(channel, sigma) for image in maps for channel in image]
    np.testing.assert_allclose(got.reshape(-1, *size), wanted, rtol=1e-5, atol=1e-6)
