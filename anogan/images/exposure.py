"""One brightness for all photographs, written once as the arithmetic that the ONNX graph repeats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.config import ImagesConfig
from anogan.images.resize import resize

LEVEL = 0.35  # Mean, as a share of the value range: what is nearly three times as bright still fits.
DARKEST = 0.01  # A mean below it counts as this: a covered lens must not become a picture of its noise.
_MOST_WHITE = 0.02  # Share of a good image; lamps on bare metal leave less.


def brightness(image: NDArray[Any], bit_depth: int) -> np.float32:
    """Mean of an image (H, W, C), as a share of the greatest value that `bit_depth` holds, in [0, 1]."""
    # Whole numbers: a sum of float32 rounds otherwise in every runtime, and beside other images of a batch.
    total = image.sum(dtype=np.int64)
    return np.float32(np.float32(np.float64(total) / image.size) / np.float32(2**bit_depth - 1))


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
    mean = brightness(image, config.bit_depth)
    return np.float32(np.float32(LEVEL) / max(mean, np.float32(DARKEST)))


def white_share(image: NDArray[Any], config: ImagesConfig) -> float:
    """Share of an image's pixels that are white at the exposure of the config; (H, W, C), as it came."""
    limit = (2**config.bit_depth - 1) / float(exposure_gain(image, config))
    return float((image >= limit).any(axis=2).mean())


def too_bright(shares: Iterable[float], config: ImagesConfig) -> str | None:
    """What to tell where equal exposure makes much of the good images white; None where it does not.

    Args:
        shares: `white_share` of each good image; not looked at where each keeps its own exposure.
        config: `exposure`.
    """
    if config.exposure == "keep":
        return None
    share = float(np.median(list(shares) or [0.0]))
    if share <= _MOST_WHITE:
        return None
    return (
        f"images.exposure: {config.exposure} makes {share:.0%} of a usual good image white, where no "
        "defect is seen: it is for parts that fill the picture. Leave it out, or crop a dark background away."
    )


def sized_and_exposed(
    image: NDArray[Any], size: tuple[int, int] | None, config: ImagesConfig
) -> tuple[NDArray[Any], np.float32]:
    """An image at another size, and at the exposure that it has as it came.

    Args:
        image: (H, W, C) in [0, 2^bit_depth - 1].
        size: (height, width) in pixels; None leaves it as it is.
        config: `exposure` and `bit_depth`.

    Returns:
        The image itself where nothing changes, else float32, and the gain.
    """
    gain = exposure_gain(image, config)
    sized = image if size is None or image.shape[:2] == size else resize(image, size)
    return exposed(sized, gain, config.bit_depth), gain


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
