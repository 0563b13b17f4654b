"""What a scorer finds about one image, and the settings by which that becomes one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import LIMITED, Limits, pool, within
from anogan.config import ScoreConfig
from anogan.images.registration import Alignment
from anogan.images.resize import resize
from anogan.inspection import Verdict, decide

FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """What the search found about one image, before calibration.

    Attributes:
        parts: Kind of evidence -> smoothed map (h, w) float32 at network resolution, in the reference's pose;
            `head@0.5` at half of it, see `part_name`.
        reconstruction: (C, h, w) float32 in [-1, 1], G(z*) stitched, in the image's own pose.
        residual_score: R(x) of the worst tile.
        discrimination_score: D(x) of the worst tile.
        anomaly_score: A(x) of the worst tile.
        steps_used: Of the slowest tile.
        input_size: (H, W) of the image that came in.
        alignment: How the image was registered, or None where the model does not.
        brightness: Mean of the image as it came, in [0, 1].
        ms: Its share of the wall time, milliseconds.
    """

    parts: Mapping[str, FloatMap]
    reconstruction: FloatMap
    residual_score: float
    discrimination_score: float
    anomaly_score: float
    steps_used: int
    input_size: tuple[int, int]
    brightness: float
    ms: float
    alignment: Alignment | None = None

    def looked_at(self, anomaly_map: FloatMap) -> FloatMap:
        """The map (h, w) without what registration had to invent: there is nothing to be found."""
        if self.alignment is None:
            return anomaly_map
        seen = self.alignment.seen((anomaly_map.shape[0], anomaly_map.shape[1]))
        return np.where(seen, anomaly_map, np.float32(0))

    def as_photographed(self, anomaly_map: FloatMap) -> FloatMap:
        """The map (H, W) in the pose and at the size of the image; what the reference lacks is ordinary."""
        if self.alignment is not None:
            anomaly_map = self.alignment.from_reference(anomaly_map, outside=0.0)
        if anomaly_map.shape != self.input_size:
            anomaly_map = resize(anomaly_map[..., None], self.input_size)[..., 0]
        return anomaly_map

    def verdict(
        self, score: float, threshold: float, review_threshold: float, limits: Limits | None = None
    ) -> Verdict:
        """What the score means.

        What could not be laid in place, or is unlike all good images, was not inspected as promised.
        """
        found = decide(score, threshold, review_threshold)
        promised = self.registered is not False and self.in_distribution(limits or {}) is not False
        return found if promised or found is not Verdict.PASS else Verdict.REVIEW

    def in_distribution(self, limits: Limits) -> bool | None:
        """Whether brightness and the search's scores lie within their limits; None without any."""
        return within(limits, {name: getattr(self, name) for name in LIMITED})

    @property
    def registered(self) -> bool | None:
        """Whether the part could be laid over the reference; None where none is."""
        return None if self.alignment is None else self.alignment.converged


def score_weights(config: ScoreConfig) -> dict[str, float]:
    """Kind of evidence -> its weight in the combined map."""
    return {
        "residual": config.residual_weight,
        "discrimination": config.discrimination_weight,
        "head": config.head_weight,
        "perceptual": config.perceptual_weight,
    }


def image_score(anomaly_map: FloatMap, config: ScoreConfig) -> float:
    """The image's score from its calibrated map."""
    return pool(anomaly_map, config.pooling, config.top_share, config.border)
