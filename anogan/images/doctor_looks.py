"""What the doctor keeps of each photograph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from anogan.config import ImagesConfig
from anogan.errors import ImageError
from anogan.images.alike import Floats
from anogan.images.decode import ImageInfo, Pixels, as_model_image, probe, read_as_stored
from anogan.images.exposure import white_share
from anogan.images.split import file_digest

_THUMBNAIL = 32
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_BINS = 16
_BLANK = 1 / 255  # Standard deviation of grey levels in [0, 1]; the sensor alone brings about this.


@dataclass(frozen=True)
class Look:
    """What is kept of one image.

    Attributes:
        part: `good` of the training images, `test/<kind>` of the others.
        thumbnail: (32, 32) grey in [0, 1].
        histogram: (16,) shares of grey levels.
        blank: All pixels are about equal.
        detail: log of the Laplacian's variance over the grey levels' variance; falls with blur.
        highest: Greatest value of any pixel.
        bright: Share of pixels at the upper end of the range.
        dark: Share of pixels at the lower end.
        white: Share of pixels that are white at the exposure that the config asks for; 0 without a config.
        fits: It has the channels and the bit depth that the config names; None without a config.
    """

    path: Path
    part: str
    info: ImageInfo
    digest: str
    thumbnail: Floats = field(repr=False)
    histogram: Floats = field(repr=False)
    blank: bool
    detail: float
    highest: int
    bright: float
    dark: float
    white: float
    fits: bool | None


def take_look(path: Path, part: str, config: ImagesConfig | None) -> Look:
    """Reads one image.

    Args:
        path: The file.
        part: `good` of the training images, `test/<kind>` of the others.
        config: The channels and bit depth that are wanted; None for any.

    Raises:
        ImageError: It cannot be read.
    """
    info = probe(path)
    pixels = read_as_stored(path)
    fits = _fits(pixels, config)
    top = 2**info.bit_depth - 1
    # Luma, which JPEG keeps at full resolution: re-encoding changes it least.
    weights = _LUMA if info.channels == 3 else np.ones(1, np.float32)
    grey = (pixels @ weights) / np.float32(top)
    thumbnail = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    counts, _ = np.histogram(grey, bins=_BINS, range=(0, 1))
    return Look(
        path,
        part,
        info,
        file_digest(path),
        np.asarray(thumbnail, np.float32),
        (counts / grey.size).astype(np.float32),
        float(grey.std()) < _BLANK,
        math.log((float(cv2.Laplacian(grey, cv2.CV_32F).var()) + 1e-9) / (float(grey.var()) + 1e-6)),
        int(pixels.max()),
        float((pixels >= 0.99 * top).all(axis=2).mean()),
        float((pixels <= 0.01 * top).all(axis=2).mean()),
        white_share(pixels, config) if config is not None and fits else 0.0,
        fits,
    )


def _fits(pixels: Pixels, config: ImagesConfig | None) -> bool | None:
    if config is None:
        return None
    try:
        as_model_image(pixels, channels=config.channels, bit_depth=config.bit_depth, name="")
    except ImageError:
        return False
    return True
