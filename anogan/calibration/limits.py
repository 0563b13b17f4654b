"""What the search leaves over on good images, and how bright they are: one far outside shows no such part.

A threshold on defects says nothing of a lens cap. G redraws a black frame nearly to the pixel and cannot
redraw noise, while a head that learned to mark defects may see none in either. Where `images.exposure` makes
all images alike in brightness, only what it was before tells a black frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

LIMITED = ("residual_score", "discrimination_score", "brightness")
"""What has limits, as an inspection names it."""
FEWEST = 20  # Good parts; the extremes of fewer say little of the next one.
_LEAST_FACTOR = 1.5  # Lamps age and lenses get dusty: half as much again is no other part.
# Tukey's fence (1977, section 2C), in quartile distances, or in logarithms of 1.5 if that is more.
_FAR_OUT = 3.0
_TINY = 1e-12

Limits = Mapping[str, tuple[float, float]]


def good_limits(
    scores: Mapping[str, ArrayLike], parts: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Between which values each score lies on images of good parts.

    Args:
        scores: Of good images that did not train the networks, (n,) each, at least 0; those that are not of
            `LIMITED` have no limits.
        parts: What part each image shows: copies and further photographs of a part say nothing of the next
            part. By default each image shows one of its own.

    Returns:
        (low, high) by name: the least and the greatest score, further apart by the ratio of the upper to
        the lower quartile of the parts (each by its median), or by 1.5 if that is more; float32 values.
        Nothing of fewer than 20 parts, or where a score is not finite. What lacks of white, 1 less the
        brightness, has its least value as well.

        Of log-normal scores of good parts 1 in 38 lies outside by one of three scores with limits from 20
        images, 1 in 150 with 40, 540 with 80, 7000 with 400; of scores that vary less than the factor of 1.5
        next to none. What lies far out itself sets no limit.
    """
    found = {}
    for name in (name for name in LIMITED if name in scores):
        values = np.asarray(scores[name], np.float64)
        pair = _range(values, parts)
        if pair is None:
            return {}
        if name == "brightness":  # What is half as bright again may be beyond white; what lacks of it tells.
            rest = _range(1 - values, parts)
            assert rest is not None
            pair = (pair[0], min(pair[1], 1 - rest[0]))
        low, high = np.array(pair, np.float32).tolist()
        found[name] = (low if low > _TINY else 0.0, high)
    return found


def _range(values: NDArray[np.float64], parts: Sequence[str] | None) -> tuple[float, float] | None:
    logs = np.log(np.maximum(values, _TINY))
    of_parts = _medians(logs, parts)
    if len(of_parts) < FEWEST or not np.isfinite(logs).all():
        return None
    lower, upper = np.percentile(of_parts, [25, 75])
    margin = max(float(upper - lower), float(np.log(_LEAST_FACTOR)))
    # One black frame among the good ones must not make all black frames good ones.
    logs = logs[(logs >= lower - _FAR_OUT * margin) & (logs <= upper + _FAR_OUT * margin)]
    return float(np.exp(logs.min() - margin)), float(np.exp(logs.max() + margin))


def _medians(values: NDArray[np.float64], parts: Sequence[str] | None) -> NDArray[np.float64]:
    """Of the values of each part; the values themselves where each image shows one of its own."""
    if parts is None:
        return values
    of_part: dict[str, list[float]] = {}
    for part, value in zip(parts, values.tolist(), strict=True):
        of_part.setdefault(part, []).append(value)
    return np.array([np.median(own) for own in of_part.values()])


def around(*each: Limits) -> dict[str, tuple[float, float]]:
    """The limits that hold all of these; none where one of them has none."""
    names = each[0] if all(each) else {}
    return {name: (min(own[name][0] for own in each), max(own[name][1] for own in each)) for name in names}


def within(limits: Limits, scores: Mapping[str, float]) -> bool | None:
    """Whether all scores lie within their limits; None without limits. A score that is no number does not."""
    if not limits:
        return None
    return all(low <= scores[name] <= high for name, (low, high) in limits.items())
