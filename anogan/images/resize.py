"""Resizing and normalising, written once as the arithmetic that the ONNX graph repeats.

Resizing is two matrices times the image, so every runtime that multiplies matrices gives the same
pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.decode import Pixels


def resize_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """The matrix that resamples one axis: bilinear, antialiased when shrinking.

    A triangle filter on half-pixel centres, stretched by the scale when shrinking, each row
    normalised: `torch.nn.functional.interpolate(mode="bilinear", antialias=True)` and ONNX `Resize`
    with `antialias=1, exclude_outside=1`.

    Args:
        n_in: Pixels along the axis, at least 1.
        n_out: Pixels wanted, at least 1.

    Returns:
        (n_out, n_in); rows sum to 1; the identity when the sizes agree.

    Raises:
        ShapeError: A size is below 1.
    """
    if n_in < 1 or n_out < 1:
        raise ShapeError(f"cannot resize {n_in} to {n_out} pixels; both must be at least 1.")
    scale = n_in / n_out
    centres = scale * (np.arange(n_out) + 0.5)
    distance = np.abs(np.arange(n_in) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """An image at another size.

    Args:
        image: (H, W, C), any real dtype.
        size: (height, width) in pixels.

    Returns:
        (height, width, C) float32 in the input's range, not rounded; equal to the input when the
        sizes agree.

    Raises:
        ShapeError: Not three axes, or a size below 1.
    """
    if image.ndim != 3:
        raise ShapeError(f"cannot resize an array of shape {image.shape}; expected (H, W, C).")
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    height, width, channels = pixels.shape
    if height != size[0]:
        rows = resize_weights(height, size[0]) @ pixels.reshape(height, width * channels)
        pixels = rows.reshape(size[0], width, channels)
    if width != size[1]:
        pixels = resize_weights(width, size[1]) @ pixels  # Broadcast over rows.
    return pixels


def lost_below(size: tuple[int, int], resized: tuple[int, int]) -> int | None:
    """The width of a defect that resizing leaves 2 pixels of, where it takes away enough to be told.

    Args:
        size: (height, width) of a photograph.
        resized: The same of what the network sees.

    Returns:
        Pixels of the photograph, rounded up; None where it is at most twice as large.
    """
    factor = max(size[0] / resized[0], size[1] / resized[1])
    return math.ceil(2 * factor) if factor > 2 else None


def to_network(image: NDArray[Any], bit_depth: int) -> NDArray[np.float32]:
    """Pixels as a network takes them.

    Args:
        image: (H, W, C) in [0, 2^bit_depth - 1]; float after resizing, integer otherwise.
        bit_depth: 8 or 16.

    Returns:
        (C, H, W) float32 in [-1, 1].

    Raises:
        ShapeError: Not three axes.
    """
    if image.ndim != 3:
        raise ShapeError(f"cannot normalise an array of shape {image.shape}; expected (H, W, C).")
    scaled = image.astype(np.float32) / np.float32(2**bit_depth - 1) * np.float32(2) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def from_network(array: NDArray[Any], bit_depth: int) -> Pixels:
    """The inverse of `to_network`, clipped and rounded to whole pixel values.

    Args:
        array: (C, H, W), nominally in [-1, 1].
        bit_depth: 8 or 16.

    Returns:
        (H, W, C), uint8 for 8 bits and uint16 for 16.

    Raises:
        ShapeError: Not three axes.
    """
    if array.ndim != 3:
        raise ShapeError(f"cannot make an image of an array of shape {array.shape}; expected (C, H, W).")
    top = 2**bit_depth - 1
    values = np.rint((array.astype(np.float64) + 1) / 2 * top)
    pixels = np.clip(values, 0, top).transpose(1, 2, 0)
    if bit_depth == 8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    return np.ascontiguousarray(pixels, dtype=np.uint16)
