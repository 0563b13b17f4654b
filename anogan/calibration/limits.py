"""What the search leaves over on good images: an image far outside of that is no photograph of such a part.

A threshold on defects says nothing of a lens cap. G redraws a black frame nearly to the pixel and cannot
redraw noise, while a head that learned to mark defects may see none in either.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

LIMITED = ("residual_score", "discrimination_score")
"""The scores that have limits, as an inspection names them."""
FEWEST = 20  # Good images; the extremes of fewer say little of the next one.
_LEAST_FACTOR = 1.5  # Lamps age and lenses get dusty: half as much again is no other part.
_TINY = 1e-12

Limits = Mapping[str, tuple[float, float]]


def good_limits(scores: Mapping[str, ArrayLike]) -> dict[str, tuple[float, float]]:
    """Between which values each score lies on images of good parts.

    Args:
        scores: Of `LIMITED`, (n,) each, of good images that did not train the networks; at least 0.

    Returns:
        (low, high) by name: the least and the greatest score, further apart by the ratio of the upper to
        the lower quartile, or by 1.5 if that is more; float32 values. Nothing of fewer than 20 images. Of
        log-normal scores 1 in 500 good ones lies outside of limits from 40, 1 in 2000 from 100.
    """
    found = {}
    for name, values in scores.items():
        logs = np.log(np.maximum(np.asarray(values, np.float64), _TINY))
        if len(logs) < FEWEST:
            return {}
        lower, upper = np.percentile(logs, [25, 75])
        margin = max(float(upper - lower), float(np.log(_LEAST_FACTOR)))
        low, high = np.exp([logs.min() - margin, logs.max() + margin]).astype(np.float32)
        found[name] = (float(low) if low > _TINY else 0.0, float(high))
    return found


def within(limits: Limits, scores: Mapping[str, float]) -> bool | None:
    """Whether all scores lie within their limits; None without limits. A score that is no number does not."""
    if not limits:
        return None
    return all(low <= scores[name] <= high for name, (low, high) in limits.items())
