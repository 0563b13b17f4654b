"""The result object: what the product says of one image.

`Inspection` is the same whether PyTorch or ONNX Runtime made it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ConfigError


class Verdict(StrEnum):
    """What the line does with the part."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


def decide(score: float, threshold: float, review_threshold: float) -> Verdict:
    """The verdict for a calibrated score.

    Args:
        score: Image score; higher is more anomalous.
        threshold: Scores above it are rejected.
        review_threshold: Scores above it (and not above `threshold`) go to a person; equal to
            `threshold` when there is no review band.
    """
    if not np.isfinite(score):
        return Verdict.REVIEW  # Never a silent pass: a person looks at what could not be scored.
    if score > threshold:
        return Verdict.REJECT
    return Verdict.REVIEW if score > review_threshold else Verdict.PASS


def check_overrides(threshold: float | None, steps: int | None) -> None:
    """Refuses what a scorer cannot be told in the place of the model's own; None is the model's own.

    Raises:
        ConfigError: The threshold is not finite, or the steps are below 0 or no whole number.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise ConfigError(f"The threshold {threshold} is no number to compare with; give one such as 6.5.")
    if steps is not None and (steps < 0 or steps != int(steps)):
        raise ConfigError(f"steps is {steps}; expected a whole number from 0.")


@dataclass(frozen=True, slots=True)
class Inspection:
    """One inspected image.

    Attributes:
        score: Calibrated image score, in standard deviations of good parts; higher is more anomalous.
        threshold: Scores above it are rejected.
        verdict: pass, review or reject.
        residual_score: R(x), mean |x - G(z)| of the worst tile, in [0, 2] (Schlegl et al. 2017, eq. 2).
        discrimination_score: D(x), mean feature difference of the worst tile (eq. 4 with hidden layers).
        steps_used: Latent-search steps taken for the slowest tile.
        brightness: Mean of the image as it came, a share of the greatest value, in [0, 1].
        ms: Wall time of this image, milliseconds.
        anomaly_map: (H, W) float32 at the input's resolution, in standard deviations of good parts.
        reconstruction: (H, W, C) of the input's dtype, G(z) at the input's resolution.
        path: Where the image came from, if from a file.
        anomaly_score: (1 - lambda) R + lambda D of the worst tile, the paper's A(x).
        registered: Whether the part could be laid over the reference; None for models that do not register.
        in_distribution: Whether brightness, residual and discrimination score lie about where those of good
            images do; if not, look at camera, light and part. None for models without such limits.
    """

    score: float
    threshold: float
    verdict: Verdict
    residual_score: float
    discrimination_score: float
    anomaly_score: float
    steps_used: int
    brightness: float
    ms: float
    anomaly_map: NDArray[np.float32] = field(repr=False, compare=False)
    reconstruction: NDArray[np.generic] = field(repr=False, compare=False)
    path: Path | None = None
    registered: bool | None = None
    in_distribution: bool | None = None

    @property
    def doubt(self) -> str | None:
        """Why the score is not to be relied on, so that the part is reviewed whatever it is; else None."""
        if not np.isfinite(self.score):
            return "has no score that is a number"
        if self.registered is False:
            return "could not be laid over the reference: it may be another part, or lie far aside"
        if self.in_distribution is False:
            return "is unlike all good images: look at camera, light and part"
        return None

    def to_dict(self) -> dict[str, object]:
        """The machine-readable line for this image (no arrays)."""
        line: dict[str, object] = {
            "path": None if self.path is None else str(self.path),
            "score": self.score,
            "threshold": self.threshold,
            "verdict": str(self.verdict),
            "residual_score": self.residual_score,
            "discrimination_score": self.discrimination_score,
            "anomaly_score": self.anomaly_score,
            "steps_used": self.steps_used,
            "brightness": self.brightness,
            "ms": self.ms,
        }
        told = {"registered": self.registered, "in_distribution": self.in_distribution}
        return line | {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class ScoredFile:
    """One file's inspection and pixels, or why there is none."""

    path: Path
    inspection: Inspection | None = None
    image: NDArray[Any] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The machine-readable line for this file."""
        if self.inspection is None:
            return {"path": str(self.path), "error": self.error}
        return self.inspection.to_dict()
