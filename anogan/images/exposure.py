"""One brightness for all photographs, written once as the arithmetic that the ONNX graph repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.config import ImagesConfig

LEVEL = 0.35  # Mean, as a share of the value range: what is nearly three times as bright still fits.
DARKEST = 0.01  # A mean below it counts as this: a covered lens must not become a picture of its noise.


def exposure_gain(image: NDArray[Any], config: ImagesConfig) -> np.float32:
    """What to multiply an image with, so that it is as bright as all others.

    Args:
        image: (H, W, C) in [0, 2^bit_depth - 1], as it came, before resizing.
        config: `exposure` and `bit_depth`.

    Returns:
        1 where the config keeps each photograph's own exposure; at most `LEVEL` / `DARKEST`.
    """
    if config.exposure == "keep":
        return np.float32(1)
    top = np.float32(2**config.bit_depth - 1)
    # Row by row: a sum over millions of pixels at once rounds otherwise in every runtime.
    mean = image.mean(axis=(1, 2), dtype=np.float32).mean(dtype=np.float32) / top
    return np.float32(np.float32(LEVEL) / max(mean, np.float32(DARKEST)))


def exposed(image: NDArray[Any], gain: np.float32, bit_depth: int) -> NDArray[Any]:
    """The image at another exposure.

    Args:
        image: (H, W, C) in [0, 2^bit_depth - 1].
        gain: See `exposure_gain`.
        bit_depth: 8 or 16.

    Returns:
        float32, cut off at the top of the range and not rounded; the image itself where the gain is 1.
    """
    if gain == 1:
        return image
    top = np.float32(2**bit_depth - 1)
    return np.asarray(np.minimum(image.astype(np.float32) * gain, top), np.float32)
