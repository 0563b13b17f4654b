"""Synthetic defects of surfaces: they keep the light, and mostly the grain, of what they lie on."""

from __future__ import annotations

import itertools
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
    in_range,
    irregular_shape,
    light_of,
)


def crack(canvas: Canvas) -> Image:
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
    return in_range(canvas.image * (1 - strength * weight))


def _walk(
    rng: np.random.Generator, start: tuple[int, int], heading: float, length: float
) -> list[tuple[int, int]]:
    """Points (x, y) three pixels apart."""
    steps = max(2, int(length / 3))
    headings = heading + np.cumsum(rng.normal(0, 0.3, steps))
    xs, ys = start[1] + np.cumsum(3 * np.cos(headings)), start[0] + np.cumsum(3 * np.sin(headings))
    return [(start[1], start[0]), *((round(x), round(y)) for x, y in zip(xs, ys, strict=True))]


def shade(canvas: Canvas) -> Image:
    """Darker or brighter over a wide area, without an outline: uneven grinding, stains, poor light."""
    rng = canvas.rng
    height, width = (canvas.size() * rng.uniform(1.5, 4.0) for _ in range(2))
    shape = irregular_shape(canvas, canvas.point(), height, width).astype(np.float32)
    weight = cv2.GaussianBlur(shape, (0, 0), max(1.0, rng.uniform(0.05, 0.25) * min(height, width)))
    gain = rng.uniform(1.2, 1.7) if rng.random() < 0.5 else rng.uniform(0.45, 0.85)
    return in_range(canvas.image * (1 + (gain - 1) * weight[..., None]))


def texture(canvas: Canvas) -> Image:
    """Another grain under the same light: the part's own texture turned and scaled, or noise."""
    rng, (height, width) = canvas.rng, canvas.shape
    shape = irregular_shape(canvas, canvas.point(), 2 * canvas.size(), 2 * canvas.size())
    own = canvas.image - light_of(canvas.image)
    if rng.random() < 0.6:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(30, 150), rng.uniform(0.7, 2.0))
        turned = cv2.warpAffine(own, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
        grain = turned.reshape(own.shape) * np.float32(rng.uniform(1.0, 3.0))
    else:
        white = rng.normal(0, 1, own.shape).astype(np.float32)
        noise = cv2.GaussianBlur(white, (0, 0), rng.uniform(0.5, 3.0), sigmaY=rng.uniform(0.5, 3.0))
        strength = rng.uniform(1.5, 5.0) * max(float(own.std()), 0.01)
        grain = noise.reshape(own.shape) * np.float32(strength / max(float(noise.std()), 1e-6))
    return blend(canvas, shape, light_of(canvas.image) + grain)


def seam(canvas: Canvas) -> Image:
    """A straight crack of a pixel or two, mostly along the grain: rolling and grinding open them."""
    rng, drawn = canvas.rng, np.zeros(canvas.shape, np.float32)
    along = _grain(canvas) if rng.random() < 0.8 else at_angle(rng.uniform(0, math.pi))
    length = canvas.size() * rng.uniform(1.5, 4.0)
    steps = np.linspace(-length / 2, length / 2, max(3, int(length / 4)))
    aside = rng.normal(0, 0.05) * steps + rng.normal(0, 0.06) * np.square(steps) / length
    aside += np.cumsum(rng.normal(0, 0.15, steps.size))
    points = np.array(canvas.point()) + steps[:, None] * along + aside[:, None] * crosswise(along)
    depths = (1 + np.cumsum(rng.normal(0, 0.15, steps.size))).clip(0.4, 1)  # It fades in and out on its way.
    width = 1 + int(rng.random() < 0.4)
    for depth, (a, b) in zip(depths, itertools.pairwise(_sixteenths(points)), strict=False):
        cv2.line(drawn, a, b, float(depth), width, shift=4)
    weight = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.4, 0.9))[..., None]
    strength = rng.uniform(0.25, 0.9) * (1 if rng.random() < 0.8 else -1)
    return in_range(canvas.image * (1 - strength * weight))


def _sixteenths(points: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Points (y, x) as OpenCV's (x, y) in sixteenths of a pixel: a segment leans by less than one."""
    return [(round(16 * x), round(16 * y)) for y, x in points]


def uneven(canvas: Canvas) -> Image:
    """Ground, brushed or coated more or less than the rest: beyond a line across the grain, or in a spot.

    The light changes, the grain is weaker or stronger, and new streaks may run along it.
    """
    rng = canvas.rng
    along = _grain(canvas)
    where = _beyond_a_line(canvas, along) if rng.random() < 0.7 else _spot(canvas)
    light = light_of(canvas.image)
    own = canvas.image - light
    gain = rng.uniform(0, 0.6) if rng.random() < 0.4 else rng.uniform(1.0, 2.5)
    streaks = rng.choice([0, rng.uniform(0.3, 2.5)]) * max(float(own.std()), 0.01) * _streaks(canvas, along)
    shift = rng.choice([-1, 1]) * rng.uniform(0.08, 0.35)
    return blend(canvas, where, light * np.float32(1 + shift) + own * np.float32(gain) + streaks)


def _beyond_a_line(canvas: Canvas, along: NDArray[np.float64]) -> Mask:
    """From a side of the image to a line across the grain; sometimes no wider than a part of that side."""
    rng = canvas.rng
    lean = rng.normal(0, 0.08)
    away = (along + lean * crosswise(along)) * rng.choice([-1, 1])
    far, beside = _coordinates(canvas, away), _coordinates(canvas, crosswise(away))
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
    return irregular_shape(canvas, canvas.point(), height, width)


def _streaks(canvas: Canvas, along: NDArray[np.float64]) -> Image:
    """Stripes along the grain, (H, W, 1), of mean 0 and standard deviation 1."""
    beside = _coordinates(canvas, crosswise(along))
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


def _coordinates(canvas: Canvas, direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each pixel lies in a direction (y, x), (H, W)."""
    height, width = canvas.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return np.asarray(rows * direction[0] + columns * direction[1])
