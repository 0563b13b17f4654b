"""The kinds of synthetic defects: each takes a canvas and returns the damaged image.

Shapes follow edges, since conductors and contours break there; surfaces get cracks, shades and worn
patches, which keep the light and the grain of what they lie on.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import SyntheticDefectsConfig

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

BRIDGE_TRIES = 6  # Edges that a bridge starts from until one has another edge across.
BESIDE = 3  # Pixels from an edge to what lies on its side.


@dataclass(frozen=True)
class Canvas:
    """An image to damage, what decides at random, and the sizes asked for."""

    image: Image  # (H, W, C) in [0, 1]
    rng: np.random.Generator
    config: SyntheticDefectsConfig

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.shape[0], self.image.shape[1]

    def size(self) -> float:
        """A defect diameter, log-uniform: small ones are as important as large ones."""
        low, high = math.log(self.config.min_size), math.log(self.config.max_size)
        return float(math.exp(self.rng.uniform(low, high)))

    def point(self) -> tuple[int, int]:
        """A random pixel, (y, x)."""
        height, width = self.shape
        return int(self.rng.integers(height)), int(self.rng.integers(width))


def _blob(canvas: Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), canvas.size(), canvas.size())
    return _fill(canvas, shape, _some_colour(canvas))


def _edge_bite(canvas: Canvas) -> Image:
    """A piece of one side of an edge laid over the other: bites, spurs, opens, shorts."""
    centre = _point_on_edge(canvas)
    size = canvas.size()
    height, width = canvas.shape
    angle, reach = canvas.rng.uniform(0, 2 * math.pi), canvas.rng.uniform(1, 4 + size / 2)
    y = int(np.clip(centre[0] + reach * math.sin(angle), 0, height - 1))
    x = int(np.clip(centre[1] + reach * math.cos(angle), 0, width - 1))
    stretch = canvas.rng.uniform(0.4, 1.6)
    return _fill(canvas, _irregular_shape(canvas, centre, size, size * stretch), canvas.image[y, x])


def _scratch(canvas: Canvas) -> Image:
    rng = canvas.rng
    start = _point_on_edge(canvas) if rng.random() < 0.5 else canvas.point()
    length, heading = canvas.size() * rng.uniform(1.0, 2.5), rng.uniform(0, 2 * math.pi)
    steps = max(2, int(length / 3))
    headings = heading + np.cumsum(rng.normal(0, 0.25, steps))
    ys = start[0] + np.cumsum(3 * np.sin(headings)) - length / 2 * math.sin(heading)
    xs = start[1] + np.cumsum(3 * np.cos(headings)) - length / 2 * math.cos(heading)
    points = np.stack([xs, ys], axis=1).round().astype(np.int32)
    drawn = np.zeros(canvas.shape, np.uint8)
    thickness = int(rng.integers(1, max(2, round(canvas.config.min_size)) + 2))
    cv2.polylines(drawn, [points], False, 255, thickness=thickness)
    return _fill(canvas, drawn > 0, _some_colour(canvas))


def _cut_paste(canvas: Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), 1.5 * canvas.size(), 1.5 * canvas.size())
    height, width = canvas.shape
    shift = (int(canvas.rng.integers(4, height - 4)), int(canvas.rng.integers(4, width - 4)))
    other = np.roll(canvas.image, shift, axis=(0, 1))
    if canvas.rng.random() < 0.5:
        other = other[:, ::-1]
    return np.where(_soft(canvas, shape)[..., None] > 0.5, other, canvas.image)


def _blur(canvas: Canvas) -> Image:
    shape = _irregular_shape(canvas, _point_on_edge(canvas), 2 * canvas.size(), 2 * canvas.size())
    sigma = canvas.rng.uniform(1.0, 3.0)
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), sigma).reshape(canvas.image.shape)
    weight = _soft(canvas, shape)[..., None]
    return weight * blurred + (1 - weight) * canvas.image


def _contrast(canvas: Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), 2 * canvas.size(), 2 * canvas.size())
    gain, sign = canvas.rng.uniform(0.5, 1.5), canvas.rng.choice([-1.0, 1.0])
    bias = sign * canvas.rng.uniform(0.08, 0.3)
    weight = _soft(canvas, shape)[..., None]
    mean = canvas.image.mean()
    changed = (canvas.image - mean) * gain + mean + bias
    return _in_range(weight * changed + (1 - weight) * canvas.image)


def _crack(canvas: Canvas) -> Image:
    """A thin line that wanders and forks, darker (or brighter) than what it crosses."""
    rng, drawn = canvas.rng, np.zeros(canvas.shape, np.float32)
    start, heading = canvas.point(), rng.uniform(0, 2 * math.pi)
    length = canvas.size() * rng.uniform(1.5, 4.0)
    for branch in range(1 + int(rng.integers(0, 3))):
        points = _walk(rng, start, heading, length / (1 + branch))
        # The line fades in and out along its way.
        for index, (a, b) in enumerate(itertools.pairwise(points)):
            depth = float(0.4 + 0.6 * abs(math.sin(0.35 * index + branch)))
            cv2.line(drawn, a, b, depth, thickness=1 + int(rng.random() < 0.4))
        start = points[len(points) // 2][::-1]
        heading += rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.2)
    weight = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.4, 0.9))[..., None]
    strength = rng.uniform(0.25, 0.9) * (1 if rng.random() < 0.8 else -1)
    return _in_range(canvas.image * (1 - strength * weight))


def _walk(
    rng: np.random.Generator, start: tuple[int, int], heading: float, length: float
) -> list[tuple[int, int]]:
    """Points (x, y) three pixels apart."""
    steps = max(2, int(length / 3))
    headings = heading + np.cumsum(rng.normal(0, 0.3, steps))
    xs, ys = start[1] + np.cumsum(3 * np.cos(headings)), start[0] + np.cumsum(3 * np.sin(headings))
    return [(start[1], start[0]), *((round(x), round(y)) for x, y in zip(xs, ys, strict=True))]


def _shade(canvas: Canvas) -> Image:
    """Darker or brighter over a wide area, without an outline: uneven grinding, stains, poor light."""
    rng = canvas.rng
    height, width = (canvas.size() * rng.uniform(1.5, 4.0) for _ in range(2))
    shape = _irregular_shape(canvas, canvas.point(), height, width).astype(np.float32)
    weight = cv2.GaussianBlur(shape, (0, 0), max(1.0, rng.uniform(0.05, 0.25) * min(height, width)))
    gain = rng.uniform(1.2, 1.7) if rng.random() < 0.5 else rng.uniform(0.45, 0.85)
    return _in_range(canvas.image * (1 + (gain - 1) * weight[..., None]))


def _texture(canvas: Canvas) -> Image:
    """Another grain under the same light: the part's own texture turned and scaled, or noise."""
    rng, (height, width) = canvas.rng, canvas.shape
    shape = _irregular_shape(canvas, canvas.point(), 2 * canvas.size(), 2 * canvas.size())
    own = canvas.image - _light(canvas.image)
    if rng.random() < 0.6:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(30, 150), rng.uniform(0.7, 2.0))
        turned = cv2.warpAffine(own, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        grain = turned.reshape(own.shape) * np.float32(rng.uniform(1.0, 3.0))
    else:
        white = rng.normal(0, 1, own.shape).astype(np.float32)
        noise = cv2.GaussianBlur(white, (0, 0), rng.uniform(0.5, 3.0), sigmaY=rng.uniform(0.5, 3.0))
        strength = rng.uniform(1.5, 5.0) * max(float(own.std()), 0.01)
        grain = noise.reshape(own.shape) * np.float32(strength / max(float(noise.std()), 1e-6))
    return _blend(canvas, shape, _light(canvas.image) + grain)


def _seam(canvas: Canvas) -> Image:
    """A straight crack of a pixel or two, mostly along the grain: rolling and grinding open them."""
    rng, drawn = canvas.rng, np.zeros(canvas.shape, np.float32)
    along = _grain(canvas) if rng.random() < 0.8 else _direction(rng.uniform(0, math.pi))
    length = canvas.size() * rng.uniform(1.5, 4.0)
    steps = np.linspace(-length / 2, length / 2, max(3, int(length / 4)))
    aside = rng.normal(0, 0.05) * steps + rng.normal(0, 0.06) * np.square(steps) / length
    aside += np.cumsum(rng.normal(0, 0.15, steps.size))
    points = np.array(canvas.point()) + steps[:, None] * along + aside[:, None] * _across(along)
    depths = (1 + np.cumsum(rng.normal(0, 0.15, steps.size))).clip(0.4, 1)  # It fades in and out on its way.
    width = 1 + int(rng.random() < 0.4)
    for depth, (a, b) in zip(depths, itertools.pairwise(_sixteenths(points)), strict=False):
        cv2.line(drawn, a, b, float(depth), width, shift=4)
    weight = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.4, 0.9))[..., None]
    strength = rng.uniform(0.25, 0.9) * (1 if rng.random() < 0.8 else -1)
    return _in_range(canvas.image * (1 - strength * weight))


