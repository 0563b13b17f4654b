"""The variation model: every pixel has its mean and standard deviation over good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import MapStatistics, fit_map_statistics
from anogan.config import Config
from anogan.errors import DataError
from anogan.images.resize import to_network
from anogan.scoring.baselines.scorer import FloatMap, Pixels


@dataclass(frozen=True)
class PixelStatistics:
    """|x - mean| / std per pixel and channel.

    Good where every part lies alike; where the pictures differ it shows how far that alone goes.
    """

    channels: tuple[MapStatistics, ...]

    def anomaly_map(self, x: FloatMap) -> FloatMap:
        """Mean distance over channels in standard deviations, (h, w); x is (C, h, w) in [-1, 1]."""
        distances = [np.abs(s.normalise(channel)) for s, channel in zip(self.channels, x, strict=True)]
        return np.asarray(np.mean(distances, axis=0), np.float32)


def fit_pixel_statistics(images: Sequence[Pixels], config: Config) -> PixelStatistics:
    """Statistics of good images, the spread shrunk as for maps by `calibration.prior_images`.

    Raises:
        DataError: The images differ in size.
    """
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(
            f"Pixel statistics need images of one size, and these have {len(sizes)}; set images.size, or "
            "images.on_mixed_sizes: resize."
        )
    prepared = [to_network(image, config.images.bit_depth) for image in images]

    def channel(index: int) -> MapStatistics:
        maps: list[NDArray[np.float32]] = [image[index] for image in prepared]
        return fit_map_statistics(maps, "per-pixel", config.calibration.prior_images)

    return PixelStatistics(tuple(channel(index) for index in range(config.images.channels)))
