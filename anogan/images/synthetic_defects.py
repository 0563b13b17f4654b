"""Defects drawn on good images, for training encoder and head and for label-free validation.

Never a substitute for a test set: they say whether a change of the image is seen, not whether the line's
own defects are. In the manner of CutPaste (Li et al. 2021, arXiv:2104.04015) and DRAEM (Zavrtanik et al.
2021, arXiv:2108.07610), with shapes that follow edges, since conductors and contours break there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import SyntheticDefectsConfig

VISIBLE = 0.06  # Share of the value range by which a pixel must change to count as defective.
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Canvas:
    image: Image  # (H, W, C) in [0, 1]
    rng: np.random.Generator
    config: SyntheticDefectsConfig

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def size(self) -> float:
        """A defect diameter, log-uniform: small ones are as important as large ones."""
        low, high = math.log(self.config.min_size), math.log(self.config.max_size)
        return float(math.exp(self.rng.uniform(low, high)))

    def point(self) -> tuple[int, int]:
        height, width = self.shape
        return int(self.rng.integers(height)), int(self.rng.integers(width))


def draw_defects(
    image: NDArray[Any],
    config: SyntheticDefectsConfig,
    rng: np.random.Generator,
    levels: tuple[float, float] | None = None,
) -> tuple[NDArray[Any], Mask]:
    """A damaged copy of an image and where it was damaged.

    Args:
        image: (H, W, C) uint8 or uint16, a good part.
        config: Kinds and sizes.
        rng: Decides everything random.
        levels: The two values, in [0, 1], of a binarised data set (see `two_levels`).

    Returns:
        The damaged image, same shape and dtype, and the mask (H, W) of its visible defects. The mask is
        empty in the rare case that a few tries changed nothing visible.
    """
    top = float(np.iinfo(image.dtype).max)
    clean = image.astype(np.float32) / top
    for _ in range(4):
        damaged = clean
        for _ in range(int(rng.integers(1, config.max_per_tile + 1))):
            kind = config.kinds[int(rng.integers(len(config.kinds)))]
            damaged = _DRAW[kind](_Canvas(damaged, rng, config))
        if levels is not None:
            # A grey pixel in a binarised image would give the defect away by its value, not its shape.
            damaged = np.where(damaged > sum(levels) / 2, levels[1], levels[0]).astype(np.float32)
        mask = _visible(clean, damaged, config.min_size)
        if mask.any():
            break
    # What is too small to see goes back to clean: a label "good" on a changed pixel would teach noise.
    damaged = np.where(mask[..., None], damaged, clean)
    return np.clip(np.rint(damaged * top), 0, top).astype(image.dtype), mask


def two_levels(images: Sequence[NDArray[Any]]) -> tuple[float, float] | None:
    """The dark and the bright value, in [0, 1], if the images are binarised; else None."""
    top = float(np.iinfo(images[0].dtype).max)
    pixels = np.concatenate([image.reshape(-1)[::17] for image in images]).astype(np.float32) / top
    low, high = float(pixels.min()), float(pixels.max())
    near = np.minimum(np.abs(pixels - low), np.abs(pixels - high)) < 0.02
    return (low, high) if high - low > 0.5 and near.mean() > 0.98 else None


def _visible(clean: Image, damaged: Image, min_size: float) -> Mask:
    """Changed regions, holes closed, without specks under half the smallest defect."""
    changed = (np.abs(damaged - clean).max(axis=2) > VISIBLE).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(2.0, (min_size / 2) ** 2 * 2)
    large[0] = False
    return large[labels] if count > 1 else np.zeros(changed.shape, np.bool_)


def _blob(canvas: _Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), canvas.size(), canvas.size())
    return _fill(canvas, shape, _some_colour(canvas))


def _edge_bite(canvas: _Canvas) -> Image:
    """A piece of one side of an edge laid over the other: bites, spurs, opens, shorts."""
    centre = _point_on_edge(canvas)
    size = canvas.size()
    height, width = canvas.shape
    angle, reach = canvas.rng.uniform(0, 2 * math.pi), canvas.rng.uniform(1, 4 + size / 2)
    y = int(np.clip(centre[0] + reach * math.sin(angle), 0, height - 1))
    x = int(np.clip(centre[1] + reach * math.cos(angle), 0, width - 1))
    stretch = canvas.rng.uniform(0.4, 1.6)
    return _fill(canvas, _irregular_shape(canvas, centre, size, size * stretch), canvas.image[y, x])


def _scratch(canvas: _Canvas) -> Image:
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


def _cut_paste(canvas: _Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), 1.5 * canvas.size(), 1.5 * canvas.size())
    height, width = canvas.shape
    shift = (int(canvas.rng.integers(4, height - 4)), int(canvas.rng.integers(4, width - 4)))
    other = np.roll(canvas.image, shift, axis=(0, 1))
    if canvas.rng.random() < 0.5:
        other = other[:, ::-1]
    return np.where(_soft(canvas, shape)[..., None] > 0.5, other, canvas.image)


def _blur(canvas: _Canvas) -> Image:
    shape = _irregular_shape(canvas, _point_on_edge(canvas), 2 * canvas.size(), 2 * canvas.size())
    sigma = canvas.rng.uniform(1.0, 3.0)
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), sigma).reshape(canvas.image.shape)
    weight = _soft(canvas, shape)[..., None]
    return weight * blurred + (1 - weight) * canvas.image


def _contrast(canvas: _Canvas) -> Image:
    shape = _irregular_shape(canvas, canvas.point(), 2 * canvas.size(), 2 * canvas.size())
    gain, sign = canvas.rng.uniform(0.5, 1.5), canvas.rng.choice([-1.0, 1.0])
    bias = sign * canvas.rng.uniform(0.08, 0.3)
    weight = _soft(canvas, shape)[..., None]
    mean = canvas.image.mean()
    changed = (canvas.image - mean) * gain + mean + bias
    return _in_range(weight * changed + (1 - weight) * canvas.image)


_DRAW = {
    "blob": _blob,
    "edge-bite": _edge_bite,
    "scratch": _scratch,
    "cut-paste": _cut_paste,
    "blur": _blur,
    "contrast": _contrast,
}


def _point_on_edge(canvas: _Canvas) -> tuple[int, int]:
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


def _irregular_shape(canvas: _Canvas, centre: tuple[int, int], height: float, width: float) -> Mask:
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
    drawn = np.zeros(canvas.shape, np.uint8)
    cv2.fillPoly(drawn, [np.stack([rotated_x, rotated_y], axis=1).round().astype(np.int32)], 255)
    return drawn > 0


def _some_colour(canvas: _Canvas) -> Image:
    """A colour from elsewhere in the image, or any colour: foreign material or missing material."""
    rng = canvas.rng
    if rng.random() < 0.6:
        y, x = canvas.point()
        return np.asarray(canvas.image[y, x])
    colour: Image = np.asarray(rng.uniform(0, 1, canvas.image.shape[2]), np.float32)
    return colour if rng.random() < 0.5 else np.full_like(colour, colour[0])


def _fill(canvas: _Canvas, shape: Mask, colour: Image) -> Image:
    weight = _soft(canvas, shape)[..., None] * np.float32(canvas.rng.uniform(0.6, 1.0))
    grain = canvas.rng.normal(0, 0.02, canvas.image.shape).astype(np.float32)
    return _in_range(weight * (colour + grain) + (1 - weight) * canvas.image)


def _in_range(image: NDArray[Any]) -> Image:
    return np.asarray(image.clip(0, 1), np.float32)


def _soft(canvas: _Canvas, shape: Mask) -> Image:
    """The shape as opacity: hard, or with the slight blur of a lens."""
    hard = shape.astype(np.float32)
    if canvas.rng.random() < 0.3:
        return hard
    return np.asarray(cv2.GaussianBlur(hard, (0, 0), canvas.rng.uniform(0.4, 1.0)), np.float32)