def _sixteenths(points: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Points (y, x) as OpenCV's (x, y) in sixteenths of a pixel: a segment leans by less than one."""
    return [(round(16 * x), round(16 * y)) for y, x in points]


def _uneven(canvas: Canvas) -> Image:
    """Ground, brushed or coated more or less than the rest: beyond a line across the grain, or in a spot.

    The light changes, the grain is weaker or stronger, and new streaks may run along it.
    """
    rng = canvas.rng
    along = _grain(canvas)
    where = _beyond_a_line(canvas, along) if rng.random() < 0.7 else _spot(canvas)
    light = _light(canvas.image)
    own = canvas.image - light
    gain = rng.uniform(0, 0.6) if rng.random() < 0.4 else rng.uniform(1.0, 2.5)
    streaks = rng.choice([0, rng.uniform(0.3, 2.5)]) * max(float(own.std()), 0.01) * _streaks(canvas, along)
    shift = rng.choice([-1, 1]) * rng.uniform(0.08, 0.35)
    return _blend(canvas, where, light * np.float32(1 + shift) + own * np.float32(gain) + streaks)


def _beyond_a_line(canvas: Canvas, along: NDArray[np.float64]) -> Mask:
    """From a side of the image to a line across the grain; sometimes no wider than a part of that side."""
    rng = canvas.rng
    lean = rng.normal(0, 0.08)
    away = (along + lean * _across(along)) * rng.choice([-1, 1])
    far, beside = _coordinates(canvas, away), _coordinates(canvas, _across(away))
    wave = rng.normal(0, 2) * np.sin(beside / rng.uniform(10, 60) + rng.uniform(0, 2 * math.pi))
    # The whole image would be a brighter good one.
    depth = min(canvas.config.max_size * rng.uniform(0.3, 2.5), 0.7 * float(np.ptp(far)))
    where = far + wave > far.max() - depth
    if rng.random() < 0.3:
        width = float(np.ptp(beside)) * rng.uniform(0.3, 0.9)
        start = rng.uniform(beside.min(), beside.max() - width)
        where &= (beside > start) & (beside < start + width)
    return np.asarray(where)


def _spot(canvas: Canvas) -> Mask:
    height, width = (canvas.size() * canvas.rng.uniform(1.0, 3.0) for _ in range(2))
    return _irregular_shape(canvas, canvas.point(), height, width)


def _streaks(canvas: Canvas, along: NDArray[np.float64]) -> Image:
    """Stripes along the grain, (H, W, 1), of mean 0 and standard deviation 1."""
    beside = _coordinates(canvas, _across(along))
    white = canvas.rng.normal(0, 1, (1, math.ceil(np.ptp(beside)) + 2)).astype(np.float32)
    profile = cv2.GaussianBlur(white, (0, 0), canvas.rng.uniform(0.4, 3.0))[0]
    profile = (profile - profile.mean()) / max(float(profile.std()), 1e-6)
    stripes = np.interp(beside - beside.min(), np.arange(profile.size), profile)
    return np.asarray(stripes[..., None], np.float32)


def _grain(canvas: Canvas) -> NDArray[np.float64]:
    """Unit vector (y, x) along which the image changes least: the structure tensor's lesser eigenvector."""
    grey = canvas.image.mean(axis=2)
    dy, dx = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((0, 1), (1, 0)))
    crossed = float((dy * dx).mean())
    tensor = np.array([[float((dy * dy).mean()), crossed], [crossed, float((dx * dx).mean())]])
    return np.asarray(np.linalg.eigh(tensor)[1][:, 0])


