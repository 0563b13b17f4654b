"""The threshold and what it promises, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anogan.report import _words

if TYPE_CHECKING:
    from anogan.calibration import Calibration


def promise_sentences(calibration: Calibration) -> list[str]:
    """One sentence per fact, the shortfall warning not among them."""
    estimate = calibration.estimate
    return _words.promise(
        {
            "threshold": estimate.threshold,
            "review_threshold": calibration.review_threshold,
            "false_reject": estimate.false_reject,
            "interval": estimate.interval,
            "n_good": estimate.n_good,
            "n_left_out": estimate.n_left_out,
        }
    )
