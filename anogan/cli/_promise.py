"""The threshold and what it promises, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anogan.report import _words

if TYPE_CHECKING:
    from anogan.calibration import Calibration


def promise_sentences(calibration: Calibration) -> list[str]:
    """One sentence per fact, the shortfall warning not among them."""
    return _words.promise(calibration.estimate.summary(calibration.threshold, calibration.review_threshold))