def _direction(angle: float) -> NDArray[np.float64]:
    return np.array([math.sin(angle), math.cos(angle)])


def _across(along: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit vector (y, x) turned by a right angle."""
    return np.array([-along[1], along[0]])


def _coordinates(canvas: Canvas, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each pixel lies in a direction (y, x), (H, W)."""
    height, width = canvas.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return np.asarray(rows * direction[0] + columns * direction[1])


def _missing(canvas: Canvas) -> Image:
    """A piece broken out of an edge: what lies behind the part shows, or a bright fracture."""
    shape = _irregular_shape(canvas, _point_on_edge(canvas), 2 * canvas.size(), 2 * canvas.size())
    share = canvas.rng.uniform(0, 5) if canvas.rng.random() < 0.7 else canvas.rng.uniform(95, 100)
    behind = np.percentile(canvas.image, share, axis=(0, 1)).astype(np.float32)
    grain = canvas.rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return _blend(canvas, shape, behind + grain)


def _bridge(canvas: Canvas) -> Image:
    """A strip from an edge across to the next one: a short between conductors, an open through one.

    Where no edge lies within the largest defect, the strip ends on its way: a spur, or a notch.
    """
    rng, size = canvas.rng, canvas.size()
    grey = cv2.GaussianBlur(canvas.image.mean(axis=2), (0, 0), 1.5)
    for _ in range(BRIDGE_TRIES):
        start = np.array(_point_on_edge(canvas), np.float64)
        across = _uphill(grey, start, rng) * rng.choice([-1.0, 1.0])
        way = _way_to_next_edge(grey, start, across, canvas.config.max_size)
        if way is not None:
            break
    reach = size if way is None else way + BESIDE
    shape = _strip(canvas, start - BESIDE * across, across, reach + BESIDE, size * rng.uniform(0.4, 1.0))
    y, x = _pixel(grey, start - BESIDE * across)
    # Nothing of what lies beneath shows through: beside an edge that would part the strip from what it joins.
    grain = rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return _blend(canvas, shape, canvas.image[y, x] + grain, rng.uniform(0.8, 1.0))


def _uphill(grey: Image, point: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit vector (y, x) along the gradient; any where there is none."""
    ahead = 2 * np.eye(2)  # Further than the stairs of a slanting edge.
    rise = np.array(
        [grey[_pixel(grey, point + a)] - grey[_pixel(grey, point - a)] for a in ahead], np.float64
    )
    length = float(np.hypot(*rise))
    if length < 1e-6:
        return _direction(rng.uniform(0, 2 * math.pi))
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
    beside = _across(along)
    lean = rng.normal(0, 0.25) * steps + rng.normal(0, 0.05 * width, steps.size)
    half = width / 2 * (1 + rng.normal(0, 0.15, steps.size)).clip(0.4)
    middle = start + steps[:, None] * along + lean[:, None] * beside
    outline = np.concatenate([middle + half[:, None] * beside, (middle - half[:, None] * beside)[::-1]])
    return _filled(canvas, outline[:, ::-1])


DRAW = {
    "blob": _blob,
    "edge-bite": _edge_bite,
    "scratch": _scratch,
    "cut-paste": _cut_paste,
    "blur": _blur,
    "contrast": _contrast,
    "crack": _crack,
    "shade": _shade,
    "texture": _texture,
    "missing": _missing,
    "bridge": _bridge,
    "seam": _seam,
    "uneven": _uneven,
}


def _point_on_edge(canvas: Canvas) -> tuple[int, int]:
    """A random pixel of high gradient; any pixel of an image that has no edges."""
    grey = canvas.image.mean(axis=2)
    steepness = np.zeros_like(grey)
    steepness[:, 1:] += np.abs(np.diff(grey, axis=1))
    steepness[1:] += np.abs(np.diff(grey, axis=0))
    edges = np.flatnonzero(steepness > max(0.15, 0.5 * float(steepness.max())))
    if edges.size == 0:
        return canvas.point()
    y, x = divmod(int(edges[canvas.rng.integers(edges.size)]), canvas.shape[1])
    return y, x


def _irregular_shape(canvas: Canvas, centre: tuple[int, int], height: float, width: float) -> Mask:
    """A filled blob of about height x width pixels with a rough outline, rotated at random."""
    rng = canvas.rng
    n = 24
    angles = np.linspace(0, 2 * math.pi, n, endpoint=False)
    # A few low harmonics give the form, a little noise the roughness that real etching leaves.
    radius = 1 + sum(
        rng.normal(0, 0.22 / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi)) for k in range(2, 6)
    )
    radius = np.clip(radius + rng.normal(0, 0.06, n), 0.25, 2.0)
    ys, xs = radius * np.sin(angles) * height / 2, radius * np.cos(angles) * width / 2
    turn = rng.uniform(0, math.pi)
    rotated_x = centre[1] + xs * math.cos(turn) - ys * math.sin(turn)
    rotated_y = centre[0] + xs * math.sin(turn) + ys * math.cos(turn)
    return _filled(canvas, np.stack([rotated_x, rotated_y], axis=1))


def _filled(canvas: Canvas, outline: NDArray[np.float64]) -> Mask:
    """The inside of an outline of points (x, y), (N, 2)."""
    drawn = np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(drawn, [outline.round().astype(np.int32)], 255)
    return drawn > 0


def _some_colour(canvas: Canvas) -> Image:
    """A colour from elsewhere in the image, or any colour: foreign material or missing material."""
    rng = canvas.rng
    if rng.random() < 0.6:
        y, x = canvas.point()
        return np.asarray(canvas.image[y, x])
    colour: Image = np.asarray(rng.uniform(0, 1, canvas.image.shape[2]), np.float32)
    return colour if rng.random() < 0.5 else np.full_like(colour, colour[0])


def _fill(canvas: Canvas, shape: Mask, colour: Image) -> Image:
    """The shape in a colour; half of the time the grain of what it covers shows through."""
    rng = canvas.rng
    if rng.random() < 0.5:
        grain = canvas.image - _light(canvas.image)
    else:
        grain = rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return _blend(canvas, shape, colour + grain, rng.uniform(0.6, 1.0))


def _blend(canvas: Canvas, shape: Mask, inside: Image, opacity: float = 1.0) -> Image:
    weight = _soft(canvas, shape)[..., None] * np.float32(opacity)
    return _in_range(weight * inside + (1 - weight) * canvas.image)


def _light(image: Image) -> Image:
    """The image without its grain."""
    return cv2.GaussianBlur(image, (0, 0), 4.0).reshape(image.shape).astype(np.float32)


def _in_range(image: NDArray[Any]) -> Image:
    return np.asarray(image.clip(0, 1), np.float32)


def _soft(canvas: Canvas, shape: Mask) -> Image:
    """The shape as opacity: hard, or with the slight blur of a lens."""
    hard = shape.astype(np.float32)
    if canvas.rng.random() < 0.3:
        return hard
    return np.asarray(cv2.GaussianBlur(hard, (0, 0), canvas.rng.uniform(0.4, 1.0)), np.float32)
