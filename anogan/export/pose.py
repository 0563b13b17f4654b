"""`anogan.images.pose` as ONNX nodes: where a part lies.

The numbers are those of NumPy: motions are computed in float64 and rounded to one grid, so that the last bits
of a sum next to never decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anogan.export.graph import BOOL, DOUBLE, INT64, Graph
from anogan.images.pose import (
    CLEARLY_BETTER,
    LEAST_CONTRAST,
    NOTHING,
    RIDGE,
    SHIFT_GRID,
    STEEPEST,
    STEPS,
    TURN_GRID,
    Candidates,
    Floats,
    Level,
    PoseSearch,
    Raster,
)


def find_motion(g: Graph, grey: str, search: PoseSearch) -> tuple[str, str]:
    """`PoseSearch.find` of each picture: (N, 3) and (N, 1) float64.

    Args:
        g: The graph.
        grey: (N, H, W) float64 in [0, 1].
        search: Of the reference.
    """
    first, *finer = search.levels
    flat = _coarse(g, grey, first.raster)
    best = _best_candidate(g, grey, search.candidates)
    motion, straight = (_stepped(g, flat, start, first) for start in (best, g.op("Mul", best, g.f64(0))))
    fits = (_correlation(g, flat, its, first) for its in (straight, motion))
    is_better = g.op("Greater", g.op("Sub", *fits), g.f64(CLEARLY_BETTER))
    motion = g.op("Where", is_better, straight, motion)
    for level in finer:
        flat = _coarse(g, grey, level.raster)
        motion = _stepped(g, flat, motion, level)
    fineness = g.f64([SHIFT_GRID, SHIFT_GRID, TURN_GRID])
    motion = g.op("Div", g.op("Round", g.op("Mul", motion, fineness)), fineness)
    return motion, _correlation(g, flat, motion, search.levels[-1])


def _best_candidate(g: Graph, grey: str, candidates: Candidates) -> str:
    """`Candidates.best`, (N, 3)."""
    flat = _coarse(g, grey, candidates.raster)
    centred = g.op("Sub", flat, g.op("ReduceMean", flat, g.i64([1])))
    masks, templates = candidates.masks.T, candidates.templates.T
    n, theirs, their_spread = candidates.overlaps
    beyond = g.op("Pad", centred, g.i64([0, 0, 0, 1]), g.f64(0))
    views = g.op("Gather", beyond, g.constant(candidates.windows, np.int32), axis=1)
    ours = g.op("MatMul", views, g.f64(masks))
    products = g.op("MatMul", views, g.f64(templates))
    covariance = g.op("Sub", products, g.op("Mul", ours, g.f64(theirs / n)))
    squares = g.op("MatMul", g.op("Mul", views, views), g.f64(masks))
    our_spread = g.op("Sub", squares, g.op("Div", g.op("Mul", ours, ours), g.f64(n)))
    spread = g.op("Max", g.op("Mul", our_spread, g.f64(their_spread)), g.f64(NOTHING))
    correlation = g.op("Div", covariance, g.op("Sqrt", spread))
    # The first one wins where several are equal, as with NumPy.
    best = g.op("ArgMax", g.op("Reshape", correlation, g.i64([0, -1])), axis=1, keepdims=0)
    return g.op("Gather", g.f64(candidates.motions), best, axis=0)


def _coarse(g: Graph, grey: str, raster: Raster) -> str:
    """`Raster.of`, (N, h w)."""
    coarse = g.op("MatMul", g.op("MatMul", g.f64(raster.rows), grey), g.f64(raster.columns.T))
    return g.op("Reshape", coarse, g.i64([0, -1]))


def _stepped(g: Graph, picture: str, motion: str, level: Level) -> str:
    """`STEPS` times `Level.step`: (N, 3), for pictures (N, h w)."""
    m = level.design.shape[1]
    design = g.cast(g.constant(level.design), DOUBLE)
    # Of constants alone, and outside of the loop: ONNX Runtime computes it once, when it loads the file.
    products = g.op("Mul", g.op("Unsqueeze", design, g.i64([2])), g.op("Unsqueeze", design, g.i64([1])))
    products = g.op("Reshape", products, g.i64([-1, m * m]))

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        _, going, now = inputs
        values, weights = _seen_at(body, picture, now, level.raster)
        normal = body.op("Reshape", body.op("MatMul", weights, products), body.i64([-1, m, m]))
        ridge = body.op("Mul", normal, body.f64(RIDGE * np.eye(m)))
        normal = body.op("Add", body.op("Add", normal, ridge), body.f64(NOTHING * np.eye(m)))
        wanted = body.op("MatMul", body.op("Mul", weights, values), design)
        return [going, _changed(body, now, _solved(body, normal, wanted, m), level)]

    body = g.body(trip, [INT64, BOOL, DOUBLE], [BOOL, DOUBLE])
    return g.op("Loop", g.i64(STEPS), g.constant(True, np.bool_), motion, body=body)


def _seen_at(g: Graph, picture: str, motion: str, raster: Raster) -> tuple[str, str]:
    """`Raster.seen`, (N, h w) each."""
    (height, width), (h, w) = raster.size, raster.shape
    shift_x, shift_y, sine = columns_of(g, motion)
    from_x, from_y = raster.places
    places = grid(g, from_x[:w], from_y[::w])
    x, y = moved(g, sine, cosine_of(g, sine), shift_x, shift_y, places)
    x, y = _on_raster(g, x, width, w), _on_raster(g, y, height, h)
    inside = g.op("Mul", _reach(g, x, w), _reach(g, y, h))
    planes = g.op("Unsqueeze", picture, g.i64([1]))
    return g.op("Squeeze", sample(g, planes, x, y, (h, w), DOUBLE, None), g.i64([1])), inside


def _on_raster(g: Graph, places: str, side: float, n: int) -> str:
    """From places in the whole picture, seen from its centre, to pixels of a raster."""
    whole = g.op("Mul", g.op("Add", places, g.f64(side / 2)), g.f64(n / side))
    return g.op("Sub", whole, g.f64(0.5))


def _reach(g: Graph, places: str, n: int) -> str:
    """`anogan.images.pose.reach`."""
    zero, one = g.f64(0), g.f64(1)
    begun = g.op("Clip", g.op("Add", places, one), zero, one)
    return g.op("Mul", begun, g.op("Clip", g.op("Sub", g.f64(n), places), zero, one))


def _solved(g: Graph, matrix: str, wanted: str, m: int) -> str:
    """(N, m): what the matrix (N, m, m), symmetric and positive, makes (N, m); by Gauss and Jordan."""
    system = g.op("Concat", matrix, g.op("Unsqueeze", wanted, g.i64([2])), axis=2)
    rows = g.ops("Split", m, system, g.i64([1] * m), axis=1)
    for k in range(m):
        rows[k] = g.op("Div", rows[k], _entry(g, rows[k], k))
        for j in range(m):
            if j != k:
                rows[j] = g.op("Sub", rows[j], g.op("Mul", _entry(g, rows[j], k), rows[k]))
    return g.op("Squeeze", _entry(g, g.op("Concat", *rows, axis=1), m), g.i64([2]))


def _entry(g: Graph, rows: str, column: int) -> str:
    """One column of (N, R, m), (N, R, 1)."""
    return g.op("Gather", rows, g.i64([column]), axis=2)


def _changed(g: Graph, motion: str, found: str, level: Level) -> str:
    """The motion (N, 3) after what a step found (N, m)."""
    contrast = g.op("Max", g.op("Gather", found, g.i64([1]), axis=1), g.f64(LEAST_CONTRAST))
    changes = [
        g.op(
            "Clip",
            g.op("Div", g.op("Gather", found, g.i64([place]), axis=1), contrast),
            g.f64(-level.pull),
            g.f64(level.pull),
        )
        for place in range(2, level.design.shape[1])
    ]
    shift_x, shift_y, sine = columns_of(g, motion)
    if len(changes) == 3:
        change = g.op("Div", changes[2], g.f64(level.radius))
        change = g.op("Clip", change, g.f64(-STEEPEST), g.f64(STEEPEST))
        less = g.op("Mul", cosine_of(g, sine), change)
        sine = g.op("Sub", g.op("Mul", sine, cosine_of(g, change)), less)
        sine = g.op("Clip", sine, g.f64(-STEEPEST), g.f64(STEEPEST))
    zero = g.f64(0)
    back_x, back_y = moved(g, sine, cosine_of(g, sine), zero, zero, (changes[0], changes[1]))
    return g.op("Concat", g.op("Sub", shift_x, back_x), g.op("Sub", shift_y, back_y), sine, axis=1)


def _correlation(g: Graph, picture: str, motion: str, level: Level) -> str:
    """`Level.correlation`, (N, 1)."""
    values, weights = _seen_at(g, picture, motion, level.raster)
    reference = g.cast(g.constant(level.design[:, 1]), DOUBLE)
    total = g.op("Max", _total(g, weights), g.f64(NOTHING))
    ours = _centred(g, values, weights, total)
    theirs = _centred(g, reference, weights, total)
    together = _total(g, g.op("Mul", weights, g.op("Mul", ours, theirs)))
    squares = [_total(g, g.op("Mul", weights, g.op("Mul", v, v))) for v in (ours, theirs)]
    spread = g.op("Max", g.op("Mul", *squares), g.f64(NOTHING))
    return g.op("Div", together, g.op("Sqrt", spread))


def _centred(g: Graph, values: str, weights: str, total: str) -> str:
    return g.op("Sub", values, g.op("Div", _total(g, g.op("Mul", weights, values)), total))


def _total(g: Graph, values: str) -> str:
    return g.op("ReduceSum", values, g.i64([1]))


@dataclass(frozen=True)
class _Near:
    """A row or column and the nearest one that there is, float64."""

    wanted: str
    found: str


def _near(g: Graph, place: str, n: int) -> _Near:
    return _Near(place, g.op("Clip", place, g.f64(0), g.f64(n - 1)))


def _tap(
    g: Graph,
    planes: str,
    row: _Near,
    column: _Near,
    size: tuple[int, int],
    kind: int,
    outside: float | None,
    share: str,
) -> str:
    """One of the four neighbours by its share, (N, C, P)."""
    place = g.op("Add", g.op("Mul", row.found, g.f64(size[1])), column.found)
    index = g.op("Unsqueeze", g.cast(place, INT64), g.i64([1]))
    channels = g.op("Shape", planes, start=1, end=2)
    shape = g.op("Concat", g.i64([1]), channels, g.i64([1]), axis=0)
    values = g.op("GatherElements", planes, g.op("Expand", index, shape), axis=2)
    if outside is not None:
        on_row = g.op("Equal", row.wanted, row.found)
        inside = g.op("And", on_row, g.op("Equal", column.wanted, column.found))
        values = g.op("Where", g.op("Unsqueeze", inside, g.i64([1])), values, g.f32(outside))
    return g.op("Mul", values, g.op("Unsqueeze", g.cast(share, kind), g.i64([1])))


def grid(g: Graph, x: Floats, y: Floats) -> tuple[str, str]:
    """(1, h w) each of w columns and h rows; the file holds h + w numbers, not their products."""
    shape = g.i64([len(y), len(x)])
    spread = (g.op("Expand", g.f64(places), shape) for places in (x[None], y[:, None]))
    across, down = (g.op("Reshape", places, g.i64([1, -1])) for places in spread)
    return across, down


def moved(
    g: Graph, sine: str, cosine: str, shift_x: str, shift_y: str, places: tuple[str, str]
) -> tuple[str, str]:
    """`anogan.images.pose.moved`."""
    x, y = places
    across = g.op("Sub", g.op("Mul", cosine, x), g.op("Mul", sine, y))
    down = g.op("Add", g.op("Mul", sine, x), g.op("Mul", cosine, y))
    return g.op("Add", across, shift_x), g.op("Add", down, shift_y)


def cosine_of(g: Graph, sine: str) -> str:
    """Of a turn below a right angle, given by its sine."""
    return g.op("Sqrt", g.op("Sub", g.f64(1), g.op("Mul", sine, sine)))


def sample(
    g: Graph, planes: str, x: str, y: str, size: tuple[int, int], kind: int, outside: float | None
) -> str:
    """`anogan.images.pose.sample`: (N, C, P) at places (N, P) of planes (N, C, h w), all of one type."""
    h, w = size
    one = g.f64(1)
    left, top = g.op("Floor", x), g.op("Floor", y)
    right, bottom = g.op("Add", left, one), g.op("Add", top, one)
    rows = ((top, g.op("Sub", bottom, y)), (bottom, g.op("Sub", y, top)))
    columns = ((left, g.op("Sub", right, x)), (right, g.op("Sub", x, left)))
    taps = [
        _tap(g, planes, row, column, size, kind, outside, g.op("Mul", share_y, share_x))
        for row, share_y in ((_near(g, row, h), share) for row, share in rows)
        for column, share_x in ((_near(g, column, w), share) for column, share in columns)
    ]
    total = taps[0]
    for tap in taps[1:]:  # One after the other, as NumPy adds them: `Sum` promises no order.
        total = g.op("Add", total, tap)
    return total


def columns_of(g: Graph, motion: str) -> list[str]:
    """(N, 3) -> shift x, shift y and the sine of the turn, (N, 1) each."""
    return g.ops("Split", 3, motion, g.i64([1, 1, 1]), axis=1)
