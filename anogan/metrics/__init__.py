"""How good a model is on a labelled test set; a threshold is taken from calibration, never chosen here.

Higher scores are more anomalous and a defect is the positive class. A figure that the data cannot give
(one class only, no masks) is None.
"""

from anogan.metrics.evaluation import Evaluation, PixelCurves, evaluate_scores
from anogan.metrics.image import (
    accuracy,
    bootstrap_interval,
    false_accept_rate,
    false_reject_rate,
    image_aupr,
    image_auroc,
    image_f1,
)
from anogan.metrics.pixel import PixelCurve, aupro, pixel_auroc, tile_auroc, tile_labels, tile_scores

__all__ = [
    "Evaluation",
    "PixelCurve",
    "PixelCurves",
    "accuracy",
    "aupro",
    "bootstrap_interval",
    "evaluate_scores",
    "false_accept_rate",
    "false_reject_rate",
    "image_aupr",
    "image_auroc",
    "image_f1",
    "pixel_auroc",
    "tile_auroc",
    "tile_labels",
    "tile_scores",
]
