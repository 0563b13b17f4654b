"""What recipes ask of anything that scores images, be it a GAN or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import Calibration
from anogan.config import Config
from anogan.inspection import Inspection
from anogan.scoring.evidence import Evidence


class Judge(Protocol):
    """Finds evidence in images and judges it by a calibration."""

    @property
    def config(self) -> Config:
        """Its settings."""
        ...

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        ...

    def with_calibration(self, calibration: Calibration) -> Judge:
        """The same with another calibration."""
        ...

    def evidence(
        self, images: Sequence[NDArray[np.generic]], variants: Sequence[str | None] | None = None
    ) -> list[Evidence]:
        """What is found in each image, uncalibrated; `variants` of the products, where it knows any."""
        ...

    def anomaly_map(self, evidence: Evidence) -> NDArray[np.float32]:
        """(h, w) in standard deviations of good parts."""
        ...

    def judge(self, evidence: Evidence, image: NDArray[np.generic]) -> Inspection:
        """Score, verdict and map of one image."""
        ...
