"""Resizing, tiling, stitching and blurring as ONNX nodes, for image sizes known only at run time.

The arithmetic of `anogan.images` and `anogan.calibration.evidence`: weights are computed in float64 and
rounded to float32 once, as there. Where the image size is fixed, ONNX Runtime folds all of it when it
loads the file. Stitching gathers the at most three tiles that cover a row or column, so its cost grows
with the image and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anogan.calibration import gaussian_kernel
from anogan.export.graph import DOUBLE, FLOAT, INT64, Graph

ROWS, COLUMNS = 2, 3  # Axes of (N, C, H, W).


def length(g: Graph, x: str, axis: int) -> str:
    """Size of one axis, int64 scalar."""
    return g.op("Squeeze", g.op("Shape", x, start=axis, end=axis + 1))


def arange(g: Graph, n: str) -> str:
    """0 .. n - 1, int64."""
    return g.op("Range", g.i64(0), n, g.i64(1))


def resize_weights(g: Graph, n_in: str, n_out: str) -> str:
    """`anogan.images.resize.resize_weights` for int64 scalars, (n_out, n_in) float32."""
    half = g.f64(0.5)
    one = g.f64(1.0)
    scale = g.op("Div", g.cast(n_in, DOUBLE), g.cast(n_out, DOUBLE))
    centres = g.op("Mul", g.op("Add", g.cast(arange(g, n_out), DOUBLE), half), scale)
    pixels = g.op("Add", g.cast(arange(g, n_in), DOUBLE), half)
    distance = g.op("Abs", g.op("Sub", pixels, g.op("Unsqueeze", centres, g.i64([1]))))
    triangle = g.op("Sub", one, g.op("Div", distance, g.op("Max", scale, one)))
    weights = g.op("Max", triangle, g.f64(0.0))
    return g.cast(g.op("Div", weights, g.op("ReduceSum", weights, g.i64([1]))), FLOAT)


def resize(g: Graph, x: str, height: str, width: str) -> str:
    """(N, C, H, W) at (height, width); an axis that fits already is left alone."""
    for axis, wanted in ((ROWS, height), (COLUMNS, width)):
        x = _resize_axis(g, x, axis, wanted)
    return x


def scaled_length(g: Graph, size: str, scale: float) -> str:
    """`anogan.images.tiling.scaled_size` of one side, int64 scalar."""
    scaled = g.op("Mul", g.cast(size, DOUBLE), g.f64(scale))
    return g.cast(g.op("Floor", g.op("Add", scaled, g.f64(0.5))), INT64)


def _resize_axis(g: Graph, x: str, axis: int, wanted: str) -> str:
    got = length(g, x, axis)

    def multiply(body: Graph) -> list[str]:
        weights = resize_weights(body, got, wanted)
        if axis == ROWS:
            return [body.op("MatMul", weights, x)]
        return [body.op("MatMul", x, body.op("Transpose", weights, perm=[1, 0]))]

    return g.choose(g.op("Equal", got, wanted), lambda _: [x], multiply, [FLOAT])[0]


@dataclass(frozen=True)
class Tiling:
    """How one axis is covered by tiles.

    Attributes:
        n: Tiles, int64 scalar.
        centres: (n,) float32, `tile_position` of each tile.
        positions: (n t,) image row of each row of the mosaic, in which tiles lie side by side.
        sources: For each of three tiles that may cover an image row: (length,) its row in the mosaic.
        weights: And (length,) float32, its share; 0 where it does not cover the row.
    """

    n: str
    centres: str
    positions: str
    sources: tuple[str, ...]
    weights: tuple[str, ...]


def tiling(g: Graph, size: str, tile: int, overlap: int) -> Tiling:
    """`TileGrid` along one axis of `size` pixels (int64 scalar).

    An axis shorter than a tile is continued by its last pixel, so that the graph runs to its end; what it
    finds there is no evidence.
    """
    stride = g.i64(tile - overlap)
    last = g.op("Max", g.op("Sub", size, g.i64(tile)), g.i64(0))
    regular = g.op("Range", g.i64(0), last, stride)
    starts = g.op("Concat", regular, g.op("Unsqueeze", last, g.i64([0])), axis=0)
    n = length(g, starts, 0)
    inside = g.op("Add", g.op("Unsqueeze", starts, g.i64([1])), g.i64(np.arange(tile)))
    # A row lies in at most two of the evenly spaced tiles, and in the last one, which is shifted inward.
    final = g.op("Sub", n, g.i64(1))
    row = arange(g, size)
    near = g.op("Min", g.op("Div", row, stride), g.op("Sub", n, g.i64(2)))
    before = g.op("Sub", near, g.i64(1))
    candidates = [
        _Candidate(before, g.op("Mul", before, stride)),
        _Candidate(near, g.op("Mul", near, stride)),
        _Candidate(final, last),
    ]
    shares = [_share(g, c, row, n, last, tile, overlap) for c in candidates]
    total = g.op("Sum", *shares)
    return Tiling(
        n=n,
        centres=_centres(g, starts, size, tile),
        positions=g.op("Min", g.op("Reshape", inside, g.i64([-1])), g.op("Sub", size, g.i64(1))),
        sources=tuple(_mosaic_row(g, c, row, tile) for c in candidates),
        weights=tuple(g.cast(g.op("Div", share, total), FLOAT) for share in shares),
    )


def _centres(g: Graph, starts: str, size: str, tile: int) -> str:
    doubled = g.op("Add", g.op("Mul", starts, g.i64(2)), g.i64(tile))
    share = g.op("Div", g.cast(doubled, DOUBLE), g.cast(size, DOUBLE))
    return g.cast(g.op("Sub", share, g.f64(1.0)), FLOAT)


@dataclass(frozen=True)
class _Candidate:
    """A tile that may cover a row: its number and first row, int64, scalars or one per row."""

    number: str
    start: str


def _share(g: Graph, tile: _Candidate, row: str, n: str, last: str, side: int, overlap: int) -> str:
    """(length,) float64: the tile's weight before division by the sum, 0 outside of it."""
    zero, one = g.f64(0.0), g.f64(1.0)
    place = g.op("Sub", row, tile.start)
    inside = g.op("And", g.op("Not", g.op("Less", place, g.i64(0))), g.op("Less", place, g.i64(side)))
    exists = g.op("Not", g.op("Less", tile.number, g.i64(0)))
    along = g.op("Add", g.cast(place, DOUBLE), g.f64(0.5))
    rising = _ramp(g, along, _shared(g, g.op("Sub", tile.number, g.i64(1)), n, last, side, overlap))
    falling = _ramp(
        g,
        g.op("Sub", g.f64(float(side)), along),
        _shared(g, tile.number, n, last, side, overlap),
    )
    return g.op("Where", g.op("And", inside, exists), g.op("Min", one, rising, falling), zero)


