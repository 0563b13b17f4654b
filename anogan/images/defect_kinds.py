"""The kinds of synthetic defects: each takes a canvas and returns the damaged image.

Here those that follow edges, since conductors and contours break there; those of surfaces are in
`surface_defects`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.images.defect_canvas import (
    Canvas,
    Image,
    Mask,
    at_angle,
    blend,
    crosswise,
    fill,
    filled,
    in_range,
    irregular_shape,
    point_on_edge,
    soft_edged,
    some_colour,
)
from anogan.images.surface_defects import crack, seam, shade, texture, uneven

BRIDGE_TRIES = 6  # Edges that a bridge starts from until one has another edge across.
BESIDE = 3  # Pixels from an edge to what lies on its side.


def _blob(canvas: Canvas) -> Image:
    shape = irregular_shape(canvas, canvas.point(), canvas.size(), canvas.size())
    return fill(canvas, shape, some_colour(canvas))


def _edge_bite(canvas: Canvas) -> Image:
    """A piece of one side of an edge laid over the other: bites, spurs, opens, shorts."""
    centre = point_on_edge(canvas)
    size = canvas.size()
    height, width = canvas.shape
    angle, reach = canvas.rng.uniform(0, 2 * math.pi), canvas.rng.uniform(1, 4 + size / 2)
    y = int(np.clip(centre[0] + reach * math.sin(angle), 0, height - 1))
    x = int(np.clip(centre[1] + reach * math.cos(angle), 0, width - 1))
    stretch = canvas.rng.uniform(0.4, 1.6)
    return fill(canvas, irregular_shape(canvas, centre, size, size * stretch), canvas.image[y, x])


def _scratch(canvas: Canvas) -> Image:
    rng = canvas.rng
    start = point_on_edge(canvas) if rng.random() < 0.5 else canvas.point()
    length, heading = canvas.size() * rng.uniform(1.0, 2.5), rng.uniform(0, 2 * math.pi)
    steps = max(2, int(length / 3))
    headings = heading + np.cumsum(rng.normal(0, 0.25, steps))
    ys = start[0] + np.cumsum(3 * np.sin(headings)) - length / 2 * math.sin(heading)
    xs = start[1] + np.cumsum(3 * np.cos(headings)) - length / 2 * math.cos(heading)
    points = np.stack([xs, ys], axis=1).round().astype(np.int32)
    drawn = np.zeros(canvas.shape, np.uint8)
    thickness = int(rng.integers(1, max(2, round(canvas.config.min_size)) + 2))
    cv2.polylines(drawn, [points], False, 255, thickness=thickness)
    return fill(canvas, drawn > 0, some_colour(canvas))


def _cut_paste(canvas: Canvas) -> Image:
    shape = irregular_shape(canvas, canvas.point(), 1.5 * canvas.size(), 1.5 * canvas.size())
    height, width = canvas.shape
    shift = (int(canvas.rng.integers(4, height - 4)), int(canvas.rng.integers(4, width - 4)))
    other = np.roll(canvas.image, shift, axis=(0, 1))
    if canvas.rng.random() < 0.5:
        other = other[:, ::-1]
    return np.where(soft_edged(canvas, shape)[..., None] > 0.5, other, canvas.image)


def _blur(canvas: Canvas) -> Image:
    shape = irregular_shape(canvas, point_on_edge(canvas), 2 * canvas.size(), 2 * canvas.size())
    sigma = canvas.rng.uniform(1.0, 3.0)
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), sigma).reshape(canvas.image.shape)
    weight = soft_edged(canvas, shape)[..., None]
    return weight * blurred + (1 - weight) * canvas.image


def _contrast(canvas: Canvas) -> Image:
    shape = irregular_shape(canvas, canvas.point(), 2 * canvas.size(), 2 * canvas.size())
    gain, sign = canvas.rng.uniform(0.5, 1.5), canvas.rng.choice([-1.0, 1.0])
    bias = sign * canvas.rng.uniform(0.08, 0.3)
    weight = soft_edged(canvas, shape)[..., None]
    mean = canvas.image.mean()
    changed = (canvas.image - mean) * gain + mean + bias
    return in_range(weight * changed + (1 - weight) * canvas.image)


def _missing(canvas: Canvas) -> Image:
    """A piece broken out of an edge: what lies behind the part shows, or a bright fracture."""
    shape = irregular_shape(canvas, point_on_edge(canvas), 2 * canvas.size(), 2 * canvas.size())
    share = canvas.rng.uniform(0, 5) if canvas.rng.random() < 0.7 else canvas.rng.uniform(95, 100)
    behind = np.percentile(canvas.image, share, axis=(0, 1)).astype(np.float32)
    grain = canvas.rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return blend(canvas, shape, behind + grain)


def _bridge(canvas: Canvas) -> Image:
    """A strip from an edge across to the next one: a short between conductors, an open through one.

    Where no edge lies within the largest defect, the strip ends on its way: a spur, or a notch.
    """
    rng, size = canvas.rng, canvas.size()
    grey = cv2.GaussianBlur(canvas.image.mean(axis=2), (0, 0), 1.5)
    for _ in range(BRIDGE_TRIES):
        start = np.array(point_on_edge(canvas), np.float64)
        across = _uphill(grey, start, rng) * rng.choice([-1.0, 1.0])
        way = _way_to_next_edge(grey, start, across, canvas.config.max_size)
        if way is not None:
            break
    reach = size if way is None else way + BESIDE
    shape = _strip(canvas, start - BESIDE * across, across, reach + BESIDE, size * rng.uniform(0.4, 1.0))
    y, x = _pixel(grey, start - BESIDE * across)
    # Nothing of what lies beneath shows through: beside an edge that would part the strip from what it joins.
    grain = rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return blend(canvas, shape, canvas.image[y, x] + grain, rng.uniform(0.8, 1.0))


def _uphill(grey: Image, point: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit vector (y, x) along the gradient; any where there is none."""
    ahead = 2 * np.eye(2)  # Further than the stairs of a slanting edge.
    rise = np.array(
        [grey[_pixel(grey, point + a)] - grey[_pixel(grey, point - a)] for a in ahead], np.float64
    )
    length = float(np.hypot(*rise))
    if length < 1e-6:
        return at_angle(rng.uniform(0, 2 * math.pi))
    return rise / length


