"""`anogan.images.registration` as ONNX nodes: parts are laid in place, and results back where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anogan.export.graph import DOUBLE, FLOAT, INT64, Graph
from anogan.export.pose import columns_of, cosine_of, find_motion, grid, moved, sample
from anogan.images.pose import PoseSearch
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
    motion, correlation = find_motion(g, grey, search)
    registered = _plausible(g, motion, correlation, search)
    kept = g.op("Where", g.op("Unsqueeze", registered, g.i64([1])), motion, g.f64(0))
    shift_x, shift_y, sine = columns_of(g, kept)
    return Pose(search.size, search.aspect, registered, sine, cosine_of(g, sine), shift_x, shift_y)


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
    after = g.op("GreaterOrEqual", places, g.f64(-SLACK))
    return g.op("And", after, g.op("LessOrEqual", places, g.f64(n - 1 + SLACK)))


def _plausible(g: Graph, motion: str, correlation: str, search: PoseSearch) -> str:
    """`anogan.images.registration.plausible`, (N,) bool."""
    beyond = g.cast(g.op("Greater", g.op("Abs", motion), g.f64(search.limits)), INT64)
    near = g.op("Equal", g.op("ReduceSum", beyond, g.i64([1]), keepdims=0), g.i64(0))
    shown = g.op("GreaterOrEqual", g.op("Squeeze", correlation, g.i64([1])), g.f64(MIN_CORRELATION))
    return g.op("And", near, shown)


def _sources(g: Graph, pose: Pose) -> tuple[str, str]:
    """(N, H W) each: where x and y of every pixel of the registered image come from."""

    def write(g: Graph) -> tuple[str, ...]:
        x, y = moved(g, pose.sine, pose.cosine, pose.shift_x, pose.shift_y, _from_centre(g, pose))
        return _to_pixels(g, x, y, pose)

    x, y = g.once(("sources", pose), write)
    return x, y


def _ways_back(g: Graph, pose: Pose) -> tuple[str, str]:
    """(N, H W) each: where every pixel of the photograph lies in the reference."""

    def write(g: Graph) -> tuple[str, ...]:
        x, y = _from_centre(g, pose)
        x, y = g.op("Sub", x, pose.shift_x), g.op("Sub", y, pose.shift_y)
        zero = g.f64(0)
        x, y = moved(g, g.op("Neg", pose.sine), pose.cosine, zero, zero, (x, y))
        return _to_pixels(g, x, y, pose)

    x, y = g.once(("ways back", pose), write)
    return x, y


def _from_centre(g: Graph, pose: Pose) -> tuple[str, str]:
    y, x = (np.arange(n, dtype=np.float64) - (n - 1) / 2 for n in pose.size)
    return grid(g, x * pose.aspect, y)


def _to_pixels(g: Graph, x: str, y: str, pose: Pose) -> tuple[str, str]:
    centre_y, centre_x = (g.f64((n - 1) / 2) for n in pose.size)
    x = g.op("Div", x, g.f64(pose.aspect))
    return g.op("Add", x, centre_x), g.op("Add", y, centre_y)


def _warped(
    g: Graph, x: str, places: tuple[str, str], size: tuple[int, int], outside: float | None = None
) -> str:
    """(N, C, H, W) float32: every pixel from where it comes."""
    flat = g.op("Reshape", x, g.i64([0, 0, -1]))
    shape = g.op("Concat", g.op("Shape", x, end=2), g.i64(size), axis=0)
    return g.op("Reshape", sample(g, flat, *places, size, FLOAT, outside), shape)
