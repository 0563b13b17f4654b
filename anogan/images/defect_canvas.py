"""What synthetic defects are made of: an image to damage, shapes, and ways to fill them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import SyntheticDefectsConfig

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


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


def at_angle(angle: float) -> NDArray[np.float64]:
    """Unit vector (y, x)."""
    return np.array([math.sin(angle), math.cos(angle)])


def crosswise(along: NDArray[np.float64]) -> NDArray[np.float64]:
    """A unit vector (y, x) turned by a right angle."""
    return np.array([-along[1], along[0]])


def point_on_edge(canvas: Canvas) -> tuple[int, int]:
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


def irregular_shape(canvas: Canvas, centre: tuple[int, int], height: float, width: float) -> Mask:
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
    return filled(canvas, np.stack([rotated_x, rotated_y], axis=1))


def filled(canvas: Canvas, outline: NDArray[np.float64]) -> Mask:
    """The inside of an outline of points (x, y), (N, 2)."""
    drawn = np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(drawn, [outline.round().astype(np.int32)], 255)
    return drawn > 0


def some_colour(canvas: Canvas) -> Image:
    """A colour from elsewhere in the image, or any colour: foreign material or missing material."""
    rng = canvas.rng
    if rng.random() < 0.6:
        y, x = canvas.point()
        return np.asarray(canvas.image[y, x])
    colour: Image = np.asarray(rng.uniform(0, 1, canvas.image.shape[2]), np.float32)
    return colour if rng.random() < 0.5 else np.full_like(colour, colour[0])


def fill(canvas: Canvas, shape: Mask, colour: Image) -> Image:
    """The shape in a colour; half of the time the grain of what it covers shows through."""
    rng = canvas.rng
    if rng.random() < 0.5:
        grain = canvas.image - light_of(canvas.image)
    else:
        grain = rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return blend(canvas, shape, colour + grain, rng.uniform(0.6, 1.0))


def blend(canvas: Canvas, shape: Mask, inside: Image, opacity: float = 1.0) -> Image:
    """The image with another one inside of the shape, (H, W, C) in [0, 1]."""
    weight = soft_edged(canvas, shape)[..., None] * np.float32(opacity)
    return in_range(weight * inside + (1 - weight) * canvas.image)


def light_of(image: Image) -> Image:
    """The image without its grain."""
    return cv2.GaussianBlur(image, (0, 0), 4.0).reshape(image.shape).astype(np.float32)


def in_range(image: NDArray[Any]) -> Image:
    """Cut to [0, 1]."""
    return np.asarray(image.clip(0, 1), np.float32)


def soft_edged(canvas: Canvas, shape: Mask) -> Image:
    """The shape as opacity: hard, or with the slight blur of a lens."""
    hard = shape.astype(np.float32)
    if canvas.rng.random() < 0.3:
        return hard
    return np.asarray(cv2.GaussianBlur(hard, (0, 0), canvas.rng.uniform(0.4, 1.0)), np.float32)