def _way_to_next_edge(
    grey: Image, start: NDArray[np.float64], across: NDArray[np.float64], longest: float
) -> float | None:
    """Pixels from an edge over what lies beyond it to the next; None if it is further away than `longest`."""
    near = float(grey[_pixel(grey, start - BESIDE * across)])
    beyond = float(grey[_pixel(grey, start + BESIDE * across)])
    for way in np.arange(BESIDE + 1, longest):
        here = float(grey[_pixel(grey, start + way * across)])
        if abs(here - near) < abs(here - beyond):
            return float(way)
    return None


def _pixel(grey: Image, point: NDArray[np.float64]) -> tuple[int, int]:
    """The pixel (y, x) nearest to a point."""
    y, x = np.rint(point.clip(0, np.array(grey.shape) - 1)).astype(int)
    return int(y), int(x)


def _strip(
    canvas: Canvas, start: NDArray[np.float64], along: NDArray[np.float64], length: float, width: float
) -> Mask:
    """A strip that leans a little, wider here and narrower there."""
    rng = canvas.rng
    steps = np.linspace(0, length, 6)
    beside = crosswise(along)
    lean = rng.normal(0, 0.25) * steps + rng.normal(0, 0.05 * width, steps.size)
    half = width / 2 * (1 + rng.normal(0, 0.15, steps.size)).clip(0.4)
    middle = start + steps[:, None] * along + lean[:, None] * beside
    outline = np.concatenate([middle + half[:, None] * beside, (middle - half[:, None] * beside)[::-1]])
    return filled(canvas, outline[:, ::-1])


DRAW = {
    "blob": _blob,
    "edge-bite": _edge_bite,
    "scratch": _scratch,
    "cut-paste": _cut_paste,
    "blur": _blur,
    "contrast": _contrast,
    "crack": crack,
    "shade": shade,
    "texture": texture,
    "missing": _missing,
    "bridge": _bridge,
    "seam": seam,
    "uneven": uneven,
}
