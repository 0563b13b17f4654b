"""From evidence maps to a calibrated score, and from good scores to a threshold with a promise.

Every station runs this room, so it needs NumPy and OpenCV and nothing that trains.
"""

from anogan.calibration.evidence import (
    PARTS,
    MapMoments,
    MapStatistics,
    combine,
    fit_map_statistics,
    gaussian_kernel,
    part_kind,
    part_name,
    pool,
    refuse_all_border,
    smooth,
    spread,
)
from anogan.calibration.limits import FEWEST, LIMITED, Limits, around, good_limits, within
from anogan.calibration.threshold import (
    CROSS_FITTED,
    HELD_OUT,
    ON_GOOD,
    Calibration,
    ThresholdEstimate,
    calibrate,
    conformal_threshold,
    images_needed,
    outliers,
    recalibrated,
)

__all__ = [
    "CROSS_FITTED",
    "FEWEST",
    "HELD_OUT",
    "LIMITED",
    "ON_GOOD",
    "PARTS",
    "Calibration",
    "Limits",
    "MapMoments",
    "MapStatistics",
    "ThresholdEstimate",
    "around",
    "calibrate",
    "combine",
    "conformal_threshold",
    "fit_map_statistics",
    "gaussian_kernel",
    "good_limits",
    "images_needed",
    "outliers",
    "part_kind",
    "part_name",
    "pool",
    "recalibrated",
    "refuse_all_border",
    "smooth",
    "spread",
    "within",
]
