"""Cutting an image into overlapping tiles and blending results back, without seams.

Everything is separable into rows and columns, so the ONNX graph stitches by two matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.resize import resize


def tile_position(start: int, side: int, length: int) -> float:
    """Where a tile's centre lies along one axis of its image: -1 is the first edge, 0 the middle, 1 the last.

    Args:
        start: First row (or column) of the tile.
        side: Its side, pixels.
        length: Of the image's axis, pixels.
    """
    return (2 * start + side) / length - 1


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of an image lie.

    Tiles start every `tile_size - overlap` pixels; the last one is shifted inward to end with the
    image. Tile `i * len(lefts) + j` lies at `(tops[i], lefts[j])`.

    Attributes:
        image_size: (height, width) in pixels, neither below `tile_size`.
        tile_size: Side of a tile, pixels.
        overlap: Pixels that neighbours share at least, below `tile_size`.

    Raises:
        ShapeError: The sizes contradict each other.
    """

    image_size: tuple[int, int]
    tile_size: int
    overlap: int

    def __post_init__(self) -> None:
        height, width = self.image_size
        if self.tile_size < 1 or not 0 <= self.overlap < self.tile_size:
            raise ShapeError(
                f"overlap {self.overlap} must be at least 0 and below tile size {self.tile_size}."
            )
        if min(height, width) < self.tile_size:
            raise ShapeError(
                f"an image of {width}x{height} pixels is smaller than one tile of {self.tile_size}; "
                "use a smaller tiles.size or resize the images with images.size."
            )

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """First row of each row of tiles."""
        return self._starts(self.image_size[0])

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """First column of each column of tiles."""
        return self._starts(self.image_size[1])

    @property
    def corners(self) -> list[tuple[int, int]]:
        """First row and first column of each tile, row of tiles by row of tiles."""
        return list(product(self.tops, self.lefts))

    @cached_property
    def positions(self) -> NDArray[np.float32]:
        """(n_tiles, 2): y and x of each tile's centre, see `tile_position`."""
        height, width = self.image_size
        places = [
            (tile_position(y, self.tile_size, height), tile_position(x, self.tile_size, width))
            for y, x in self.corners
        ]
        return np.asarray(places, np.float32)

    @property
    def n_tiles(self) -> int:
        """How many tiles cover the image."""
        return len(self.tops) * len(self.lefts)

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """The tiles of an image.

        Args:
            image: (C, H, W).

        Returns:
            (n_tiles, C, tile_size, tile_size), a copy of the image's dtype.

        Raises:
            ShapeError: The image is not of `image_size`.
        """
        if image.ndim != 3 or image.shape[1:] != self.image_size:
            raise ShapeError(f"cannot cut an array of shape {image.shape}; expected (C, {self._size_text}).")
        side = self.tile_size
        return np.stack([image[:, y : y + side, x : x + side] for y, x in self.corners])

    def stitch(self, tiles: NDArray[Any]) -> NDArray[np.float32]:
        """One image from its tiles; where they overlap, a mean that favours the nearer tile centre.

        Args:
            tiles: (n_tiles, C, tile_size, tile_size).

        Returns:
            (C, H, W) float32; the image itself when `tiles` are its unchanged tiles.

        Raises:
            ShapeError: The tiles are not those of this grid.
        """
        side = self.tile_size
        if tiles.ndim != 4 or (len(tiles), *tiles.shape[2:]) != (self.n_tiles, side, side):
            raise ShapeError(
                f"cannot stitch tiles of shape {tiles.shape}; expected ({self.n_tiles}, C, {side}, {side})."
            )
        image = np.zeros((tiles.shape[1], *self.image_size), np.float32)
        tile = iter(tiles)
        for y, rows in zip(self.tops, self._row_weights, strict=True):
            for x, columns in zip(self.lefts, self._column_weights, strict=True):
                image[:, y : y + side, x : x + side] += next(tile) * rows[:, None] * columns
        return image

    @property
    def _size_text(self) -> str:
        return ", ".join(map(str, self.image_size))

    def _starts(self, length: int) -> tuple[int, ...]:
        last = length - self.tile_size
        return (*range(0, last, self.tile_size - self.overlap), last)

    @cached_property
    def _row_weights(self) -> NDArray[np.float32]:
        return self._weights(self.image_size[0], self.tops)

    @cached_property
    def _column_weights(self) -> NDArray[np.float32]:
        return self._weights(self.image_size[1], self.lefts)

    def _weights(self, length: int, starts: tuple[int, ...]) -> NDArray[np.float32]:
        """(len(starts), tile_size): each tile's share of each of its pixels along one axis."""
        side = self.tile_size
        along = np.arange(side) + 0.5
        weights = np.ones((len(starts), side))
        for i, (previous, start) in enumerate(pairwise(starts)):
            shared = previous + side - start
            if shared > 0:
                weights[i] = np.minimum(weights[i], (side - along) / shared)
                weights[i + 1] = np.minimum(weights[i + 1], along / shared)
        # The shifted last tile may overlap more than one neighbour, hence the division by the sum.
        total = np.zeros(length)
        for start, weight in zip(starts, weights, strict=True):
            total[start : start + side] += weight
        shares = [weight / total[start : start + side] for start, weight in zip(starts, weights, strict=True)]
        return np.asarray(shares, np.float32)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of a smaller version, halves rounded up as the ONNX graph rounds them."""
    return math.floor(size[0] * scale + 0.5), math.floor(size[1] * scale + 0.5)


@dataclass(frozen=True)
class TilePyramid:
    """The tiles of an image and of smaller versions of it, so that one network sees defects of many sizes.

    All tiles are of one size. They come scale by scale, each scale in the order of its `TileGrid`.

    Attributes:
        image_size: (height, width) in pixels at scale 1.
        tile_size: Side of a tile, pixels, at every scale.
        overlap: Pixels that neighbours share at least.
        scales: Sides of each version over those of the image, falling from 1.

    Raises:
        ShapeError: A version is smaller than a tile, or the sizes contradict each other.
    """

    image_size: tuple[int, int]
    tile_size: int
    overlap: int
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        TileGrid(self.image_size, self.tile_size, self.overlap)  # Refuses what is wrong at scale 1.
        for scale in self.scales:
            height, width = scaled_size(self.image_size, scale)
            if min(height, width) < self.tile_size:
                raise ShapeError(
                    f"an image of {self.image_size[1]}x{self.image_size[0]} pixels is {width}x{height} at "
                    f"scale {scale:g}, smaller than one tile of {self.tile_size}; take {scale:g} out of "
                    "tiles.scales, lower tiles.size or enlarge the images with images.size."
                )

    @cached_property
    def grids(self) -> tuple[TileGrid, ...]:
        """One grid per scale."""
        sizes = (scaled_size(self.image_size, scale) for scale in self.scales)
        return tuple(TileGrid(size, self.tile_size, self.overlap) for size in sizes)

    @property
    def n_tiles(self) -> int:
        """How many tiles cover the image at all scales together."""
        return sum(grid.n_tiles for grid in self.grids)

    @cached_property
    def positions(self) -> NDArray[np.float32]:
        """(n_tiles, 2): y and x of each tile's centre in the image, whatever its scale."""
        return np.concatenate([grid.positions for grid in self.grids])

    def cut(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tiles of all scales; `image` is (C, H, W), the result (n_tiles, C, tile_size, tile_size).

        Raises:
            ShapeError: The image is not of `image_size`.
        """
        first, *smaller = self.grids
        tiles = [first.cut(image)]
        for grid in smaller:
            version = resize(image.transpose(1, 2, 0), grid.image_size)
            tiles.append(grid.cut(version.transpose(2, 0, 1)))
        return np.concatenate(tiles) if smaller else tiles[0]

    def split(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Per-tile values (n_tiles, ...), apart by scale."""
        ends = np.cumsum([grid.n_tiles for grid in self.grids])[:-1]
        return np.split(values, ends)
