"""`anogan.images.registration` and `anogan.images.pose` as ONNX nodes: a part is found and laid in place.

The numbers are those of NumPy: motions are computed in float64 and rounded to one grid, so that the last bits
of a sum decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anogan.export.graph import BOOL, DOUBLE, FLOAT, INT64, Graph
from anogan.images.pose import (
    LEAST_CONTRAST,
    MAX_ROTATION,
    MAX_SHIFT,
    NOTHING,
    PULL,
    RIDGE,
    SHIFT_GRID,
    STEEPEST,
    STEPS,
    TURN_GRID,
    Candidates,
    Floats,
    Level,
    PoseSearch,
)
from anogan.images.registration import MIN_CORRELATION, SLACK


@dataclass(frozen=True)
class Pose:
    """How the parts of a batch lie.

    Attributes:
        size: (H, W), known when the file is written.
        aspect: Width of a pixel by its height.
        registered: (N,) bool; False: no trustworthy motion was found, and the others are those of no motion.
        sine: (N, 1) float64 of the turn; `cosine` likewise.
        cosine: See `sine`.
        shift_x: (N, 1) float64, in heights of a pixel; `shift_y` likewise.
        shift_y: See `shift_x`.
    """

    size: tuple[int, int]
    aspect: float
    registered: str
    sine: str
    cosine: str
    shift_x: str
    shift_y: str


def find_pose(g: Graph, x: str, top: float, search: PoseSearch) -> Pose:
    """`Aligner.estimate` of each image.

    Args:
        g: The graph.
        x: (N, C, H, W) in [0, top], of the reference's size.
        top: Greatest pixel value.
        search: Of the model's reference.
    """
    grey = g.op("Div", g.op("ReduceMean", x, g.i64([1]), keepdims=0), g.f32(top))
    grey = g.cast(grey, DOUBLE)
    motion = _best_candidate(g, grey, search.candidates)
    for level in search.levels:
        picture = _coarse(g, grey, level.rows, level.columns)
        flat = g.op("Reshape", picture, g.i64([0, -1]))
        motion = _stepped(g, flat, motion, level)
    grid = _f64(g, [SHIFT_GRID, SHIFT_GRID, TURN_GRID])
    motion = g.op("Div", g.op("Round", g.op("Mul", motion, grid)), grid)
    registered = _plausible(g, motion, _correlation(g, flat, motion, search.levels[-1]), search)
    kept = g.op("Where", g.op("Unsqueeze", registered, g.i64([1])), motion, _f64(g, 0))
    shift_x, shift_y, sine = _columns(g, kept)
    return Pose(search.size, search.aspect, registered, sine, _cosine(g, sine), shift_x, shift_y)


def to_reference(g: Graph, x: str, pose: Pose) -> str:
    """`Alignment.to_reference` of (N, C, H, W)."""
    return _warped(g, x, _sources(g, pose), pose.size)


def from_reference(g: Graph, x: str, pose: Pose, outside: float | None = None) -> str:
    """`Alignment.from_reference` of (N, C, H, W)."""
    return _warped(g, x, _ways_back(g, pose), pose.size, outside)


def seen(g: Graph, pose: Pose) -> str:
    """`Alignment.seen`, (N, 1, H, W) bool."""
    x, y = _sources(g, pose)
    height, width = pose.size
    inside = g.op("And", _between(g, x, width), _between(g, y, height))
    return g.op("Reshape", inside, g.i64([-1, 1, height, width]))


def _between(g: Graph, places: str, n: int) -> str:
    after = g.op("GreaterOrEqual", places, _f64(g, -SLACK))
    return g.op("And", after, g.op("LessOrEqual", places, _f64(g, n - 1 + SLACK)))


def _best_candidate(g: Graph, grey: str, candidates: Candidates) -> str:
    """`Candidates.best`, (N, 3)."""
    coarse = _coarse(g, grey, candidates.rows, candidates.columns)
    flat = g.op("Reshape", coarse, g.i64([0, -1]))
    centred = g.op("Sub", flat, g.op("ReduceMean", flat, g.i64([1])))
    under, masks, templates = candidates.under, candidates.masks.T, candidates.templates.T
    n, theirs = under @ masks, under @ templates
    their_spread = under @ templates**2 - theirs**2 / n
    beyond = g.op("Pad", centred, g.i64([0, 0, 0, 1]), _f64(g, 0))
    views = g.op("Gather", beyond, g.constant(candidates.windows, np.int32), axis=1)
    ours = g.op("MatMul", views, _f64(g, masks))
    products = g.op("MatMul", views, _f64(g, templates))
    covariance = g.op("Sub", products, g.op("Mul", ours, _f64(g, theirs / n)))
    squares = g.op("MatMul", g.op("Mul", views, views), _f64(g, masks))
    our_spread = g.op("Sub", squares, g.op("Div", g.op("Mul", ours, ours), _f64(g, n)))
    spread = g.op("Max", g.op("Mul", our_spread, _f64(g, their_spread)), _f64(g, NOTHING))
    correlation = g.op("Div", covariance, g.op("Sqrt", spread))
    # The first one wins where several are equal, as with NumPy.
    best = g.op("ArgMax", g.op("Reshape", correlation, g.i64([0, -1])), axis=1, keepdims=0)
    return g.op("Gather", _f64(g, candidates.motions), best, axis=0)


def _coarse(g: Graph, grey: str, rows: Floats, columns: Floats) -> str:
    return g.op("MatMul", g.op("MatMul", _f64(g, rows), grey), _f64(g, columns.T))


def _stepped(g: Graph, picture: str, motion: str, level: Level) -> str:
    """`STEPS` times `Level.step`: (N, 3), for pictures (N, h w)."""
    m = level.design.shape[1]
    design = g.cast(g.constant(level.design), DOUBLE)
    # Of constants alone, and outside of the loop: ONNX Runtime computes it once, when it loads the file.
    products = g.op("Mul", g.op("Unsqueeze", design, g.i64([2])), g.op("Unsqueeze", design, g.i64([1])))
    products = g.op("Reshape", products, g.i64([-1, m * m]))

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        _, going, now = inputs
        values, weights = _seen_at(body, picture, now, level)
        normal = body.op("Reshape", body.op("MatMul", weights, products), body.i64([-1, m, m]))
        ridge = body.op("Mul", normal, _f64(body, RIDGE * np.eye(m)))
        normal = body.op("Add", body.op("Add", normal, ridge), _f64(body, NOTHING * np.eye(m)))
        wanted = body.op("MatMul", body.op("Mul", weights, values), design)
        return [going, _changed(body, now, _solved(body, normal, wanted, m), level)]

    body = g.body(trip, [INT64, BOOL, DOUBLE], [BOOL, DOUBLE])
    return g.op("Loop", g.i64(STEPS), g.constant(True, np.bool_), motion, body=body)


def _seen_at(g: Graph, picture: str, motion: str, level: Level) -> tuple[str, str]:
    """`Level.seen`, (N, h w) each."""
    (height, width), (h, w) = level.size, level.shape
    shift_x, shift_y, sine = _columns(g, motion)
    from_x, from_y = level.places
    places = _grid(g, from_x[:w], from_y[::w])
    x, y = _moved(g, sine, _cosine(g, sine), shift_x, shift_y, places)
    x, y = _on_level(g, x, width, w), _on_level(g, y, height, h)
    inside = g.op("Mul", _reach(g, x, w), _reach(g, y, h))
    planes = g.op("Unsqueeze", picture, g.i64([1]))
    return g.op("Squeeze", _sample(g, planes, x, y, (h, w), DOUBLE, None), g.i64([1])), inside


def _on_level(g: Graph, places: str, side: float, n: int) -> str:
    """From places in the whole picture, seen from its centre, to pixels of a level."""
    whole = g.op("Mul", g.op("Add", places, _f64(g, side / 2)), _f64(g, n / side))
    return g.op("Sub", whole, _f64(g, 0.5))


def _reach(g: Graph, places: str, n: int) -> str:
    """`anogan.images.pose.reach`."""
    zero, one = _f64(g, 0), _f64(g, 1)
    begun = g.op("Clip", g.op("Add", places, one), zero, one)
    return g.op("Mul", begun, g.op("Clip", g.op("Sub", _f64(g, n), places), zero, one))


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
    contrast = g.op("Max", g.op("Gather", found, g.i64([1]), axis=1), _f64(g, LEAST_CONTRAST))
    pull = PULL * level.size[1] / level.shape[1]
    changes = [
        g.op(
            "Clip",
            g.op("Div", g.op("Gather", found, g.i64([place]), axis=1), contrast),
            _f64(g, -pull),
            _f64(g, pull),
        )
        for place in range(2, level.design.shape[1])
    ]
    shift_x, shift_y, sine = _columns(g, motion)
    if len(changes) == 3:
        change = g.op("Div", changes[2], _f64(g, level.radius))
        less = g.op("Mul", _cosine(g, sine), change)
        sine = g.op("Sub", g.op("Mul", sine, _cosine(g, change)), less)
        sine = g.op("Clip", sine, _f64(g, -STEEPEST), _f64(g, STEEPEST))
    zero = _f64(g, 0)
    back_x, back_y = _moved(g, sine, _cosine(g, sine), zero, zero, (changes[0], changes[1]))
    return g.op("Concat", g.op("Sub", shift_x, back_x), g.op("Sub", shift_y, back_y), sine, axis=1)


def _correlation(g: Graph, picture: str, motion: str, level: Level) -> str:
    """`Level.correlation`, (N, 1)."""
    values, weights = _seen_at(g, picture, motion, level)
    reference = g.cast(g.constant(level.design[:, 1]), DOUBLE)
    total = g.op("Max", _total(g, weights), _f64(g, NOTHING))
    ours = _centred(g, values, weights, total)
    theirs = _centred(g, reference, weights, total)
    together = _total(g, g.op("Mul", weights, g.op("Mul", ours, theirs)))
    squares = [_total(g, g.op("Mul", weights, g.op("Mul", v, v))) for v in (ours, theirs)]
    spread = g.op("Max", g.op("Mul", *squares), _f64(g, NOTHING))
    return g.op("Div", together, g.op("Sqrt", spread))


def _centred(g: Graph, values: str, weights: str, total: str) -> str:
    return g.op("Sub", values, g.op("Div", _total(g, g.op("Mul", weights, values)), total))


def _total(g: Graph, values: str) -> str:
    return g.op("ReduceSum", values, g.i64([1]))


def _plausible(g: Graph, motion: str, correlation: str, search: PoseSearch) -> str:
    """`anogan.images.registration.plausible`, (N,) bool."""
    height, width = search.size
    limits = _f64(g, [MAX_SHIFT * width * search.aspect, MAX_SHIFT * height, math.sin(MAX_ROTATION)])
    beyond = g.cast(g.op("Greater", g.op("Abs", motion), limits), INT64)
    near = g.op("Equal", g.op("ReduceSum", beyond, g.i64([1]), keepdims=0), g.i64(0))
    shown = g.op("GreaterOrEqual", g.op("Squeeze", correlation, g.i64([1])), _f64(g, MIN_CORRELATION))
    return g.op("And", near, shown)


def _sources(g: Graph, pose: Pose) -> tuple[str, str]:
    """(N, H W) each: where x and y of every pixel of the registered image come from."""
    x, y = _moved(g, pose.sine, pose.cosine, pose.shift_x, pose.shift_y, _from_centre(g, pose))
    return _to_pixels(g, x, y, pose)


def _ways_back(g: Graph, pose: Pose) -> tuple[str, str]:
    """(N, H W) each: where every pixel of the photograph lies in the reference."""
    x, y = _from_centre(g, pose)
    x, y = g.op("Sub", x, pose.shift_x), g.op("Sub", y, pose.shift_y)
    zero = _f64(g, 0)
    x, y = _moved(g, g.op("Neg", pose.sine), pose.cosine, zero, zero, (x, y))
    return _to_pixels(g, x, y, pose)


def _from_centre(g: Graph, pose: Pose) -> tuple[str, str]:
    y, x = (np.arange(n, dtype=np.float64) - (n - 1) / 2 for n in pose.size)
    return _grid(g, x * pose.aspect, y)


def _grid(g: Graph, x: Floats, y: Floats) -> tuple[str, str]:
    """(1, h w) each of w columns and h rows; the file holds h + w numbers, not their products."""
    shape = g.i64([len(y), len(x)])
    spread = (g.op("Expand", _f64(g, places), shape) for places in (x[None], y[:, None]))
    across, down = (g.op("Reshape", places, g.i64([1, -1])) for places in spread)
    return across, down


def _to_pixels(g: Graph, x: str, y: str, pose: Pose) -> tuple[str, str]:
    centre_y, centre_x = (_f64(g, (n - 1) / 2) for n in pose.size)
    x = g.op("Div", x, _f64(g, pose.aspect))
    return g.op("Add", x, centre_x), g.op("Add", y, centre_y)


def _moved(
    g: Graph, sine: str, cosine: str, shift_x: str, shift_y: str, places: tuple[str, str]
) -> tuple[str, str]:
    """`anogan.images.pose.moved`."""
    x, y = places
    across = g.op("Sub", g.op("Mul", cosine, x), g.op("Mul", sine, y))
    down = g.op("Add", g.op("Mul", sine, x), g.op("Mul", cosine, y))
    return g.op("Add", across, shift_x), g.op("Add", down, shift_y)


def _cosine(g: Graph, sine: str) -> str:
    return g.op("Sqrt", g.op("Sub", _f64(g, 1), g.op("Mul", sine, sine)))


def _warped(
    g: Graph, x: str, places: tuple[str, str], size: tuple[int, int], outside: float | None = None
) -> str:
    """(N, C, H, W) float32: every pixel from where it comes."""
    flat = g.op("Reshape", x, g.i64([0, 0, -1]))
    shape = g.op("Concat", g.op("Shape", x, end=2), g.i64(size), axis=0)
    return g.op("Reshape", _sample(g, flat, *places, size, FLOAT, outside), shape)


def _sample(
    g: Graph, planes: str, x: str, y: str, size: tuple[int, int], kind: int, outside: float | None
) -> str:
    """`anogan.images.pose.sample`: (N, C, P) at places (N, P) of planes (N, C, h w), all of one type."""
    h, w = size
    one = _f64(g, 1)
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


@dataclass(frozen=True)
class _Near:
    """A row or column and the nearest one that there is, float64."""

    wanted: str
    found: str


def _near(g: Graph, place: str, n: int) -> _Near:
    return _Near(place, g.op("Clip", place, _f64(g, 0), _f64(g, n - 1)))


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
    place = g.op("Add", g.op("Mul", row.found, _f64(g, size[1])), column.found)
    index = g.op("Unsqueeze", g.cast(place, INT64), g.i64([1]))
    channels = g.op("Shape", planes, start=1, end=2)
    shape = g.op("Concat", g.i64([1]), channels, g.i64([1]), axis=0)
    values = g.op("GatherElements", planes, g.op("Expand", index, shape), axis=2)
    if outside is not None:
        on_row = g.op("Equal", row.wanted, row.found)
        inside = g.op("And", on_row, g.op("Equal", column.wanted, column.found))
        values = g.op("Where", g.op("Unsqueeze", inside, g.i64([1])), values, g.f32(outside))
    return g.op("Mul", values, g.op("Unsqueeze", g.cast(share, kind), g.i64([1])))


def _columns(g: Graph, motion: str) -> list[str]:
    """(N, 3) -> shift x, shift y and turn, (N, 1) each."""
    return g.ops("Split", 3, motion, g.i64([1, 1, 1]), axis=1)


def _f64(g: Graph, value: Floats | float | list[float]) -> str:
    return g.constant(value, np.float64)