def _shared(g: Graph, number: str, n: str, last: str, side: int, overlap: int) -> str:
    """Pixels that tile `number` shares with the next one, float64; 0 where one of them is missing."""
    start = g.op("Mul", number, g.i64(side - overlap))
    with_last = g.op("Sub", g.op("Add", start, g.i64(side)), last)
    final = g.op("Sub", n, g.i64(1))
    is_regular = g.op("Less", number, g.op("Sub", n, g.i64(2)))
    pixels = g.op("Where", is_regular, g.i64(overlap), with_last)
    both = g.op("And", g.op("Not", g.op("Less", number, g.i64(0))), g.op("Less", number, final))
    return g.cast(g.op("Where", both, pixels, g.i64(0)), DOUBLE)


def _ramp(g: Graph, along: str, shared: str) -> str:
    """along / shared, or 1 where nothing is shared."""
    one = g.f64(1.0)
    some = g.op("Greater", shared, g.f64(0.0))
    return g.op("Where", some, g.op("Div", along, g.op("Where", some, shared, one)), one)


def _mosaic_row(g: Graph, tile: _Candidate, row: str, side: int) -> str:
    """The mosaic's row for each image row; any valid one where the tile does not cover it."""
    place = g.op("Sub", row, tile.start)
    inside = g.op("Min", g.op("Max", place, g.i64(0)), g.i64(side - 1))
    number = g.op("Max", tile.number, g.i64(0))
    return g.op("Add", g.op("Mul", number, g.i64(side)), inside)


def cut(g: Graph, x: str, rows: Tiling, columns: Tiling, channels: int, tile: int) -> str:
    """The tiles of (N, C, H, W), (N n_rows n_columns, C, t, t), image by image, row by row."""
    mosaic = g.op("Gather", x, rows.positions, axis=ROWS)
    mosaic = g.op("Gather", mosaic, columns.positions, axis=COLUMNS)
    split = g.op("Reshape", mosaic, _shape(g, 0, channels, rows.n, tile, columns.n, tile))
    ordered = g.op("Transpose", split, perm=[0, 2, 4, 1, 3, 5])
    return g.op("Reshape", ordered, g.i64([-1, channels, tile, tile]))


