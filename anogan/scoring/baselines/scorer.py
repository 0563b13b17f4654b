"""A baseline judged like a model: the same preparation, smoothing, calibration and threshold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import Calibration, combine, smooth, spread
from anogan.config import Config
from anogan.errors import CalibrationError, ImageError
from anogan.images.exposure import brightness, sized_and_exposed
from anogan.images.registration import Aligner, Alignment
from anogan.images.resize import to_network
from anogan.inspection import Inspection
from anogan.scoring.evidence import Evidence, image_score, score_weights

FloatMap = NDArray[np.float32]
Pixels = NDArray[Any]


class Baseline(Protocol):
    """A fitted way to an anomaly map."""

    def anomaly_map(self, x: FloatMap) -> FloatMap:
        """(C, h, w) float32 in [-1, 1] -> (h, w) float32; higher is more anomalous."""
        ...


class BaselineScorer:
    """Scores images by a baseline, with what recipes ask of any scorer.

    Its only evidence is the part `residual`: score weights have no say, smoothing, border and pooling do.
    """

    def __init__(
        self,
        baseline: Baseline,
        config: Config,
        image_size: tuple[int, int] | None,
        calibration: Calibration | None = None,
        *,
        aligner: Aligner | None = None,
    ) -> None:
        """Args as a model's: `image_size` is (height, width) at network resolution, None to keep each."""
        alone = {"residual_weight": 1.0, "discrimination_weight": 0.0, "head_weight": 0.0}
        self.config = config.model_copy(update={"score": config.score.model_copy(update=alone)})
        self.calibration = calibration
        self._baseline, self._image_size, self._aligner = baseline, image_size, aligner

    def with_calibration(self, calibration: Calibration) -> BaselineScorer:
        """The same baseline with a threshold."""
        return BaselineScorer(
            self._baseline, self.config, self._image_size, calibration, aligner=self._aligner
        )

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self._calibrated().estimate.threshold

    def evidence(
        self, images: Sequence[NDArray[np.generic]], variants: Sequence[str | None] | None = None
    ) -> list[Evidence]:
        """One smoothed map per image; images are (H, W, C) uint8 or uint16. No baseline knows variants.

        Raises:
            ImageError: An image has another size than those it was fitted on.
        """
        return [self._evidence(image) for image in images]

    def anomaly_map(self, evidence: Evidence) -> FloatMap:
        """(h, w) at network resolution, in standard deviations of good parts."""
        statistics = self._calibrated().statistics
        return evidence.looked_at(combine(evidence.parts, statistics, score_weights(self.config.score)))

    def judge(self, evidence: Evidence, image: NDArray[np.generic]) -> Inspection:
        """Score, verdict and map at the image's own size."""
        started = time.perf_counter()
        anomaly_map = self.anomaly_map(evidence)
        score = image_score(anomaly_map, self.config.score)
        anomaly_map = spread(anomaly_map, self.config.score.spread)
        review = min(self._calibrated().review_threshold, self.threshold)
        return Inspection(
            score=score,
            threshold=self.threshold,
            verdict=evidence.verdict(score, self.threshold, review),
            residual_score=evidence.residual_score,
            discrimination_score=evidence.discrimination_score,
            anomaly_score=evidence.anomaly_score,
            steps_used=evidence.steps_used,
            brightness=evidence.brightness,
            ms=evidence.ms + 1000 * (time.perf_counter() - started),
            anomaly_map=evidence.as_photographed(anomaly_map),
            reconstruction=image,
            registered=evidence.registered,
        )

    def _evidence(self, image: NDArray[np.generic]) -> Evidence:
        started = time.perf_counter()
        x, alignment = self._prepare(image)
        found = smooth(self._baseline.anomaly_map(x), self.config.score.smoothing_sigma)
        residual = float(found.mean())
        return Evidence(
            parts={"residual": found},
            reconstruction=x,
            residual_score=residual,
            discrimination_score=0.0,
            anomaly_score=residual,
            steps_used=0,
            input_size=(image.shape[0], image.shape[1]),
            ms=1000 * (time.perf_counter() - started),
            brightness=float(brightness(image, self.config.images.bit_depth)),
            alignment=alignment,
        )

    def _prepare(self, image: NDArray[np.generic]) -> tuple[FloatMap, Alignment | None]:
        wanted, images = self._image_size, self.config.images
        resized = images.size is not None or images.on_mixed_sizes == "resize"
        if wanted is not None and image.shape[:2] != wanted and not resized:
            raise ImageError(
                f"the image is {image.shape[1]}x{image.shape[0]} pixels; this baseline expects "
                f"{wanted[1]}x{wanted[0]}. Crop it alike, or set images.on_mixed_sizes: resize."
            )
        pixels, alignment = sized_and_exposed(image, wanted, images)[0], None
        if self._aligner is not None:
            pixels, alignment = self._aligner.align(pixels, 2.0**images.bit_depth - 1)
        return to_network(pixels, images.bit_depth), alignment

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise CalibrationError("This baseline has no threshold yet; calibrate it on good images.")
        return self.calibration