def with_positions(g: Graph, tiles: str, rows: Tiling, columns: Tiling) -> str:
    """`with_condition` of the tiles of `cut` and `TileGrid.positions`: (T, C + 2, t, t)."""
    y = g.op("Reshape", rows.centres, g.i64([1, -1, 1, 1]))
    x = g.op("Reshape", columns.centres, g.i64([1, 1, -1, 1]))
    per_image = g.op("Unsqueeze", g.op("Mul", rows.n, columns.n), g.i64([0]))
    images = g.op("Div", g.op("Shape", tiles, end=1), per_image)
    shape = g.op("Concat", images, *(g.op("Reshape", n, g.i64([1])) for n in (rows.n, columns.n)), axis=0)
    shape = g.op("Concat", shape, g.i64([1]), axis=0)
    places = g.op("Concat", g.op("Expand", y, shape), g.op("Expand", x, shape), axis=3)
    return _with_maps(g, tiles, g.op("Reshape", places, g.i64([-1, 2, 1, 1])))


def with_variants(g: Graph, tiles: str, variant: str, k: int) -> str:
    """The tiles of `cut` with the variants of their images, (N,) int64 below k: (T, C + k, t, t)."""
    # A look-up, so that a number that is no variant is an error and not some variant.
    told = g.op("Gather", g.f32(np.eye(k)), variant, axis=0)
    images = g.op("Shape", told, end=1)
    per_image = g.op("Div", g.op("Shape", tiles, end=1), images)
    shape = g.op("Concat", images, per_image, g.i64([k]), axis=0)
    each = g.op("Expand", g.op("Unsqueeze", told, g.i64([1])), shape)
    return _with_maps(g, tiles, g.op("Reshape", each, g.i64([-1, k, 1, 1])))


def _with_maps(g: Graph, tiles: str, condition: str) -> str:
    sides = g.op("Concat", g.i64([1, 1]), g.op("Shape", tiles, start=2), axis=0)
    return g.op("Concat", tiles, g.op("Expand", condition, sides), axis=1)


def stitch(g: Graph, tiles: str, rows: Tiling, columns: Tiling, channels: int, tile: int) -> str:
    """(N, C, H, W) from the tiles of `cut`; where they overlap, a weighted mean."""
    split = g.op("Reshape", tiles, _shape(g, -1, rows.n, columns.n, channels, tile, tile))
    ordered = g.op("Transpose", split, perm=[0, 3, 1, 4, 2, 5])
    height = g.op("Mul", rows.n, g.i64(tile))
    width = g.op("Mul", columns.n, g.i64(tile))
    mosaic = g.op("Reshape", ordered, _shape(g, 0, channels, height, width))
    return _blend(g, _blend(g, mosaic, rows, ROWS), columns, COLUMNS)


def _blend(g: Graph, mosaic: str, along: Tiling, axis: int) -> str:
    shape = g.i64([-1, 1] if axis == ROWS else [-1])
    terms = [
        g.op("Mul", g.op("Gather", mosaic, source, axis=axis), g.op("Reshape", weight, shape))
        for source, weight in zip(along.sources, along.weights, strict=True)
    ]
    return g.op("Add", g.op("Add", terms[0], terms[1]), terms[2])


def _shape(g: Graph, *sides: int | str) -> str:
    """A shape of which some sides are known only at run time (int64 scalars)."""
    parts = [g.i64([s]) if isinstance(s, int) else g.op("Unsqueeze", s, g.i64([0])) for s in sides]
    return g.op("Concat", *parts, axis=0)


def smooth(g: Graph, x: str, sigma: float) -> str:
    """`anogan.calibration.smooth` of each channel of (N, P, H, W)."""
    if sigma == 0:
        return x
    kernel = gaussian_kernel(sigma)
    shape = g.op("Shape", x)
    flat = g.op(
        "Reshape", x, g.op("Concat", g.i64([-1, 1]), g.op("Slice", shape, g.i64([2]), g.i64([4])), axis=0)
    )
    for axis, form in ((COLUMNS, (1, -1)), (ROWS, (-1, 1))):
        mirrored = g.op("Gather", flat, _mirror(g, length(g, x, axis), len(kernel) // 2), axis=axis)
        flat = g.op("Conv", mirrored, g.constant(kernel.reshape(1, 1, *form)))
    return g.op("Reshape", flat, shape)


def _mirror(g: Graph, n: str, radius: int) -> str:
    """Indices of an axis of n >= 2 pixels continued by `radius` on both sides, d c b | a b c d | c b a."""
    place = g.op("Range", g.i64(-radius), g.op("Add", n, g.i64(radius)), g.i64(1))
    period = g.op("Mul", g.op("Sub", n, g.i64(1)), g.i64(2))
    turned = g.op("Mod", place, period)
    return g.op("Min", turned, g.op("Sub", period, turned))
